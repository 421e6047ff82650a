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

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/telemetry"
	"github.com/ingestd/ingestd/pipeline/machine"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// routed makes a world's pipeline one of two sinks: what begins with a or with b goes left, what begins with b or with c goes right.
func (w *world) routed() (left, right *table) {
	left, right = w.rows, newTable()
	w.def.Sink = nil
	w.def.Sinks = []Route{
		{Name: "left", Sink: left, When: `text startsWith "a" || text startsWith "b"`},
		{Name: "right", Sink: right, When: `text startsWith "b" || text startsWith "c"`},
	}
	return left, right
}

// stage returns a stage's account in the newest manifest.
func (w *world) stage(name string) checkpoint.StageCount {
	w.t.Helper()
	m := w.newest()
	for _, s := range m.Counters.Stages {
		if s.Stage == name {
			return s
		}
	}
	w.t.Fatalf("no stage %q in %+v", name, m.Counters.Stages)
	return checkpoint.StageCount{}
}

func (w *world) wantStage(name string, in, passed, filtered, refused int64) {
	w.t.Helper()
	want := checkpoint.StageCount{Stage: name, In: in, Passed: passed, Filtered: filtered, Refused: refused}
	if got := w.stage(name); got != want {
		w.t.Errorf("got %+v, want %+v", got, want)
	}
}

// I12: a row goes to each sink that wants it, what nobody wants ends before them, and the account of each sink balances.
func TestRoute_rowsGoToEachSinkThatWantsThem(t *testing.T) {
	for _, delivery := range []config.Delivery{config.ExactlyOnce, config.AtLeastOnce} {
		in(t, func(w *world) {
			t := w.t
			w.def.Delivery = delivery
			left, right := w.routed()
			p := w.boot()
			w.source.add("a", "a1", "b1", "c1", "d1")
			w.source.add("b", "a2", "malformed", "d2", "d3")
			time.Sleep(5 * time.Second)
			w.source.add("b", "b2")
			time.Sleep(time.Millisecond) // it is read
			wantEnd(t, p.finish(), machine.Done, "every record is committed")
			wantTexts(t, left, "a1", "a2", "b1", "b2")
			wantTexts(t, right, "b1", "b2", "c1")
			wantTexts(t, w.letters, "it is malformed")
			w.wantStage("route", 8, 5, 3, 0)
			w.wantStage("sink:left", 5, 4, 1, 0)
			w.wantStage("sink:right", 5, 3, 2, 0)
			w.wantMetric("ingestd_sink_prepared_rows_total",
				`ingestd_sink_prepared_rows_total{pipeline="p",sink="dead_letter"} 1`,
				`ingestd_sink_prepared_rows_total{pipeline="p",sink="left"} 4`,
				`ingestd_sink_prepared_rows_total{pipeline="p",sink="right"} 3`)
		})
	}
}

// A row that one sink refuses, when it is written or when it is committed, is in the others, and its dead letter names the sink.
func TestRoute_rowRefusedByOneIsInTheOthers(t *testing.T) {
	for _, delivery := range []config.Delivery{config.ExactlyOnce, config.AtLeastOnce} {
		in(t, func(w *world) {
			t := w.t
			w.def.Delivery = delivery
			left, right := w.routed()
			w.def.Sinks[0].When, w.def.Sinks[1].When = "", ""
			right.commit = rejecting("poison")
			w.def.Sinks[0].Sink = taking{left}
			p := w.boot()
			w.source.add("a", "fine", "invalid", "poison")
			w.source.add("b", "poison")
			time.Sleep(10 * time.Second)
			wantEnd(t, p.finish(), machine.Done, "every record is committed")
			wantTexts(t, left, "fine", "invalid!", "poison", "poison")
			wantTexts(t, right, "fine")
			wantTexts(t, w.letters, "it is invalid", "the target refuses it", "the target refuses it")
			w.wantMetric("ingestd_dead_letter_records_total", `ingestd_dead_letter_records_total{pipeline="p",stage="sink:right"} 3`)
			w.wantStage("sink:left", 4, 4, 0, 0)
			w.wantStage("sink:right", 4, 1, 0, 3)
		})
	}
}

// taking is a table that refuses no row when it is written.
type taking struct{ *table }

func (p taking) Open(ctx context.Context, env sink.Env) (sink.Sink, error) {
	s, err := p.table.Open(ctx, env)
	return takingSink{s}, err
}

type takingSink struct{ sink.Sink }

func (s takingSink) Writer(ctx context.Context, task int, schema *record.Schema) (sink.Writer, error) {
	w, err := s.Sink.Writer(ctx, task, schema)
	return takingWriter{w}, err
}

type takingWriter struct{ sink.Writer }

