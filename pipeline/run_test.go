package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingestd/ingestd/checkpoint/storetest"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/invariant"
	"github.com/ingestd/ingestd/pipeline/machine"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/source"
)

// I2: for every checkpoint of a run, the positions in its manifest, the rows it prepared for the sink and the dead letters are
// about the same records: from where the checkpoint before stood to where this one does, each once, wherever it was refused.
func TestRun_effectsOfARecordBelongToOneCheckpoint(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		w.source.refuse = func(value string) bool { return value == "long" }
		w.def.Checkpoint.Keep = 1000
		p := w.boot()
		kinds := []string{"fine", "fine", "malformed", "invalid", "long", "fine"}
		n := 0
		for range 40 {
			for _, split := range []string{"a", "b"} {
				for range 1 + n%5 {
					w.source.add(split, kinds[n%len(kinds)])
					n++
				}
			}
			time.Sleep(370 * time.Millisecond)
		}
		wantEnd(t, p.finish(), machine.Done, "every record is committed")
		entries, err := History(context.Background(), w.def)
		if err != nil {
			t.Fatal(err)
		}
		before := map[string]record.Offset{}
		checkpoints := 0
		for _, e := range entries {
			m := e.Entry.Manifest
			if m == nil {
				continue
			}
			var want, got []string
			for _, sh := range m.Shards {
				sp := sh.Splits[0]
				for o := before[sp.Split]; o < sp.Offset; o++ {
					want = append(want, fmt.Sprint(sp.Split, o))
				}
				before[sp.Split] = sp.Offset
			}
			for _, r := range append(slices.Clone(w.rows.by[m.Checkpoint]), w.letters.by[m.Checkpoint]...) {
				got = append(got, fmt.Sprint(r.Split, r.Offset))
			}
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("checkpoint %d: effects of %q, positions past %q", m.Checkpoint, got, want)
			}
			if len(want) > 0 {
				checkpoints++
			}
		}
		if checkpoints < 10 || before["a"]+before["b"] != record.Offset(n) {
			t.Errorf("%d checkpoints with records and positions %v, want at least 10 and all %d records", checkpoints, before, n)
		}
	})
}

// I10: the records of each split come to the sink in their order, however they were fetched and by which task.
func TestRun_recordsOfASplitStayInOrder(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		var mu sync.Mutex
		last := map[string]record.Offset{}
		w.rows.write = func(_ context.Context, rows []row) error {
			mu.Lock()
			defer mu.Unlock()
			for _, r := range rows {
				if before, ok := last[r.Split]; ok && r.Offset != before+1 || !ok && r.Offset != 0 {
					t.Errorf("split %s: offset %d after %d", r.Split, r.Offset, before)
				}
				last[r.Split] = r.Offset
			}
			return nil
		}
		p := w.boot()
		for n := range 200 {
			w.source.add(fmt.Sprint("s", n%7), fmt.Sprint(n))
			if n%20 == 0 {
				time.Sleep(3 * time.Second)
			}
		}
		time.Sleep(15 * time.Second) // new splits are found
		wantEnd(t, p.finish(), machine.Done, "")
		if len(last) != 7 {
			t.Errorf("rows of %d splits, want 7", len(last))
		}
	})
}

// I10: a source that hands out records out of order, twice, or beyond its own position is stopped before they reach a step.
func TestRun_sourceOutOfOrderIsFound(t *testing.T) {
	for name, spoil := range map[string]func(f *source.Fetch){
		"the position goes back":     func(f *source.Fetch) { f.Next.Offset = 1 },
		"a record came already":      func(f *source.Fetch) { f.Rows[0].Offset = 0 },
		"a record is ahead":          func(f *source.Fetch) { f.Rows[2].Offset = f.Next.Offset },
		"records changed their turn": func(f *source.Fetch) { f.Rows[0], f.Rows[1] = f.Rows[1], f.Rows[0] },
	} {
		if name == "records changed their turn" && !invariant.Expensive {
			continue // the check walks every fetch: only builds with the tag invariants have it
		}
		t.Run(name, func(t *testing.T) {
			in(t, func(w *world) {
				t := w.t
				w.def.Restart.Limit = 1
				w.source.add("a", "0", "1", "2", "3", "4", "5")
				w.source.fetched = func(f *source.Fetch) {
					if f.Next.Offset == 6 {
						spoil(f)
					}
				}
				wantEnd(t, w.boot().end(), machine.StoppedByRule, "panics: invariant I10 does not hold")
			}, "a")
		})
	}
}

