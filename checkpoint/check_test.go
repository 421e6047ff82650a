package checkpoint

import (
	"math"
	"testing"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// Goal: each rule of [Manifest.Check] is held. Method: one change to a manifest that keeps all of them, for each rule. The
// counters' cases are I12, the order of what is pending and known is I5, I7 and I13.
func TestManifestCheck_findsEveryBrokenRule(t *testing.T) {
	if err := fullManifest().Manifest.Check(); err != nil {
		t.Fatalf("got %v before any change, want nil", err)
	}
	shard := func(m *Manifest) *Shard { return &m.Shards[1] }
	split := func(m *Manifest, change func(s *Shard)) { change(&m.Shards[1]) }
	first := func(m *Manifest) *SinkState { return &m.Sinks[0] }
	pending := func(m *Manifest) *sink.Committable { return &m.Sinks[0].Pending[0] }
	stage := func(m *Manifest, i int) *StageCount { return &m.Counters.Stages[i] }
	for _, c := range []struct {
		name   string
		change func(m *Manifest)
		want   string
	}{
		{"no store", func(m *Manifest) { m.StoreID = "" }, "store ID"},
		{"no pipeline", func(m *Manifest) { m.Pipeline = "" }, "pipeline ID"},
		{"a bad pipeline", func(m *Manifest) { m.Pipeline = "../x" }, "pipeline ID"},
		{"no lease", func(m *Manifest) { m.Lease = 0 }, "lease 0"},
		{"no checkpoint", func(m *Manifest) { m.Checkpoint = 0 }, "checkpoint 0"},

		{"shards out of order", func(m *Manifest) { m.Shards[0], m.Shards[1] = m.Shards[1], m.Shards[0] }, "sorted and unique"},
		{"a shard twice", func(m *Manifest) { m.Shards[1].ID = m.Shards[0].ID }, "sorted and unique"},
		{"a shard without ID", func(m *Manifest) { m.Shards[0].ID = "" }, "no ID"},
		{"epoch 0", func(m *Manifest) { shard(m).Epoch = 0 }, "epoch 0"},
		{"no status", func(m *Manifest) { shard(m).Status = "" }, "not known"},
		{"a later version's status", func(m *Manifest) { shard(m).Status = "gone" }, "not known"},
		{"owned and leaving", func(m *Manifest) { shard(m).To = new(record.Lane) }, "on its way"},
		{"a split in two shards", func(m *Manifest) { m.Shards[2].Splits[0].Split = "orders/0" }, "already"},
		{"a split twice in one shard", func(m *Manifest) { split(m, func(s *Shard) { s.Splits = append(s.Splits, s.Splits[0]) }) }, "already"},
		{"a split without name", func(m *Manifest) { shard(m).Splits[0].Split = "" }, "no name"},
		{"an offset that is not resolved", func(m *Manifest) { shard(m).Splits[0].Offset = -2 }, "offset -2"},
		{"a leader epoch below none", func(m *Manifest) { shard(m).Splits[0].LeaderEpoch = -2 }, "leader epoch"},
		{"an end that is not resolved", func(m *Manifest) { shard(m).Splits[0].Until = -2 }, "end bound"},
		{"finished without end", func(m *Manifest) { shard(m).Splits[0].Until = -1 }, "without an end"},
		{"finished before its end", func(m *Manifest) { shard(m).Splits[0].Offset-- }, "below its bound"},
		{"state without key groups", func(m *Manifest) { m.State().Groups = 0 }, "0 key groups"},
		{"state without version", func(m *Manifest) { m.State().Version = 0 }, "version 0"},
		{"state's objects out of order", func(m *Manifest) { m.State().Objects[0] = "state/0/9/b2" }, "objects[1]"},
		{"state in a shard of splits", func(m *Manifest) { m.Shards[1].State = m.State() }, "belongs to the shard"},

		{"a sink without name", func(m *Manifest) { m.Sinks[1].Name = "" }, "no name"},
		{"a sink twice", func(m *Manifest) { m.Sinks[1].Name = m.Sinks[0].Name }, "twice"},
		{"known lease without checkpoint", func(m *Manifest) { first(m).Checkpoint = 0 }, "both or neither"},
		{"known above the manifest", func(m *Manifest) { first(m).Lease, first(m).Checkpoint = 3, 43 }, "above this manifest"},
		{"pending out of order", func(m *Manifest) { p := first(m).Pending; p[0], p[1] = p[1], p[0] }, "in order"},
		{"pending twice", func(m *Manifest) { first(m).Pending[1] = first(m).Pending[0] }, "in order"},
		{"pending that is known", func(m *Manifest) { pending(m).Checkpoint = 40 }, "not above"},
		{"pending of a lease before the known", func(m *Manifest) { pending(m).Lease = 1 }, "not above"},
		{"pending above the manifest", func(m *Manifest) { first(m).Pending[1].Checkpoint = 43 }, "not above"},
		{"pending of a later lease", func(m *Manifest) { first(m).Pending[1].Lease = 4 }, "not above"},
		{"pending without lease", func(m *Manifest) { first(m).Lease, first(m).Checkpoint, pending(m).Lease = 0, 0, 0 }, "is 0"},
		{"rows below 0", func(m *Manifest) { pending(m).Rows = -1 }, "below 0"},
		{"bytes below 0", func(m *Manifest) { pending(m).Bytes = -1 }, "below 0"},
		{"a version below 0", func(m *Manifest) { pending(m).Version = -1 }, "below 0"},
		{"a segment elsewhere", func(m *Manifest) { pending(m).Segments[0].Name = "log/0/1" }, "no segment"},
		{"a segment outside", func(m *Manifest) { pending(m).Segments[0].Name = "staging/../../x" }, "no segment"},
		{"a segment of another lane", func(m *Manifest) { pending(m).Segments[0].Name = SegmentName(1, 2, 1) }, "not of lane"},
		{"a segment of a later lease", func(m *Manifest) { pending(m).Segments[0].Name = SegmentName(0, 4, 1) }, "not of lane"},
		{"segment rows below 0", func(m *Manifest) { pending(m).Segments[0].Rows = -1 }, "below 0"},
		{"segment bytes below 0", func(m *Manifest) { pending(m).Segments[0].Bytes = -1 }, "below 0"},

		{"a replacement at no sink", func(m *Manifest) { m.Replaced[0].Sink = "x" }, "no such sink"},
		{"a replacement of no checkpoint", func(m *Manifest) { m.Replaced[0].Checkpoint = 0 }, "is 0"},
		{"a replacement by itself", func(m *Manifest) { m.Replaced[0].By = 0 }, "higher"},
		{"a replaced unit that is pending", func(m *Manifest) { m.Replaced[0].Unit, m.Replaced[0].By = 1, 2 }, "still pending"},
		{"a replacement without rows", func(m *Manifest) { m.Replaced[0].Rows = nil }, "no refused rows"},
		{"refused rows out of order", func(m *Manifest) { m.Replaced[0].Rows = []int64{2, 1} }, "rows[1]"},
		{"a refused row below 0", func(m *Manifest) { m.Replaced[0].Rows = []int64{-1} }, "rows[0]"},

		{"a stage that lost one", func(m *Manifest) { stage(m, 2).Filtered-- }, "I12"},
		{"a stage that made one", func(m *Manifest) { stage(m, 2).Refused++ }, "I12"},
		{"one lost between stages", func(m *Manifest) { stage(m, 3).In--; stage(m, 3).Passed-- }, "I12"},
		{"rows that one of several sinks did not get", func(m *Manifest) { *m = *routedManifest().Manifest; stage(m, 5).In--; stage(m, 5).Filtered-- }, `stage "sink:archive" took 84, and "route" passed 85`},
		{"a sink behind another", func(m *Manifest) {
			*m = *routedManifest().Manifest
			*stage(m, 5) = StageCount{Stage: "sink:archive", In: 50, Passed: 49, Refused: 1}
		}, `and "route" passed 85`},
		{"a stage behind sinks", func(m *Manifest) {
			*m = *routedManifest().Manifest
			m.Counters.Stages = append(m.Counters.Stages, StageCount{Stage: "step:late", In: 85, Passed: 85})
		}, `and "sink:archive" passed 80`},
		{"rows held below none", func(m *Manifest) { m.Sinks[1].Held = -1 }, "-1 rows held"},
		{"a letter too many", func(m *Manifest) { m.Counters.DeadLetters++ }, "I12"},
		{"a letter lost", func(m *Manifest) { m.Counters.DeadLetters-- }, "I12"},
		{"a count below 0", func(m *Manifest) { stage(m, 2).Filtered, stage(m, 2).Refused = 8, -1 }, "below 0"},
		{"counts beyond all numbers", func(m *Manifest) { stage(m, 0).Passed, stage(m, 0).Filtered = math.MaxInt64, math.MaxInt64 }, "I12"},
		{"a stage twice", func(m *Manifest) { stage(m, 1).Stage = "source" }, "twice"},
		{"a stage without name", func(m *Manifest) { stage(m, 1).Stage = "" }, "empty"},
		{"an earlier stage that lost one", func(m *Manifest) { m.Counters.Earlier[0].Passed-- }, "earlier"},

		{"kept out of order", func(m *Manifest) { m.Kept = []Seq{9, 7} }, "kept[1]"},
		{"kept 0", func(m *Manifest) { m.Kept = []Seq{0} }, "kept[0]"},
		{"pinned and not kept", func(m *Manifest) { m.Pinned = []Pin{{Seq: 8}} }, "pinned[0]: 8 is not kept"},
		{"pinned out of order", func(m *Manifest) { m.Pinned = []Pin{{Seq: 9}, {Seq: 7}} }, "pinned[1]"},
		{"pinned twice", func(m *Manifest) { m.Pinned = []Pin{{Seq: 9}, {Seq: 9}} }, "pinned[1]"},
		{"pinned objects out of order", func(m *Manifest) { m.Pinned = []Pin{{Seq: 9, Objects: []string{"b", "a"}}} }, "pinned[0]: objects[1]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := fullManifest()
			c.change(e.Manifest)
			wantFault(t, e.Manifest.Check(), fault.Corrupt, c.want)
			_, err := Encode(e)
			wantFault(t, err, fault.Corrupt, c.want)
			// The same rule holds for what is read: a faulty writer's bytes are refused too.
			body, err := marshal(e.Manifest)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Decode(seal(kindManifest, body)); err == nil || fault.KindOf(err) != fault.Corrupt {
				t.Errorf("got %v from Decode, want fault.Corrupt", err)
			}
		})
	}
}