func (w takingWriter) Write(ctx context.Context, b *record.Batch) ([]record.Refusal, error) {
	own := record.NewBatch(b.Schema)
	own.Meta.Split = b.Meta.Split
	for row := range b.Rows {
		text := string(b.Cols[0].BytesAt(row))
		if text == "invalid" {
			text += "!"
		}
		own.Cols[0].AppendString(text)
		own.AppendMeta(record.RowMeta{Offset: b.Meta.Offsets[row]})
	}
	return w.Writer.Write(ctx, own)
}

// A condition that can't be told for a row refuses the row at that sink, and at no other.
func TestRoute_conditionThatFailsRefusesTheRowAtThatSink(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		left, right := w.routed()
		w.def.Sinks[0].When, w.def.Sinks[1].When = `int(text) > 5`, `_offset < 2`
		w.source.add("a", "3", "x", "7", "y", "4")
		p := w.boot()
		time.Sleep(5 * time.Second)
		wantEnd(t, p.finish(), machine.Done, "")
		wantTexts(t, left, "7")
		wantTexts(t, right, "3", "x")
		if got := w.letters.texts(); len(got) != 2 || !strings.Contains(got[0], `expression "int(text) > 5"`) {
			t.Errorf("got the dead letters %q", got)
		}
		w.wantStage("route", 5, 4, 1, 0)
		w.wantStage("sink:left", 4, 1, 1, 2)
		w.wantStage("sink:right", 4, 2, 2, 0)
		w.wantMetric("ingestd_dead_letter_records_total", `ingestd_dead_letter_records_total{pipeline="p",stage="sink:left"} 2`)
	}, "a")
}

// I7: the commits of one checkpoint at two sinks are under way at once. Each waits for the other here: one after the other they
// would never end.
func TestRoute_sinksCommitSideBySide(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		left, right := w.routed()
		here, there := make(chan struct{}), make(chan struct{})
		meet := func(mine, others chan struct{}) func(context.Context, sink.Committable) (sink.Outcome, []sink.RejectedRow, error) {
			return func(ctx context.Context, _ sink.Committable) (sink.Outcome, []sink.RejectedRow, error) {
				for range 2 {
					select {
					case mine <- struct{}{}:
					case <-others:
					case <-ctx.Done():
						return sink.Unknown, nil, context.Cause(ctx)
					}
				}
				return sink.Committed, nil, nil
			}
		}
		left.commit, right.commit = meet(here, there), meet(there, here)
		p := w.boot()
		for n := range 5 {
			w.source.add("a", fmt.Sprint("b", n))
			time.Sleep(2 * time.Second)
		}
		wantTexts(t, left, "b0", "b1", "b2", "b3", "b4")
		wantTexts(t, right, "b0", "b1", "b2", "b3", "b4")
		wantEnd(t, p.finish(), machine.Done, "")
	}, "a")
}

// A sink that does not commit holds back its pipeline, the other sinks of it too, and no other pipeline.
func TestRoute_slowSinkHoldsBackItsPipelineOnly(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		other := newWorld(t, "a")
		other.metrics = telemetry.New("other")
		left, right := w.routed()
		release := make(chan struct{})
		right.commit = func(ctx context.Context, _ sink.Committable) (sink.Outcome, []sink.RejectedRow, error) {
			select {
			case <-release:
				return sink.Committed, nil, nil
			case <-ctx.Done():
				return sink.Unknown, nil, context.Cause(ctx)
			}
		}
		p, q := w.boot(), other.boot()
		var want []string
		for n := range 20 {
			text := fmt.Sprint("b", n)
			want = append(want, text)
			w.source.add("a", text)
			other.source.add("a", text)
			time.Sleep(time.Second)
		}
		time.Sleep(3 * time.Second)
		wantTexts(t, other.rows, want...)
		if got := len(left.texts()); got == 0 || got > len(want)/2 || len(right.texts()) > 0 {
			t.Errorf("beside a sink that hangs: %d of %d rows in the other and %d in itself, want as many as may wait and none", got, len(want), len(right.texts()))
		}
		w.wantMetric(`ingestd_checkpoint_pending{pipeline="p",sink="right"}`, `ingestd_checkpoint_pending{pipeline="p",sink="right"} 2`)
		close(release)
		time.Sleep(10 * time.Second)
		wantTexts(t, left, want...)
		wantTexts(t, right, want...)
		wantEnd(t, p.finish(), machine.Done, "")
		wantEnd(t, q.finish(), machine.Done, "")
	}, "a")
}

