package checkpoint

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/source"
)

// Check reports the first rule that the claim breaks, as fault.Corrupt.
func (c *Claim) Check() error {
	if err := c.check(); err != nil {
		return fault.E("checkpoint.Check", fault.Corrupt, err)
	}
	return nil
}

func (c *Claim) check() error {
	if err := checkOwner(c.StoreID, c.Pipeline, c.Lease); err != nil {
		return err
	}
	if c.Nonce == "" {
		return errors.New("no nonce")
	}
	return nil
}

// Check reports the first rule that the manifest breaks, as fault.Corrupt:
//
//   - store ID, pipeline ID, lease and checkpoint are set;
//   - shards are sorted by ID and unique, of epoch 1 or higher and of a known status; no split is in two of them, and what is
//     finished stands at or above its bound;
//   - sinks are unique; pending committables are in order of (lease, checkpoint, unit), above the last that is known Committed
//     and not above this manifest; their segments lie in this lane's staging folder, under a lease up to this one;
//   - a replaced unit is pending no more;
//   - the counters balance (I12): as StageCount says, a stage's In is what the stage before handed on (for each sink: the last
//     stage before all sinks), and DeadLetters is what all stages refused;
//   - Kept is in order, and so is Pinned, which names none that is not kept.
func (m *Manifest) Check() error {
	if err := m.check(); err != nil {
		return fault.E("checkpoint.Check", fault.Corrupt, err)
	}
	return nil
}

func (m *Manifest) check() error {
	if err := checkOwner(m.StoreID, m.Pipeline, m.Lease); err != nil {
		return err
	}
	if m.Checkpoint == 0 {
		return errors.New("checkpoint 0, want at least 1")
	}
	if err := checkShards(m.Shards); err != nil {
		return err
	}
	for i := range m.Sinks {
		if err := m.checkSink(i); err != nil {
			return fmt.Errorf("sinks[%d] %q: %w", i, m.Sinks[i].Name, err)
		}
	}
	for i := range m.Replaced {
		if err := m.checkReplaced(i); err != nil {
			return fmt.Errorf("replaced[%d] of sink %q: %w", i, m.Replaced[i].Sink, err)
		}
	}
	if err := m.Counters.check(); err != nil {
		return fmt.Errorf("counters (I12): %w", err)
	}
	if err := checkKept(m.Kept); err != nil {
		return err
	}
	return m.checkPinned()
}

func checkOwner(storeID, pipeline string, lease record.Lease) error {
	if storeID == "" {
		return errors.New("no store ID")
	}
	if err := checkPipelineID(pipeline); err != nil {
		return err
	}
	if lease == 0 {
		return errors.New("lease 0, want at least 1")
	}
	return nil
}

func checkShards(shards []Shard) error {
	splits := make(map[string]string, len(shards)) // split to shard
	for i := range shards {
		s := &shards[i]
		if i > 0 && shards[i-1].ID >= s.ID {
			return fmt.Errorf("shards[%d]: %q stands behind %q, want sorted and unique", i, s.ID, shards[i-1].ID)
		}
		if err := s.check(); err != nil {
			return fmt.Errorf("shards[%d] %q: %w", i, s.ID, err)
		}
		for j := range s.Splits {
			name := s.Splits[j].Split
			if other, taken := splits[name]; taken {
				return fmt.Errorf("shards[%d] %q: split %q is in shard %q already", i, s.ID, name, other)
			}
			splits[name] = s.ID
		}
	}
	return nil
}

func (s *Shard) check() error {
	switch {
	case s.ID == "":
		return errors.New("no ID")
	case s.Epoch == 0:
		return errors.New("epoch 0, want at least 1")
	case s.Status != ShardOwned:
		return fmt.Errorf("status %q is not known", s.Status)
	case s.To != nil:
		return fmt.Errorf("owned, and on its way to lane %d", *s.To)
	}
	for i := range s.Splits {
		if err := checkSplit(&s.Splits[i]); err != nil {
			return fmt.Errorf("splits[%d] %q: %w", i, s.Splits[i].Split, err)
		}
	}
	if (s.State != nil) != (s.ID == StateShard) {
		return fmt.Errorf("state belongs to the shard %q, and to no other", StateShard)
	}
	if s.State != nil {
		return s.State.check()
	}
	return nil
}

