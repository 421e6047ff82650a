package pipeline

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/pipeline/machine"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/state/local"
	"github.com/ingestd/ingestd/step"
)

// folderDisk keeps local databases in a folder.
type folderDisk struct{ dir string }

func (d folderDisk) Open(pipeline string, memory int64, log *slog.Logger) (*local.DB, error) {
	cache := local.NewCache(memory)
	defer cache.Close()
	return local.Open(local.Options{Dir: filepath.Join(d.dir, pipeline), Cache: cache, Log: log, DiskReserve: -1})
}

func (d folderDisk) Wipe(pipeline string) error {
	return local.Wipe(nil, filepath.Join(d.dir, pipeline))
}

// withState gives a world keyed steps and a folder for their state.
func (w *world) withState(steps ...step.Step) {
	w.def.Steps, w.def.StateMemory = steps, 16<<20
	w.disk = folderDisk{w.t.TempDir()}
}

func once() step.Step { return Keyed(&step.Dedup{ID: "once", Key: []string{"text"}}) }

func counts() step.Step {
	return Keyed(&step.Aggregate{ID: "counts", Key: []string{"text"}, Columns: []step.AggregateColumn{{Column: "n", Value: "count()"}}, Emit: step.EmitFinal})
}

// slow is a step that takes its time.
type slow struct{}

func (slow) Name() string { return "slow" }

func (slow) Bind(in *record.Schema) (*record.Schema, step.Apply, error) {
	return in, func(*record.Batch, *step.Result) { <-time.After(50 * time.Millisecond) }, nil
}

// Each key passes once, over both splits, over crashes, and over runs with other numbers of tasks, and the counters balance (I12).
func TestKeyed_dedupOverRuns(t *testing.T) {
	in(t, func(w *world) {
		w.withState(once())
		random := rand.New(rand.NewPCG(1, 2))
		want := map[string]bool{}
		sent := int64(0)
		for run := range 8 {
			w.def.Tasks = 1 + run%3
			p := w.boot()
			for range 20 {
				for _, split := range []string{"a", "b"} {
					text := fmt.Sprint("k", random.IntN(50+run*20))
					want[text] = true
					w.source.add(split, text)
					sent++
				}
				time.Sleep(time.Duration(random.IntN(400)) * time.Millisecond)
			}
			if run%2 == 0 {
				p.crash()
				continue
			}
			time.Sleep(3 * time.Second)
			wantEnd(w.t, p.finish(), machine.Done, "")
		}
		p := w.boot()
		time.Sleep(5 * time.Second)
		wantEnd(w.t, p.finish(), machine.Done, "")
		var all []string
		for text := range want {
			all = append(all, text)
		}
		wantTexts(w.t, w.rows, all...)
		m := w.newest()
		if c := m.Counters.Stages; c[2].Stage != "step:once" || c[2].In != sent || c[2].Deduplicated != sent-int64(len(want)) {
			w.t.Errorf("the counters say %+v, want %d rows and %d of them deduplicated", c, sent, sent-int64(len(want)))
		}
	})
}

// A bounded input is counted by key; what comes out is the same wherever it is killed, and a finished run has nothing more to say.
func TestKeyed_countsOfABoundedInput(t *testing.T) {
	in(t, func(w *world) {
		w.withState(slow{}, counts())
		w.source.bounded = true
		random := rand.New(rand.NewPCG(3, 4))
		n := map[string]int{}
		for range 600 {
			text := fmt.Sprint("k", random.IntN(40))
			n[text]++
			w.source.add([]string{"a", "b"}[random.IntN(2)], text)
		}
		for kill := range 6 {
			w.def.Tasks = 1 + kill%3
			p := w.boot()
			time.Sleep(time.Duration(800+random.IntN(900)) * time.Millisecond)
			p.crash()
		}
		wantEnd(w.t, w.boot().end(), machine.Done, "")
		var want []string
		for text, count := range n {
			want = append(want, fmt.Sprint(text, " ", count))
		}
		wantTexts(w.t, w.rows, want...)
		wantEnd(w.t, w.boot().end(), machine.Done, "")
		wantTexts(w.t, w.rows, want...)
	})
}

// What can't work is refused before anything is claimed: a wait for an end that does not come, and steps with two keys.
func TestKeyed_impossiblePlansAreRefused(t *testing.T) {
	other := Keyed(&step.Dedup{ID: "other", Key: []string{"n"}})
	for _, c := range []struct {
		steps []step.Step
		want  string
	}{
		{[]step.Step{counts()}, "waits for the end"},
		{[]step.Step{once(), Keyed(&step.Aggregate{ID: "n", Key: []string{"text"}, Columns: []step.AggregateColumn{{Column: "n", Value: "count()"}}}), other}, "its key is"},
		{[]step.Step{Keyed(&step.Dedup{ID: "x", Key: []string{"nosuch"}})}, "nosuch"},
	} {
		in(t, func(w *world) {
			w.withState(c.steps...)
			_, err := Bind(w.def)
			if fault.KindOf(err) != fault.Misconfigured || !strings.Contains(err.Error(), c.want) {
				w.t.Errorf("got %v, want Misconfigured with %q", err, c.want)
			}
		})
	}
}

// The local database is a cache (I8): without it, and with one that was damaged, a run goes on as if nothing was.
func TestKeyed_localDiskIsLost(t *testing.T) {
	in(t, func(w *world) {
		w.withState(once())
		for run := range 4 {
			p := w.boot()
			for i := range 30 {
				w.source.add("a", fmt.Sprint("k", i+run*10))
			}
			time.Sleep(4 * time.Second)
			if run%2 == 0 {
				p.crash()
			} else {
				wantEnd(w.t, p.finish(), machine.Done, "")
			}
			w.disk = folderDisk{w.t.TempDir()}
		}
		var want []string
		for i := range 60 {
			want = append(want, fmt.Sprint("k", i))
		}
		slices.Sort(want)
		wantTexts(w.t, w.rows, want...)
	})
}