// I2: after a crash wherever one sink had come to, all sinks agree on what belongs to each checkpoint, and nothing is lost or doubled.
func TestRoute_allSinksAgreeOnTheCutAfterCrashes(t *testing.T) {
	for name, arm := range map[string]func(left, right *table, crash func()){
		"one has prepared, the other not": func(_, right *table, crash func()) {
			right.prepare = func(ctx context.Context, _ int) error { return stay(ctx, crash) }
		},
		"one has committed, the other not": func(left, right *table, crash func()) {
			right.commit = func(ctx context.Context, _ sink.Committable) (sink.Outcome, []sink.RejectedRow, error) {
				return sink.Unknown, nil, stay(ctx, func() {
					if len(left.texts()) > 0 {
						crash()
					}
				})
			}
		},
		"neither has committed": func(left, right *table, crash func()) {
			for _, s := range []*table{left, right} {
				s.commit = func(ctx context.Context, _ sink.Committable) (sink.Outcome, []sink.RejectedRow, error) {
					return sink.Unknown, nil, stay(ctx, crash)
				}
			}
		},
		"one is fenced, the other not": func(_, right *table, crash func()) {
			right.fence = func() error { crash(); return fault.E("test", fault.Unknown, errors.New("no answer")) }
		},
		"rows are written to one, and not to the other": func(_, right *table, crash func()) {
			right.write = func(ctx context.Context, _ []row) error { return stay(ctx, crash) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(w *world) {
				t := w.t
				left, right := w.routed()
				w.def.Checkpoint.Keep = 100
				var texts []string
				add := func(n int) {
					for _, split := range []string{"a", "b"} {
						for _, kind := range []string{"a", "b", "c", "d"} {
							texts = append(texts, fmt.Sprint(kind, split, n))
							w.source.add(split, fmt.Sprint(kind, split, n))
						}
					}
				}
				for n := range 6 {
					add(n)
					if n%2 == 0 {
						p := w.boot()
						time.Sleep(3 * time.Second)
						p.crash()
						continue
					}
					crashed := make(chan struct{})
					var once sync.Once
					arm(left, right, func() { once.Do(func() { close(crashed) }) })
					p := w.boot()
					select {
					case <-crashed:
					case <-time.After(time.Hour):
						t.Error("the place of the crash is not reached")
					}
					p.crash()
					for _, s := range []*table{left, right} {
						s.prepare, s.commit, s.fence, s.write = nil, nil, nil, nil
					}
				}
				p := w.boot()
				time.Sleep(5 * time.Second)
				wantEnd(t, p.finish(), machine.Done, "")
				var inLeft, inRight []string
				for _, text := range texts {
					if strings.ContainsAny(text[:1], "ab") {
						inLeft = append(inLeft, text)
					}
					if strings.ContainsAny(text[:1], "bc") {
						inRight = append(inRight, text)
					}
				}
				wantTexts(t, left, inLeft...)
				wantTexts(t, right, inRight...)
				wantSameCut(t, left, right)
			})
		})
	}
}

// stay tells of the moment, and waits for the end of the process.
func stay(ctx context.Context, reached func()) error {
	for {
		reached()
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return fault.E("test", fault.Unknown, context.Cause(ctx))
		}
	}
}

// wantSameCut checks that rows which went to both sinks were committed by the same checkpoint.
func wantSameCut(t *testing.T, left, right *table) {
	t.Helper()
	by := func(s *table) map[string]record.Checkpoint {
		out := map[string]record.Checkpoint{}
		for c, rows := range s.by {
			for _, r := range rows {
				out[r.Text] = c
			}
		}
		return out
	}
	inLeft, inRight := by(left), by(right)
	both := 0
	for text, c := range inLeft {
		if d, ok := inRight[text]; ok {
			if both++; c != d {
				t.Errorf("%s is of checkpoint %d in one sink and of %d in the other", text, c, d)
			}
		}
	}
	if both == 0 {
		t.Error("no row went to both")
	}
}

// Conditions are checked before anything runs, with the place that is wrong.
func TestBind_checksConditions(t *testing.T) {
	for when, want := range map[string]string{
		`text ==`:      `expression "text =="`,
		`nosuch == 1`:  `unknown name nosuch; known are text`,
		`text`:         "true or false is expected",
		`_offset + 1`:  "true or false is expected",
		`_topic == ""`: "",
	} {
		w := newWorld(t, "a")
		_, right := w.routed()
		w.def.Sinks[1].When = when
		_, err := Bind(w.def)
		e, ok := errors.AsType[*RouteError](err)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: got %v", when, err)
		case want != "" && (!ok || e.Place != 1 || e.Key != "when" || !strings.Contains(e.Error(), want)):
			t.Errorf("%s: got %v, want an error of the second sink with %q", when, err, want)
		}
		right.caps.AnyColumns = false // only its target knows the columns: what is no expression is found all the same
		if _, err := Bind(w.def); (err != nil) != (when == `text ==`) {
			t.Errorf("%s: without columns: got %v", when, err)
		}
	}
}

