package local

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/state"
)

// numbered returns a state whose chain hashes tell their numbers, with deltas of 10 bytes.
func numbered(from, to uint64, bases ...Base) State {
	s := State{Seq: to, Chain: chainOf(to), Bases: bases}
	for n := from; n <= to; n++ {
		s.Deltas = append(s.Deltas, Ref{Seq: n, Chain: chainOf(n), Object: fmt.Sprint("delta-", n), Bytes: 10})
	}
	return s
}

func baseOf(seq, horizon uint64, size int64) Base {
	return Base{
		Seq: seq, Chain: chainOf(seq), Horizon: horizon, HorizonChain: chainOf(horizon), Made: time.Unix(1e9, 0).UTC(),
		Slices: []Slice{
			{From: keyFirst(), To: []byte{1, 2}, Seq: seq, Object: fmt.Sprint("base-", seq), Bytes: size},
			{From: []byte{1, 2}, To: keyEnd(), Seq: horizon},
		},
	}
}

func TestState_checkFindsWhatIsMissing(t *testing.T) {
	good := func() State { return numbered(5, 10, baseOf(6, 8, 1), baseOf(4, 5, 1)) }
	if err := good().Check(); err != nil {
		t.Fatalf("got %v, want nil", err)
	}
	for name, damage := range map[string]func(*State){
		"a delta in the middle":        func(s *State) { s.Deltas = append(s.Deltas[:2:2], s.Deltas[3:]...) },
		"the last delta":               func(s *State) { s.Deltas = s.Deltas[:5] },
		"the first delta":              func(s *State) { s.Deltas = s.Deltas[1:] },
		"another history at the end":   func(s *State) { s.Chain = Hash{9} },
		"a base ahead":                 func(s *State) { s.Bases[0].Horizon = 11 },
		"a base of another history":    func(s *State) { s.Bases[0].Chain = Hash{9} },
		"a horizon of another history": func(s *State) { s.Bases[0].HorizonChain = Hash{9} },
		"a base without its end":       func(s *State) { s.Bases[0].Slices = s.Bases[0].Slices[:1] },
		"a base without its beginning": func(s *State) { s.Bases[0].Slices = s.Bases[0].Slices[1:] },
		"a base with a gap":            func(s *State) { s.Bases[0].Slices[1].From = []byte{1, 3} },
		"a slice older than its base":  func(s *State) { s.Bases[0].Slices[0].Seq = 5 },
		"all bases":                    func(s *State) { s.Bases = nil },
	} {
		s := good()
		damage(&s)
		if err := s.Check(); err == nil || fault.KindOf(err) != fault.Corrupt {
			t.Errorf("without %s: got %v, want fault.Corrupt", name, err)
		}
	}
}

// Two bases stay, and the deltas that the older one needs; the state before is not touched.
func TestState_withBaseForgetsWhatNothingNeeds(t *testing.T) {
	s := numbered(1, 10)
	one, err := s.WithBase(baseOf(3, 4, 1))
	if err != nil || len(one.Deltas) != 10 {
		t.Fatalf("got %d deltas, %v, want 10: with one base the way from nothing stays", len(one.Deltas), err)
	}
	two, err := one.WithBase(baseOf(7, 9, 1))
	if err != nil {
		t.Fatal(err)
	}
	three, err := two.WithBase(baseOf(10, 10, 1))
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		s     State
		first uint64
		bases int
	}{{s, 1, 0}, {one, 1, 1}, {two, 4, 2}, {three, 8, 2}} {
		if err := c.s.Check(); err != nil {
			t.Errorf("state %d: %v", i, err)
		}
		if c.s.Deltas[0].Seq != c.first || len(c.s.Bases) != c.bases {
			t.Errorf("state %d: got deltas from %d and %d bases, want from %d and %d", i, c.s.Deltas[0].Seq, len(c.s.Bases), c.first, c.bases)
		}
	}
	var names []string
	three.Objects(func(name string) { names = append(names, name) })
	if diff := cmp.Diff([]string{"base-10", "base-7", "delta-8", "delta-9", "delta-10"}, names); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
	if _, err = s.WithBase(baseOf(10, 11, 1)); err == nil {
		t.Error("got nil for a base ahead, want an error")
	}
}