func (k *KeyedState) check() error {
	const groupsMax = 1 << 16
	switch {
	case k.Groups < 1 || k.Groups > groupsMax:
		return fmt.Errorf("state: %d key groups", k.Groups)
	case k.Version < 1:
		return fmt.Errorf("state: version %d", k.Version)
	}
	for i, name := range k.Objects {
		if i > 0 && k.Objects[i-1] >= name {
			return fmt.Errorf("state: objects[%d]: %q stands behind %q, want sorted and unique", i, name, k.Objects[i-1])
		}
	}
	return nil
}

func checkSplit(s *source.Split) error {
	switch {
	case s.Split == "":
		return errors.New("no name")
	case s.Offset < 0:
		return fmt.Errorf("offset %d, want a resolved one", s.Offset)
	case s.LeaderEpoch < record.NoLeaderEpoch:
		return fmt.Errorf("leader epoch %d", s.LeaderEpoch)
	case s.Until < source.Unbounded:
		return fmt.Errorf("end bound %d", s.Until)
	case s.Finished && s.Until == source.Unbounded:
		return errors.New("finished without an end bound")
	case s.Finished && s.Offset < s.Until:
		return fmt.Errorf("finished at offset %d, below its bound %d", s.Offset, s.Until)
	}
	return nil
}

// cut orders what a manifest names across runs (I13).
type cut struct {
	lease      record.Lease
	checkpoint record.Checkpoint
	unit       record.Unit
}

func (a cut) compare(b cut) int {
	return cmp.Or(cmp.Compare(a.lease, b.lease), cmp.Compare(a.checkpoint, b.checkpoint), cmp.Compare(a.unit, b.unit))
}

func (m *Manifest) checkSink(i int) error {
	s := &m.Sinks[i]
	if s.Name == "" {
		return errors.New("no name")
	}
	if slices.ContainsFunc(m.Sinks[:i], func(o SinkState) bool { return o.Name == s.Name }) {
		return errors.New("named twice")
	}
	if s.Held < 0 {
		return fmt.Errorf("%d rows held, want none below 0", s.Held)
	}
	if (s.Lease == 0) != (s.Checkpoint == 0) {
		return fmt.Errorf("known committed is lease %d, checkpoint %d, want both or neither", s.Lease, s.Checkpoint)
	}
	own := cut{lease: m.Lease, checkpoint: m.Checkpoint}
	known := cut{lease: s.Lease, checkpoint: s.Checkpoint}
	if known.compare(own) > 0 {
		return fmt.Errorf("known committed is lease %d, checkpoint %d, above this manifest", s.Lease, s.Checkpoint)
	}
	before := cut{}
	for j := range s.Pending {
		c := &s.Pending[j]
		id := cut{c.Lease, c.Checkpoint, c.Unit}
		if j > 0 && id.compare(before) <= 0 {
			return fmt.Errorf("pending[%d]: %v stands behind %v, want in order of lease, checkpoint and unit", j, id, before)
		}
		before = id
		id.unit = 0
		if id.compare(known) <= 0 || id.compare(own) > 0 {
			return fmt.Errorf("pending[%d]: %v is not above what is known committed, %v, up to this manifest, %v", j, id, known, own)
		}
		if err := m.checkCommittable(c); err != nil {
			return fmt.Errorf("pending[%d] %v: %w", j, before, err)
		}
	}
	return nil
}

// String names a cut in error texts.
func (a cut) String() string {
	return fmt.Sprintf("lease %d checkpoint %d unit %d", a.lease, a.checkpoint, a.unit)
}

func (m *Manifest) checkCommittable(c *sink.Committable) error {
	if c.Lease == 0 || c.Checkpoint == 0 {
		return errors.New("lease or checkpoint is 0, want at least 1")
	}
	if c.Rows < 0 || c.Bytes < 0 || c.Version < 0 {
		return fmt.Errorf("%d rows, %d bytes, version %d, want none below 0", c.Rows, c.Bytes, c.Version)
	}
	for i := range c.Segments {
		g := &c.Segments[i]
		lane, lease, err := parseSegment(g.Name)
		switch {
		case err != nil:
			return fmt.Errorf("segments[%d]: %w", i, err)
		case lane != m.Lane || lease > m.Lease:
			return fmt.Errorf("segments[%d] %q: not of lane %d and of a lease up to %d", i, g.Name, m.Lane, m.Lease)
		case g.Rows < 0 || g.Bytes < 0:
			return fmt.Errorf("segments[%d] %q: %d rows, %d bytes, want none below 0", i, g.Name, g.Rows, g.Bytes)
		}
	}
	return nil
}