// The weakest sink decides, and each is said by name with the rows that it gets.
func TestDerive_namesEachOfSeveralSinks(t *testing.T) {
	w := newWorld(t, "a")
	_, right := w.routed()
	right.caps.ExactlyOnce = false
	g := Derive(w.def, nil)
	if g.Holds || g.Summary != `exactly-once can't hold for sink "right"` {
		t.Errorf("got %t, %q", g.Holds, g.Summary)
	}
	for _, want := range []string{
		`left: exactly-once, for rows with text startsWith "a" || text startsWith "b"`,
		`right: exactly-once can't hold, for rows with text startsWith "b" || text startsWith "c"`,
		"right: can't tell whether a commit took effect, so a retry may double rows",
		"dead_letter: exactly-once, for what any of the others refuses",
	} {
		if !slices.Contains(g.Reasons, want) {
			t.Errorf("the reasons %q lack %q", g.Reasons, want)
		}
	}
	right.caps.ExactlyOnce = true
	g = Derive(w.def, []sink.Inspection{{}, {Findings: []sink.Finding{{Level: sink.Weakens, Text: "views may miss rows"}}}, {}})
	if !g.Holds || g.Summary != "exactly-once, with one exception named below" || !slices.Contains(g.Reasons, `right: exactly-once, with 1 of the exceptions named below, for rows with text startsWith "b" || text startsWith "c"`) {
		t.Errorf("got %t, %q, %q", g.Holds, g.Summary, g.Reasons)
	}
	w.def.Delivery = config.AtLeastOnce
	if g = Derive(w.def, nil); !slices.Contains(g.Reasons, `left: at-least-once, for rows with text startsWith "a" || text startsWith "b"`) {
		t.Errorf("got %q", g.Reasons)
	}
}

// The memory of commits is that of all sinks.
func TestDefinition_commitBytesAreThoseOfAllSinks(t *testing.T) {
	w := newWorld(t, "a")
	left, right := w.routed()
	left.caps.CommitBytes, right.caps.CommitBytes, w.letters.caps.CommitBytes = 1, 20, 300
	if got := w.def.commitBytes(); got != 321 {
		t.Errorf("got %d, want 321", got)
	}
}

// Behind keyed steps rows are told apart by what these make of them, in the tasks of the second stage; refused rows of both stages are
// dead letters, and all of it survives crashes.
func TestRoute_keyedStepsThenSinks(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		left, right := w.routed()
		w.withState(counts())
		w.def.Sinks[0].When, w.def.Sinks[1].When = "n >= 2", "n <= 2"
		w.source.bounded = true
		w.source.add("a", "x", "y", "z", "malformed")
		w.source.add("b", "x", "y", "x", "invalid")
		for range 3 {
			p := w.boot()
			time.Sleep(300 * time.Millisecond)
			p.crash()
		}
		wantEnd(t, w.boot().end(), machine.Done, "every record is committed")
		wantTexts(t, left, "x 3", "y 2")
		wantTexts(t, right, "y 2", "z 1", "invalid 1")
		wantTexts(t, w.letters, "it is malformed")
		w.wantStage("route", 4, 4, 0, 0)
		w.wantStage("sink:left", 4, 2, 2, 0)
		w.wantStage("sink:right", 4, 3, 1, 0)
	})
}

// A savepoint of a pipeline with several sinks waits until each has committed.
func TestRoute_savepointWaitsForEverySink(t *testing.T) {
	in(t, func(w *world) {
		t := w.t
		_, right := w.routed()
		release := make(chan struct{})
		right.commit = func(ctx context.Context, _ sink.Committable) (sink.Outcome, []sink.RejectedRow, error) {
			select {
			case <-release:
				return sink.Committed, nil, nil
			case <-ctx.Done():
				return sink.Unknown, nil, context.Cause(ctx)
			}
		}
		w.source.add("a", "b1")
		p := w.boot()
		time.Sleep(3 * time.Second)
		made := make(chan error, 1)
		go func() {
			index, err := p.Savepoint(t.Context(), SavepointRequest{Name: "s", By: "test", Version: "test"})
			if err == nil && index.Checkpoint == 0 {
				err = errors.New("the savepoint is of no checkpoint")
			}
			made <- err
		}()
		time.Sleep(10 * time.Second)
		select {
		case err := <-made:
			t.Errorf("the savepoint was made before every sink had committed: %v", err)
		default:
		}
		close(release)
		if err := <-made; err != nil {
			t.Error(err)
		}
		wantEnd(t, p.finish(), machine.Done, "")
	}, "a")
}