func TestDue_eachLimit(t *testing.T) {
	made := time.Unix(1e9, 0)
	big := func(s State, size int64) State {
		s.Deltas[len(s.Deltas)-1].Bytes = size
		return s
	}
	for _, c := range []struct {
		name string
		s    State
		age  time.Duration
		want bool
	}{
		{"nothing", State{}, 0, false},
		{"few deltas", numbered(1, 10), 0, false},
		{"512 deltas", numbered(1, 512), 0, false},
		{"513 deltas", numbered(1, 513), 0, true},
		{"64 MiB", big(numbered(1, 2), 64<<20-10), 0, false},
		{"more than 64 MiB", big(numbered(1, 2), 64<<20-9), 0, true},
		{"half of the base", big(numbered(1, 10, baseOf(5, 5, 1<<30)), 512<<20-40), 0, false},
		{"more than half of the base", big(numbered(1, 10, baseOf(5, 5, 1<<30)), 512<<20-39), 0, true},
		{"a large delta before the base", numbered(9, 10, baseOf(9, 9, 1)), 0, false},
		{"an hour", numbered(1, 10, baseOf(5, 5, 1)), time.Hour, false},
		{"more than an hour", numbered(1, 10, baseOf(5, 5, 1)), time.Hour + 1, true},
		{"more than an hour without a delta", numbered(1, 10, baseOf(10, 10, 1)), 2 * time.Hour, false},
	} {
		if got := Due(c.s, made.Add(c.age), Limits{}); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

func TestState_jsonRoundTrip(t *testing.T) {
	s := numbered(5, 7, baseOf(6, 7, 3), baseOf(4, 4, 3))
	s.Deltas[0].Checksum = Hash{1, 2, 3}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), `"checksum":"010203`) || strings.Count(string(text), "checksum") != 1 {
		t.Errorf("got %s, want one checksum, in hexadecimal", text)
	}
	var back State
	if err = json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s, back); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var h Hash
	for _, bad := range []string{"", "00", strings.Repeat("0", 65), strings.Repeat("x", 64)} {
		if err = h.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("got nil for the hash %q, want an error", bad)
		}
	}
}

// The database's own entry has a fixed form, byte for byte: databases of earlier versions are read.
func TestMeta_golden(t *testing.T) {
	m := meta{at: Position{7, Hash{1}}, horizon: Position{9, Hash{2}}, base: Hash{3}, dirty: []byte{5}}
	zeros := strings.Repeat("00", 31)
	want := "01" + "0000000000000007" + "01" + zeros + "0000000000000009" + "02" + zeros + "03" + zeros + "05"
	if got := hex.EncodeToString(m.encode()); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func FuzzDecodeMeta(f *testing.F) {
	m := meta{at: Position{7, Hash{1}}, horizon: Position{9, Hash{2}}, base: Hash{3}, dirty: []byte{5}}
	whole := m.encode()
	for _, seed := range [][]byte{nil, {1}, {2}, whole, whole[:len(whole)-2], whole[:metaFixed]} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decodeMeta(data)
		if err != nil {
			return
		}
		if back := m.encode(); !bytes.Equal(back, data) {
			t.Errorf("got %x, want %x", back, data)
		}
	})
}

func TestApply_refusesWhatDoesNotFit(t *testing.T) {
	db := openFresh(t, Options{Dir: "state", FS: newMem(), DiskReserve: -1})
	c := chained{t, db}
	for range 2 {
		if err := c.next(t.Context(), spread(1, 2)); err != nil {
			t.Fatal(err)
		}
	}
	key := func(k ...byte) state.Op { return state.Op{Key: k} }
	fits := Step{Seq: 3, Chain: chainOf(3), Prev: chainOf(2)}
	for name, call := range map[string]struct {
		step  Step
		delta state.Delta
	}{
		"a gap":                {step: Step{Seq: 4, Chain: chainOf(4), Prev: chainOf(3)}},
		"an old one":           {step: Step{Seq: 1, Chain: chainOf(1)}},
		"another history":      {step: Step{Seq: 3, Chain: chainOf(3), Prev: Hash{9}}},
		"another second one":   {step: Step{Seq: 2, Chain: Hash{9}, Prev: chainOf(1)}},
		"the own key":          {fits, state.Delta{Ops: []state.Op{key(0)}}},
		"a key after the last": {fits, state.Delta{Ops: []state.Op{{Key: keyEnd()}}}},
		"keys out of order":    {fits, state.Delta{Ops: []state.Op{key(0, 2), key(0, 1)}}},
		"a key twice":          {fits, state.Delta{Ops: []state.Op{key(0, 2), key(0, 2)}}},
		"a drop of the own key": {fits, state.Delta{
			Drops: []state.Range{{From: nil, To: []byte{1, 1}}},
		}},
		"a drop without end": {fits, state.Delta{Drops: []state.Range{{From: []byte{1, 1}}}}},
		"drops out of order": {fits, state.Delta{
			Drops: []state.Range{{From: []byte{1, 1}, To: []byte{1, 2}}, {From: []byte{0, 1}, To: []byte{0, 2}}},
		}},
	} {
		if err := db.Apply(t.Context(), call.step, call.delta); err == nil || fault.KindOf(err) != fault.Corrupt {
			t.Errorf("%s: got %v, want fault.Corrupt", name, err)
		}
	}
	if err := db.Apply(t.Context(), Step{Seq: 2, Chain: chainOf(2), Prev: chainOf(1)}, spread(1, 2)); err != nil {
		t.Errorf("the last one again: got %v, want nil", err)
	}
	if at, _ := db.At(); at.Seq != 2 {
		t.Errorf("got %d, want 2", at.Seq)
	}
	mustClose(t, db)
}
