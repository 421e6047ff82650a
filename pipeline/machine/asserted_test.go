package machine

import (
	"testing"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/internal/invariant"
	"github.com/ingestd/ingestd/sink"
)

// A driver or plugin that breaks the contract must not be believed: the machine panics with the invariant's id, and the run goes
// on by recovery. Each case brings a run to a checkpoint that is published and gives it one wrong answer, or breaks its state
// where no answer can.
func TestMachine_assertsItsInvariants(t *testing.T) {
	parts := func(n int, in int64) PartDone {
		return PartDone{Checkpoint: 3, Part: Part{Task: n, Stages: []checkpoint.StageCount{
			{Stage: "source", In: in, Passed: in}, {Stage: "sink:main", In: in, Passed: in},
		}, Sinks: []sink.Part{{}, {}}}}
	}
	publishing := func(f *flow) {
		f.m.Step(0, TimerFired{Timer{Kind: TimerInterval}})
		f.m.Step(0, parts(0, 0))
		f.m.Step(0, parts(1, 0))
	}
	for _, test := range []struct {
		name, id string
		wrong    func(f *flow)
	}{
		{"a split goes back", "I1", func(f *flow) {
			f.m.Step(0, TimerFired{Timer{Kind: TimerInterval}})
			back := parts(0, 0)
			back.Part.Splits = append(back.Part.Splits, f.split("a", 0))
			f.m.Step(0, back)
			f.m.Step(0, parts(1, 1))
			f.m.Step(0, AssembleDone{Checkpoint: 3, Results: make([]sink.Assembled, 2)})
		}},
		{"a split that nobody gave to a task", "I1", func(f *flow) {
			f.m.Step(0, TimerFired{Timer{Kind: TimerInterval}})
			other := parts(0, 0)
			other.Part.Splits = append(other.Part.Splits, f.split("z", 0))
			f.m.Step(0, other)
			f.m.Step(0, parts(1, 1))
			f.m.Step(0, AssembleDone{Checkpoint: 3, Results: make([]sink.Assembled, 2)})
		}},
		{"a part twice", "I2", func(f *flow) {
			f.m.Step(0, TimerFired{Timer{Kind: TimerInterval}})
			f.m.Step(0, parts(0, 0))
			f.m.Step(0, parts(0, 0))
		}},
		{"a part of no checkpoint", "I2", func(f *flow) { f.m.Step(0, parts(0, 0)) }},
		{"commit of what is not published", "I3", func(f *flow) {
			s := &f.m.sinks[0]
			s.flying, s.queue = false, []sink.Committable{{Lease: 1, Checkpoint: 9}}
			f.m.startCommits()
		}},
		{"two manifests in flight", "I4", func(f *flow) {
			f.m.freeze(checkpoint.Manifest{})
			f.m.freeze(checkpoint.Manifest{})
		}},
		{"an older lease above the claim", "I4", func(f *flow) {
			f.m.freeze(checkpoint.Manifest{})
			f.m.Step(0, Got{For: ForPublish, Seq: f.m.next, Found: true, Entry: checkpoint.Entry{Claim: &checkpoint.Claim{Lease: 1}}})
		}},
		{"another checkpoint of the lease at the number", "I4", func(f *flow) {
			f.m.freeze(checkpoint.Manifest{Checkpoint: 3})
			f.m.Step(0, Got{For: ForPublish, Seq: f.m.next, Found: true, Entry: checkpoint.Entry{Manifest: &checkpoint.Manifest{Lease: 1, Checkpoint: 9}}})
		}},
		{"a replacement with other rows", "I5", func(f *flow) {
			f.m.Step(0, CommitDone{Outcome: sink.Rejected, Rows: []int64{0}})
			f.m.Step(0, ReplaceDone{OK: true, By: sink.Committable{Lease: 1, Checkpoint: 2, Unit: 1, Rows: 2}})
		}},
		{"done with work left", "I6", func(f *flow) {
			f.m.phase, f.m.sinks[0].queue = finishing, nil
			f.m.sinks[0].flying = false
			left := *f.m.head
			left.Sinks[0].Name = "gone"
			f.m.head = &left
			f.m.finishIfDone()
		}},
		{"an answer to no commit", "I7", func(f *flow) { f.m.Step(0, CommitDone{Sink: 1, Outcome: sink.Committed}) }},
		{"the newest manifest is collected", "I9", func(f *flow) {
			f.m.kept = []checkpoint.Seq{f.m.headSeq, 90, 91}
			f.m.collect()
		}},
		{"refused rows that are not the unit's", "I12", func(f *flow) {
			f.m.Step(0, CommitDone{Outcome: sink.Rejected, Rows: []int64{2}})
		}},
		{"no refused rows", "I12", func(f *flow) { f.m.Step(0, CommitDone{Outcome: sink.Rejected}) }},
		{"a stage passes what it did not take", "I12", func(f *flow) {
			f.m.Step(0, TimerFired{Timer{Kind: TimerInterval}})
			more := parts(0, 1)
			more.Part.Stages[1].Passed = 2
			f.m.Step(0, more)
			f.m.Step(0, parts(1, 0))
			f.m.Step(0, AssembleDone{Checkpoint: 3, Results: make([]sink.Assembled, 2)})
		}},
		{"a committable of another checkpoint", "I13", func(f *flow) {
			publishing(f)
			done := AssembleDone{Checkpoint: 3, Results: make([]sink.Assembled, 2)}
			done.Results[0].Committables = []sink.Committable{{Lease: 1, Checkpoint: 2}}
			f.m.Step(0, done)
		}},
		{"a checkpoint's number is used again", "I13", func(f *flow) {
			f.m.last = 1
			f.m.Step(0, TimerFired{Timer{Kind: TimerInterval}})
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFlow(t, flowConfig())
			f.hold = func(e Effect) bool {
				_, ok := e.(Commit)
				return ok
			}
			f.outcome = func(int, sink.Committable) (sink.Outcome, bool) { return sink.Unknown, true }
			f.send(Started{}, TimerFired{Timer{Kind: TimerInterval}})
			defer func() {
				got, _ := recover().(invariant.Violation)
				if got.ID != test.id {
					t.Errorf("got %q, want a violation of %s", got.ID, test.id)
				}
			}()
			test.wrong(f)
		})
	}
}
