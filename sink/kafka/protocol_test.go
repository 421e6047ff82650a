package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/kafkacalls"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// store is a staging folder.
type store struct {
	mu   sync.Mutex
	data map[string][]byte
}

func (s *store) Put(_ context.Context, data []byte, rows int64) (sink.Segment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.data == nil {
		s.data = map[string][]byte{}
	}
	name := fmt.Sprint("segment ", len(s.data))
	s.data[name] = append([]byte{}, data...)
	return sink.Segment{Name: name, Rows: rows, Bytes: int64(len(data))}, nil
}

func (s *store) Get(_ context.Context, g sink.Segment) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.data[g.Name]
	if !ok {
		return nil, fault.E("store.Get", fault.Lost, fmt.Errorf("no %s", g.Name))
	}
	return append([]byte{}, data...), nil
}

// life is one run of a sink.
type life struct {
	t      *testing.T
	sink   *Sink
	commit *committer
	number record.Checkpoint
	writer sink.Writer
}

func liveSchema(t *testing.T) *record.Schema {
	t.Helper()
	return schemaOf(t, "id int64")
}

func startLife(t *testing.T, s Settings) *life {
	t.Helper()
	p, err := New(s, Encoders{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	opened, err := p.Open(t.Context(), sink.Env{Identity: sink.Identity{StoreID: "store", Pipeline: "p", Sink: "sink"}, Lease: 1, Segments: &store{}, Tasks: 1})
	if err == nil {
		err = opened.Restore(t.Context(), nil, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { opened.Close() })
	l := &life{t: t, sink: opened.(*Sink)}
	l.commit = l.sink.Committer().(*committer)
	return l
}

func (l *life) unit(rows int) sink.Committable {
	l.t.Helper()
	schema := liveSchema(l.t)
	if l.writer == nil {
		var err error
		if l.writer, err = l.sink.Writer(l.t.Context(), 0, schema); err != nil {
			l.t.Fatal(err)
		}
	}
	b := record.NewBatch(schema)
	for i := range rows {
		b.Cols[0].AppendInt(int64(l.number)*100 + int64(i))
		b.AppendMeta(record.RowMeta{Timestamp: -1})
	}
	if refused, err := l.writer.Write(l.t.Context(), b); err != nil || len(refused) > 0 {
		l.t.Fatal(refused, err)
	}
	l.number++
	cut := sink.Cut{Lease: l.sink.env.Lease, Checkpoint: l.number}
	part, err := l.writer.Prepare(l.t.Context(), cut)
	if err != nil {
		l.t.Fatal(err)
	}
	a, err := l.sink.Assemble(cut, []sink.Part{part})
	if err != nil || len(a.Committables) != 1 {
		l.t.Fatal(len(a.Committables), err)
	}
	return a.Committables[0]
}

// lateEnd lets the first EndTxn of a unit's commit take effect only when the next attempt takes the producer over, which is the
// moment that decides. It returns how often the unit's rows are there in the end.
func lateEnd(t *testing.T, change func(l *life)) int {
	t.Helper()
	lab := fakeLab(t, kfake.NumBrokers(1))
	target := lab.target(t).(*suiteTarget)
	var held func() error
	armed := false
	s := target.settings()
	s.Dial = kafkacalls.Dial(func(name string, send func() error) error {
		switch {
		case name == "EndTxn" && armed:
			armed, held = false, send
			return kafkacalls.ErrCut
		case name == "InitProducerID" && held != nil:
			late := held
			held = nil
			if err := late(); err != nil {
				t.Error(err)
			}
		}
		return send()
	})
	l := startLife(t, s)
	change(l)
	if err := l.commit.Fence(t.Context()); err != nil {
		t.Fatal(err)
	}
	u := l.unit(5)
	armed = true
	if outcome, _, err := l.commit.Commit(t.Context(), u); outcome != sink.Unknown || fault.KindOf(err) != fault.Unknown {
		t.Fatalf("a commit whose EndTxn got no answer says %s: %v", outcome, err)
	}
	for range 5 {
		if outcome, _, _ := l.commit.Commit(t.Context(), u); outcome == sink.Committed {
			break
		}
	}
	rows, err := target.Rows(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return len(rows) / 5
}

// ledgerFirst reads the ledger before the producer is taken over.
func ledgerFirst(l *life) {
	l.commit.takeOver = func(ctx context.Context) error {
		r, err := l.commit.reader()
		if err != nil {
			return err
		}
		r.stable = true
		if err := r.read(ctx, l.sink.ledger.Partition, &l.commit.view); err != nil {
			return err
		}
		_, err = l.commit.session.begin(ctx)
		return err
	}
}

// The ledger is asked after InitProducerId. Asked before it, it says no about an EndTxn that still comes, and rows are doubled: the
// control.
func TestCommitter_readsTheLedgerAfterTheTakeOver(t *testing.T) {
	if n := lateEnd(t, func(*life) {}); n != 1 {
		t.Errorf("the rows are there %d times", n)
	}
	if n := lateEnd(t, ledgerFirst); n != 2 {
		t.Errorf("with the ledger read first the rows are there %d times: the test proves nothing", n)
	}
}

// What the ledger holds must fit the manifest, or nothing is done.
func TestSink_ledgerMustFitTheManifest(t *testing.T) {
	one, two, three := unitName{3, 10, 0}, unitName{3, 11, 0}, unitName{4, 12, 0}
	fence := func(last unitName) *entry { return &entry{Store: "store", Writer: 4, Last: last} }
	early := fence(three)
	early.Early = true
	for name, c := range map[string]struct {
		base    unitName
		pending []unitName
		entry   *entry
		want    unitName
		lost    bool
	}{
		"nothing was ever committed":             {unitName{}, []unitName{one}, nil, unitName{}, false},
		"an older run has only fenced":           {unitName{}, nil, fence(unitName{}), unitName{}, false},
		"the unit before":                        {one, []unitName{two, three}, fence(one), one, false},
		"one that is pending":                    {one, []unitName{two, three}, fence(two), two, false},
		"the last one that is pending":           {one, []unitName{two, three}, fence(three), three, false},
		"committed before it was published":      {one, nil, early, three, false},
		"the record is gone":                     {one, nil, nil, unitName{}, true},
		"the record is older":                    {two, []unitName{three}, fence(one), unitName{}, true},
		"the record is newer":                    {one, []unitName{two}, fence(three), unitName{}, true},
		"the record is newer, nothing's pending": {one, nil, fence(two), unitName{}, true},
		"the record never had a unit":            {one, nil, fence(unitName{}), unitName{}, true},
	} {
		s := &Sink{settings: &Settings{Ledger: &Ledger{}}, base: c.base, pending: c.pending}
		s.ledger.ID = "the ledger"
		s.env.Lease, s.env.Identity.StoreID = 5, "store"
		got, err := s.start(c.entry)
		if c.lost {
			if kindOf(err, fault.Unknown) != fault.Lost {
				t.Errorf("%s: got %v, %v, want lost", name, got, err)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%s: got %v, %v, want %v", name, got, err, c.want)
		}
	}
}

// A person may say that an empty ledger is the right one.
func TestSink_acceptedLedgerBeginsAtTheManifest(t *testing.T) {
	s := &Sink{settings: &Settings{Ledger: &Ledger{AcceptID: "new"}}, base: unitName{3, 10, 0}}
	s.ledger.ID = "new"
	if got, err := s.start(nil); err != nil || got != s.base {
		t.Errorf("got %v, %v, want %v", got, err, s.base)
	}
}

// A checkpoint above the limit is several units, in order, and each fits the one before.
func TestSink_largeCheckpointsAreSeveralUnits(t *testing.T) {
	lab := fakeLab(t)
	target := lab.target(t).(*suiteTarget)
	s := target.settings()
	s.UnitBytes = 2 << 10
	l := startLife(t, s)
	if err := l.commit.Fence(t.Context()); err != nil {
		t.Fatal(err)
	}
	schema := liveSchema(t)
	w, err := l.sink.Writer(t.Context(), 0, schema)
	if err != nil {
		t.Fatal(err)
	}
	b := record.NewBatch(schema)
	for i := range 2000 {
		b.Cols[0].AppendInt(int64(i))
		b.AppendMeta(record.RowMeta{Timestamp: -1})
	}
	if _, err := w.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	cut := sink.Cut{Lease: 1, Checkpoint: 1}
	part, err := w.Prepare(t.Context(), cut)
	if err != nil {
		t.Fatal(err)
	}
	a, err := l.sink.Assemble(cut, []sink.Part{part})
	if err != nil || len(a.Committables) < 3 {
		t.Fatalf("%d units, %v", len(a.Committables), err)
	}
	for i, c := range a.Committables {
		if c.Unit != record.Unit(i)*sink.UnitStep {
			t.Errorf("unit %d has the number %d", i, c.Unit)
		}
		if outcome, _, err := l.commit.Commit(t.Context(), c); outcome != sink.Committed {
			t.Fatalf("unit %d: %s, %v", i, outcome, err)
		}
	}
	rows, err := target.Rows(t.Context())
	if err != nil || len(rows) != 2000 {
		t.Errorf("%d rows, %v", len(rows), err)
	}
	// The order within a partition is that of writing.
	last := map[int]int64{}
	for p := range 3 {
		records, err := readStable(t.Context(), lab.client, target.topic, int32(p))
		if err != nil {
			t.Fatal(err)
		}
		last[p] = -1
		for _, r := range records {
			var id int64
			if _, err := fmt.Sscanf(string(r.Value), `{"id":%d}`, &id); err != nil || id <= last[p] {
				t.Fatalf("partition %d: %s after %d, %v", p, r.Value, last[p], err)
			}
			last[p] = id
		}
	}
}

// A record above the topic's limit is refused when it is written, unless compression makes it fit.
func TestWriter_recordsAboveTheTopicsLimitAreRefused(t *testing.T) {
	s := Settings{Brokers: []string{"localhost:1"}, Topic: "out", Value: "text"}
	s.defaults()
	tg := target{partitions: 1, messageMax: 2000}
	schema := schemaOf(t, "text string")
	sk := &Sink{settings: &s, target: tg}
	sk.env.Segments = &store{}
	w, err := newWriter(sk, 0, schema)
	if err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, 3000)
	for i := range noise {
		noise[i] = byte(i*i>>3) ^ byte(i*7919>>5)
	}
	b := record.NewBatch(schema)
	for _, v := range []string{"small", string(noise), strings.Repeat("even ", 1000), string(noise[:2000-batchHeader-20]), "small"} {
		b.Cols[0].AppendString(v)
		b.AppendMeta(record.RowMeta{Timestamp: 5})
	}
	refused, err := w.Write(t.Context(), b)
	if err != nil || len(refused) != 1 || refused[0].Row != 1 || !strings.Contains(refused[0].Reason, "max.message.bytes is 2000") {
		t.Fatalf("refused %v, %v", refused, err)
	}
	part, err := w.Prepare(t.Context(), sink.Cut{})
	if err != nil || part.Rows != 4 {
		t.Fatalf("%d rows, %v", part.Rows, err)
	}
	for l := range load(t.Context(), sk.env.Segments, part.Segments) {
		if l.err != nil {
			t.Fatal(l.err)
		}
		for _, p := range l.pieces {
			if len(p.batch) > 2000 {
				t.Errorf("a batch of %d bytes", len(p.batch))
			}
		}
	}
}