func TestRun_splitOfAnotherTaskIsRefused(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		w.def.Restart.Limit = 1
		w.source.add("a", "0")
		w.source.fetched = func(f *source.Fetch) { f.Next.Split = "x" }
		wantEnd(t, w.boot().end(), machine.StoppedByRule, `the source handed out split "x"`)
	}, "a")
}

func TestRun_boundedSourceEndsTheRun(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		w.source.bounded = true
		w.source.add("a", "0", "1", "2", "3")
		w.source.add("b", "4")
		w.source.add("empty")
		res := w.boot().end()
		wantEnd(t, res, machine.Done, "every record is committed")
		wantTexts(t, w.rows, "0", "1", "2", "3", "4")
		m := w.newest()
		for _, sh := range m.Shards {
			if !sh.Splits[0].Finished {
				t.Errorf("split %s is not finished in the closing manifest", sh.ID)
			}
		}
		if len(m.Sinks[0].Pending) != 0 {
			t.Error("the closing manifest lists something as pending")
		}
		opens := w.source.opens
		wantEnd(t, w.boot().end(), machine.Done, "every record is committed") // again: nothing is left
		wantTexts(t, w.rows, "0", "1", "2", "3", "4")
		if w.source.opens != opens+w.def.Tasks {
			t.Errorf("%d readers in the second run, want %d", w.source.opens-opens, w.def.Tasks)
		}
	})
}

func TestRun_bytesBringTheCheckpointEarlier(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		w.def.Checkpoint.Interval, w.def.Checkpoint.Bytes = time.Hour, 10
		p := w.boot()
		time.Sleep(time.Second)
		w.source.add("a", "12345")
		time.Sleep(time.Minute)
		wantTexts(t, w.rows)
		w.source.add("a", "67890")
		time.Sleep(time.Second)
		wantTexts(t, w.rows, "12345", "67890")
		w.source.add("b", "1234567890") // counted from the barrier on
		time.Sleep(time.Second)
		wantTexts(t, w.rows, "12345", "67890", "1234567890")
		wantEnd(t, p.finish(), machine.Done, "")
	})
}

// A record that is refused without a dead-letter sink stops the pipeline: where it is, why, and what leads on.
func TestRun_refusedRecordWithoutDeadLettersStops(t *testing.T) {
	for _, text := range []string{"malformed", "invalid"} {
		in(t, func(w *world) {
			t := w.t
			w.def.DeadLetter = nil
			w.source.add("a", "fine", text)
			w.source.add("b", "fine")
			res := w.boot().end()
			wantEnd(t, res, machine.StoppedByRule, "split a, offset 1: it is "+text)
			if !strings.Contains(res.Text, "next: add the pipeline's dead_letter section") {
				t.Errorf("the text %q does not say what leads on", res.Text)
			}
			if slices.Contains(w.rows.texts(), text) {
				t.Error("the refused record is in the table")
			}
		})
	}
}

// max_ratio is judged at the barrier: the checkpoint that breaks it is not published, so its records are read again.
func TestRun_tooManyRefusedRecordsStop(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		w.def.MaxRatio, w.def.RatioWindow = 0.1, 10
		w.source.add("a", "1", "2", "3", "4", "5", "6", "7", "8", "9", "malformed")
		p := w.boot()
		time.Sleep(5 * time.Second)
		if st := p.Status(); !st.Ready() {
			t.Fatalf("one in ten is not too many: %+v", st)
		}
		w.source.add("a", "10", "malformed")
		wantEnd(t, p.end(), machine.StoppedByRule, "max_ratio")
		wantTexts(t, w.rows, "1", "2", "3", "4", "5", "6", "7", "8", "9")
		wantTexts(t, w.letters, "it is malformed")
		if m := w.newest(); m.Shards[0].Splits[0].Offset != 10 {
			t.Errorf("the newest checkpoint stands at %d, want 10", m.Shards[0].Splits[0].Offset)
		}
	}, "a")
}