func (m *Manifest) checkReplaced(i int) error {
	r := &m.Replaced[i]
	at := slices.IndexFunc(m.Sinks, func(s SinkState) bool { return s.Name == r.Sink })
	if at < 0 {
		return errors.New("no such sink")
	}
	if r.Lease == 0 || r.Checkpoint == 0 {
		return errors.New("lease or checkpoint is 0, want at least 1")
	}
	if r.By <= r.Unit {
		return fmt.Errorf("unit %d is replaced by unit %d, want a higher one", r.Unit, r.By)
	}
	if slices.ContainsFunc(m.Sinks[at].Pending, func(c sink.Committable) bool {
		return c.Lease == r.Lease && c.Checkpoint == r.Checkpoint && c.Unit == r.Unit
	}) {
		return fmt.Errorf("unit %d of lease %d checkpoint %d is still pending", r.Unit, r.Lease, r.Checkpoint)
	}
	if len(r.Rows) == 0 {
		return errors.New("no refused rows")
	}
	for j, row := range r.Rows {
		if row < 0 || j > 0 && r.Rows[j-1] >= row {
			return fmt.Errorf("rows[%d]: %d, want sorted, unique and none below 0", j, row)
		}
	}
	return nil
}

// check holds I12: no record disappears between stages.
func (c *Counters) check() error {
	refused := int64(0)
	names := make(map[string]bool, len(c.Stages))
	for i := range c.Stages {
		s := &c.Stages[i]
		if s.Stage == "" || names[s.Stage] {
			return fmt.Errorf("stages[%d]: name %q is empty or stands twice", i, s.Stage)
		}
		names[s.Stage] = true
		if err := s.check(); err != nil {
			return fmt.Errorf("stage %q: %w", s.Stage, err)
		}
		if before := c.before(i); before != nil && s.In != before.Out() {
			return fmt.Errorf("stage %q took %d, and %q passed %d", s.Stage, s.In, before.Stage, before.Out())
		}
		if s.Refused > math.MaxInt64-refused {
			return fmt.Errorf("stage %q: more refused than can be counted", s.Stage)
		}
		refused += s.Refused
	}
	if c.DeadLetters != refused {
		return fmt.Errorf("%d dead letters, and the stages refused %d", c.DeadLetters, refused)
	}
	for i := range c.Earlier {
		if err := c.Earlier[i].check(); err != nil {
			return fmt.Errorf("earlier stage %q: %w", c.Earlier[i].Stage, err)
		}
	}
	return nil
}

func (s *StageCount) check() error {
	if s.In < 0 || s.Made < 0 || s.Made > math.MaxInt64-s.In {
		return errors.New("a count below 0, or one that is too high")
	}
	left := s.In
	parts := []int64{s.Passed, s.Filtered, s.Refused, s.Deduplicated, s.Absorbed, s.Late}
	if slices.Min(parts) < 0 {
		return errors.New("a count below 0")
	}
	for _, n := range parts {
		if left -= n; left < 0 {
			break
		}
	}
	if left != 0 {
		return fmt.Errorf("took %d, and passed %d, filtered %d, refused %d, deduplicated %d, absorbed %d, late %d",
			s.In, s.Passed, s.Filtered, s.Refused, s.Deduplicated, s.Absorbed, s.Late)
	}
	return nil
}

func checkKept(kept []Seq) error {
	for i, seq := range kept {
		if seq == 0 || i > 0 && kept[i-1] >= seq {
			return fmt.Errorf("kept[%d]: %d, want sorted, unique and none below 1", i, seq)
		}
	}
	return nil
}

func (m *Manifest) checkPinned() error {
	for i, p := range m.Pinned {
		switch {
		case i > 0 && m.Pinned[i-1].Seq >= p.Seq:
			return fmt.Errorf("pinned[%d]: %d, want sorted and unique", i, p.Seq)
		case !slices.Contains(m.Kept, p.Seq):
			return fmt.Errorf("pinned[%d]: %d is not kept", i, p.Seq)
		}
		for j, name := range p.Objects {
			if j > 0 && p.Objects[j-1] >= name {
				return fmt.Errorf("pinned[%d]: objects[%d]: %q stands behind %q, want sorted and unique", i, j, name, p.Objects[j-1])
			}
		}
	}
	return nil
}
