package postgres

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// What a run may do by the ledger's row alone.
func TestSink_judge(t *testing.T) {
	s := &Sink{settings: &Settings{}, nonce: "mine"}
	s.env.Identity, s.env.Lease = sink.Identity{StoreID: "store"}, 5
	for _, c := range []struct {
		name  string
		e     *entry
		adopt bool
		want  fault.Kind
		ok    bool
	}{
		{name: "no row", ok: true},
		{name: "an older run", e: &entry{store: "store", writer: 4, nonce: "theirs"}, ok: true},
		{name: "this run", e: &entry{store: "store", writer: 5, nonce: "mine"}, ok: true},
		{name: "a copy of the store", e: &entry{store: "store", writer: 5, nonce: "theirs"}, want: fault.Fenced},
		{name: "a newer run", e: &entry{store: "store", writer: 6}, want: fault.Fenced},
		{name: "another store", e: &entry{store: "other", writer: 4}, want: fault.Lost},
		{name: "another store, adopted", e: &entry{store: "other", writer: 4}, adopt: true, ok: true},
		{name: "another store with a lease that is not below, adopted", e: &entry{store: "other", writer: 5}, adopt: true, want: fault.Lost},
	} {
		s.env.Adopt = c.adopt
		if err := s.judge(c.e); (err == nil) != c.ok || err != nil && kindOf(err) != c.want {
			t.Errorf("%s: got %v", c.name, err)
		}
	}
}

// The ledger must hold the unit before those that are pending, or one of them; anything else says that one of the two was put back.
func TestSink_start(t *testing.T) {
	unit := func(lease, checkpoint, number int) unitName {
		return unitName{record.Lease(lease), record.Checkpoint(checkpoint), record.Unit(number)}
	}
	for _, c := range []struct {
		name    string
		base    unitName
		pending []unitName
		e       *entry
		want    error
	}{
		{name: "nothing was ever committed"},
		{name: "the first is pending", pending: []unitName{unit(1, 1, 0)}},
		{name: "the first took effect", pending: []unitName{unit(1, 1, 0)}, e: &entry{last: unit(1, 1, 0)}},
		{name: "the known one", base: unit(1, 1, 0), e: &entry{last: unit(1, 1, 0)}},
		{name: "a replacement of the known one", base: unit(1, 1, 0), e: &entry{last: unit(1, 1, 1)}},
		{name: "the second of three", base: unit(1, 1, 0), pending: []unitName{unit(1, 2, 0), unit(2, 3, 0)}, e: &entry{last: unit(2, 3, 0)}},
		{name: "committed early by an older run", base: unit(1, 1, 0), e: &entry{last: unit(1, 2, 0), early: true}},
		{name: "no row", base: unit(1, 1, 0), want: errBack},
		{name: "an older unit", base: unit(1, 2, 0), e: &entry{last: unit(1, 1, 0)}, want: errBack},
		{name: "a newer unit", base: unit(1, 1, 0), pending: []unitName{unit(1, 2, 0)}, e: &entry{last: unit(1, 3, 0)}, want: errAhead},
		{name: "committed early under this lease", base: unit(1, 1, 0), e: &entry{last: unit(9, 2, 0), early: true}, want: errAhead},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &Sink{settings: &Settings{Schema: "public"}, base: c.base, pending: c.pending}
			s.env.Identity, s.env.Lease = sink.Identity{StoreID: "store"}, 9
			if c.e != nil {
				c.e.store = "store"
			}
			last, err := s.start(c.e)
			if !errors.Is(err, c.want) || err != nil && fault.KindOf(err) != fault.Lost {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if err == nil && c.e != nil && last != c.e.last {
				t.Errorf("it goes on from %s, want %s", last, c.e.last)
			}
		})
	}
	s := &Sink{settings: &Settings{}, base: unit(1, 1, 0)}
	s.env.Identity = sink.Identity{StoreID: "store", Pipeline: "it's", Sink: "sink"}
	if _, err := s.start(nil); !strings.Contains(fault.RemedyOf(err), `VALUES (E'it\'s', 0, E'sink', E'store', 0, '', 1, 1, 0, false)`) {
		t.Errorf("got the remedy %s", fault.RemedyOf(err))
	}
}

// A row of this run that knows less than it did means that the server went back; Commit must stop, not write again.
func TestCommitter_remembers(t *testing.T) {
	c := &committer{known: unitName{1, 2, 0}}
	if err := c.remembers(&entry{last: unitName{1, 2, 1}}); err != nil {
		t.Error(err)
	}
	for _, e := range []*entry{nil, {last: unitName{1, 1, 9}}} {
		if err := c.remembers(e); !errors.Is(err, errBack) || fault.KindOf(err) != fault.Corrupt {
			t.Errorf("got %v", err)
		}
	}
}