func TestManifestCheck_takesWhatIsAllowed(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(m *Manifest)
	}{
		{"nothing at all", func(m *Manifest) { *m = Manifest{StoreID: m.StoreID, Pipeline: m.Pipeline, Lease: 1, Checkpoint: 1} }},
		{"an earlier lease with a higher checkpoint", func(m *Manifest) { m.Sinks[0].Pending[0].Checkpoint = 1000 }},
		{"a replacement in an older unit's place, under a newer lease's segment", func(m *Manifest) {
			m.Sinks[0].Pending[0].Segments[0].Name = SegmentName(0, 3, 9)
		}},
		{"this checkpoint known already, as at-least-once does", func(m *Manifest) {
			m.Sinks[0] = SinkState{Name: "sink", Lease: 3, Checkpoint: 42}
		}},
		{"a bounded split that is not finished at its bound", func(m *Manifest) { m.Shards[1].Splits[0].Finished = false }},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := fullManifest()
			c.change(e.Manifest)
			if err := e.Manifest.Check(); err != nil {
				t.Errorf("got %v, want nil", err)
			}
		})
	}
}

func TestClaimCheck_findsEveryBrokenRule(t *testing.T) {
	for _, c := range []struct {
		change func(c *Claim)
		want   string
	}{
		{func(c *Claim) { c.Lease = 0 }, "lease 0"},
		{func(c *Claim) { c.Nonce = "" }, "nonce"},
		{func(c *Claim) { c.StoreID = "" }, "store ID"},
		{func(c *Claim) { c.Pipeline = "store" }, "pipeline ID"},
	} {
		claim := claimEntry().Claim
		if err := claim.Check(); err != nil {
			t.Fatalf("got %v before any change, want nil", err)
		}
		c.change(claim)
		wantFault(t, claim.Check(), fault.Corrupt, c.want)
	}
}