// Rows that the target refuses at commit move to the dead letters of the checkpoint that replaces their unit.
func TestRun_rowsRefusedAtCommitBecomeDeadLetters(t *testing.T) {
	for _, delivery := range []config.Delivery{config.ExactlyOnce, config.AtLeastOnce} {
		in(t, func(w *world) {
			t := w.t
			w.def.Delivery = delivery
			w.rows.commit = rejecting("poison")
			p := w.boot()
			w.source.add("a", "1", "poison", "2")
			w.source.add("b", "poison")
			time.Sleep(10 * time.Second)
			w.source.add("b", "3")
			time.Sleep(time.Millisecond)
			wantEnd(t, p.finish(), machine.Done, "every record is committed")
			wantTexts(t, w.rows, "1", "2", "3")
			wantTexts(t, w.letters, "the target refuses it", "the target refuses it")
			if got := w.newest().Counters.DeadLetters; got != 2 {
				t.Errorf("the counters have %d dead letters, want 2", got)
			}
			w.wantMetric("ingestd_dead_letter_records_total", `ingestd_dead_letter_records_total{pipeline="p",stage="sink:sink"} 2`)
			if time.Sleep(time.Minute); p.Status().Stalled {
				t.Errorf("a unit without rows left is called a stall: %+v", p.Status())
			}
		})
	}
}

// A unit of which no row is left must not look as if its commit were under way for ever.
func TestRun_unitWithoutRowsLeftIsNoStall(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		w.rows.commit = rejecting("poison")
		p := w.boot()
		w.source.add("a", "poison")
		time.Sleep(5 * time.Minute)
		if st := p.Status(); !st.Ready() {
			t.Errorf("got %+v, want ready", st)
		}
		wantEnd(t, p.finish(), machine.Done, "")
		wantTexts(t, w.letters, "the target refuses it")
	})
}

// A replacement that can never be made stops the pipeline; one that fails for now is tried again.
func TestRun_replacementThatFails(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		w.rows.commit = rejecting("poison")
		tries := 0
		w.rows.replace = func() error {
			if tries++; tries < 5 {
				return fault.E("table.Replace", fault.Transient, errors.New("not now"))
			}
			return fault.E("table.Replace", fault.Corrupt, errors.New("a segment is broken"))
		}
		p := w.boot()
		w.source.add("a", "poison", "1")
		wantEnd(t, p.end(), machine.StoppedCorrupt, "a segment is broken")
		if tries != 5 || len(w.log.lines("refused rows are not replaced", "not now")) != 4 {
			t.Errorf("%d tries, log:\n%s", tries, strings.Join(w.log.lines("replaced"), "\n"))
		}
	})
}

// An error that only a person can mend ends the attempts to commit, whether or not anything is known of the effect: a sink with
// on_reject = "stop" ends so.
func TestRun_commitThatNoAttemptMendsStops(t *testing.T) {
	for _, kind := range []fault.Kind{fault.Misconfigured, fault.Rejected, fault.Corrupt} {
		reason := machine.ReasonFor(kind)
		for _, outcome := range []sink.Outcome{sink.Retry, sink.Unknown} {
			in(t, func(w *world) {
				t := w.t
				w.rows.commit = func(context.Context, sink.Committable) (sink.Outcome, []sink.RejectedRow, error) {
					return outcome, nil, fault.WithRemedy("table.Commit", kind, errors.New("not like this"), "GRANT INSERT")
				}
				w.source.add("a", "1")
				res := w.boot().end()
				wantEnd(t, res, reason, "not like this\n  next: GRANT INSERT")
				if len(res.Pending) != 1 || res.Pending[0].Name != MainSink {
					t.Errorf("%s: what is left to commit is %+v, want the committable", kind, res.Pending)
				}
			})
		}
	}
}

func TestRun_storeThatRefusesStops(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		w.def.Store = refusingStore{w.store}
		wantEnd(t, w.boot().end(), machine.StoppedMisconfigured, "permission denied")
	})
}

// refusingStore may be read and not written to, once the pipeline's folder is there.
type refusingStore struct{ *storetest.Memory }

func (s refusingStore) Create(ctx context.Context, name string, data []byte) error {
	if strings.Contains(name, "/log/") {
		return fault.E("store.Create", fault.Misconfigured, errors.New("permission denied"))
	}
	return s.Memory.Create(ctx, name, data)
}

// A store whose deletes hang holds up nothing: what is not collected now is collected later.
func TestRun_hangingDeletesHoldUpNothing(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		w.def.Store = hangingStore{w.store}
		p := w.boot()
		for n := range 300 {
			w.source.add("a", fmt.Sprint(n))
			time.Sleep(time.Second)
		}
		if n := len(w.rows.texts()); n < 295 {
			t.Errorf("%d of 300 records after as many checkpoints", n)
		}
		wantEnd(t, p.finish(), machine.Done, "")
	})
}

type hangingStore struct{ *storetest.Memory }

func (hangingStore) Delete(ctx context.Context, _ string) error {
	<-ctx.Done()
	return fault.E("store.Delete", fault.Unknown, context.Cause(ctx))
}