func TestSink_restoreRefusesAnotherLedger(t *testing.T) {
	s := &Sink{settings: &Settings{Schema: "a", Table: "t"}}
	s.mu.table = &table{}
	first, err := s.Assemble(sink.Cut{Lease: 1, Checkpoint: 1}, []sink.Part{{Rows: 2, Segments: []sink.Segment{{Rows: 2}}}})
	if err != nil || len(first.Committables) != 1 {
		t.Fatal(first, err)
	}
	second, err := s.Assemble(sink.Cut{Lease: 1, Checkpoint: 2}, []sink.Part{{Rows: 1, Segments: []sink.Segment{{Rows: 1}}}})
	if err != nil {
		t.Fatal(err)
	}
	s = &Sink{settings: &Settings{Schema: "a", Table: "other"}}
	if err := s.Restore(context.Background(), second.State, second.Committables); err != nil {
		t.Fatal(err)
	}
	if s.last != (unitName{1, 2, 0}) || s.base != (unitName{1, 1, 0}) {
		t.Errorf("it goes on from %s and %s", s.last, s.base)
	}
	s = &Sink{settings: &Settings{Schema: "b", Table: "t"}}
	if err := s.Restore(context.Background(), second.State, nil); fault.KindOf(err) != fault.Misconfigured || fault.RemedyOf(err) != `set ledger_schema = "a"` {
		t.Errorf("got %v", err)
	}
	for _, state := range []string{`{"version":2}`, `{`} {
		if err := s.Restore(context.Background(), []byte(state), nil); err == nil {
			t.Errorf("the state %s is taken", state)
		}
	}
}

func TestClassify_codes(t *testing.T) {
	pg := func(code, severity string) error { return &pgconn.PgError{Code: code, SeverityUnlocalized: severity} }
	for _, c := range []struct {
		err                      error
		kind                     fault.Kind
		answered, refuses, again bool
	}{
		{pg(codeCheckViolation, "ERROR"), fault.Transient, true, true, false},
		{pg("22P02", "ERROR"), fault.Transient, true, true, false},
		{pg(codeRaise, "ERROR"), fault.Transient, true, true, false},
		{pg(codeDeadlock, "ERROR"), fault.Transient, true, false, true},
		{pg(codeSerialization, "ERROR"), fault.Transient, true, false, true},
		{pg("57P01", "FATAL"), fault.Transient, false, false, false},
		{pg(codeCompletion, "ERROR"), fault.Transient, false, false, false},
		{pg("53100", "ERROR"), fault.Transient, true, false, false},
		{pg(codePrivilege, "ERROR"), fault.Misconfigured, true, false, false},
		{pg(codeUndefinedTable, "ERROR"), fault.Misconfigured, true, false, false},
		{pg("28P01", "FATAL"), fault.Misconfigured, false, false, false},
		{context.DeadlineExceeded, fault.Transient, false, false, false},
		{errors.New("connection reset"), fault.Transient, false, false, false},
	} {
		code := ""
		if e := serverError(c.err); e != nil {
			code = e.Code
		}
		if kindOf(c.err) != c.kind || answered(c.err) != c.answered || mayRefuseRow(code) != c.refuses || again(c.err) != c.again {
			t.Errorf("%v: got %s, answered %t, refuses %t, again %t", c.err, kindOf(c.err), answered(c.err), mayRefuseRow(code), again(c.err))
		}
	}
}

// The parts of a span are all of it, once, in order, whatever row a message blames.
func TestReject_partsCoverTheSpan(t *testing.T) {
	for size := int64(2); size < 9; size++ {
		s := span{10, 10 + size}
		for row := int64(-1); row < size; row++ {
			blamed := row
			if row >= 0 {
				blamed += s.from
			}
			list := parts(s, blamed)
			slices.Reverse(list)
			at := s.from
			for _, p := range list {
				if p.from != at || p.to <= p.from || p == s {
					t.Fatalf("%v around %d: got %v", s, blamed, list)
				}
				at = p.to
			}
			if at != s.to {
				t.Fatalf("%v around %d: got %v", s, blamed, list)
			}
		}
	}
}

func TestReject_hint(t *testing.T) {
	s := span{100, 110}
	for where, want := range map[string]int64{
		"COPY t, line 1": 100,
		"COPY ingestd_rows, line 10, column c1: \"x\"": 109,
		"COPY t, line 11": -1,
		"COPY t, line 0":  -1,
		"PL/pgSQL function f() line 3 at RAISE\nCOPY t, line 2": -1,
		"": -1,
	} {
		if got := hint(where, s); got != want {
			t.Errorf("%q: got %d, want %d", where, got, want)
		}
	}
}

// An asker finds the sessions of its own pipeline, lane and sink only, and reads the lease from their name.
func TestConn_signature(t *testing.T) {
	id := sink.Identity{Pipeline: strings.Repeat("p", 200), Sink: "s"}
	prefix, name := signature(id, 1<<63)
	if len(name) > 63 || !strings.HasPrefix(name, prefix) || strings.TrimPrefix(name, prefix) != "9223372036854775808" {
		t.Errorf("got %q, %q", prefix, name)
	}
	other := id
	other.Lane = 1
	if p, _ := signature(other, 1); p == prefix {
		t.Error("two lanes have one name")
	}
}
