package checkpoint

import (
	"strings"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/source"
)

// Seq is the number of an entry in a lane's commit log. Numbers are dense and begin at 1 (I4).
type Seq uint64

// Entry is one entry of the log: exactly one of its fields is set. An entry never changes after it was created.
type Entry struct {
	Claim    *Claim
	Manifest *Manifest
}

// Lease returns the lease that the entry belongs to.
func (e Entry) Lease() record.Lease {
	if e.Claim != nil {
		return e.Claim.Lease
	}
	return e.Manifest.Lease
}

// Claim is the entry by which a run takes the next lease. Once it is effective no older lease can publish.
type Claim struct {
	Lease    record.Lease `json:"lease"`
	Nonce    string       `json:"nonce"` // of the run, random
	StoreID  string       `json:"store_id"`
	Pipeline string       `json:"pipeline_id"`
	Lane     record.Lane  `json:"lane"`
	Who      string       `json:"who"`            // host, process ID, version: for people
	Time     int64        `json:"time"`           // milliseconds since 1970, for people only
	Plan     string       `json:"plan,omitempty"` // reserved: the plan that made the run claim
}

// Manifest describes one checkpoint. Publishing it, by create-if-absent at the next number of the log, is the commit point.
type Manifest struct {
	StoreID      string            `json:"store_id"`
	Pipeline     string            `json:"pipeline_id"`
	Lane         record.Lane       `json:"lane"`
	Lease        record.Lease      `json:"lease"`
	Checkpoint   record.Checkpoint `json:"checkpoint"`
	ConfigDigest string            `json:"config_digest"`
	Time         int64             `json:"time"`             // of the cut, milliseconds since 1970, for people only
	Author       string            `json:"author,omitempty"` // when made by hand
	Reason       string            `json:"reason,omitempty"` // when made by hand

	Shards   []Shard     `json:"shards"`             // sorted by ID
	Sinks    []SinkState `json:"sinks"`              // in the order of the config
	Replaced []Replaced  `json:"replaced,omitempty"` // rows refused at commit since the checkpoint before
	Counters Counters    `json:"counters"`
	// Kept lists the log numbers of the earlier manifests that are still there, lowest first, so that a later run knows what
	// it may collect without reading the whole log.
	Kept []Seq `json:"kept,omitempty"`
	// Pinned lists those of Kept that stay until a person lets them go, lowest first.
	Pinned []Pin `json:"pinned,omitempty"`
}

// Pin keeps an earlier manifest and what it needs, however many came since.
type Pin struct {
	Seq Seq `json:"log"` // its number in the log
	// Objects are those of its keyed state, as [KeyedState] lists them: no run collects them.
	Objects []string `json:"objects,omitempty"`
}

// Pin returns the pin of an earlier manifest, nil if it is not pinned.
func (m *Manifest) Pin(seq Seq) *Pin {
	for i := range m.Pinned {
		if m.Pinned[i].Seq == seq {
			return &m.Pinned[i]
		}
	}
	return nil
}

// ShardOwned is the status of a shard that the lane reads. Readers refuse every status that they don't know.
const ShardOwned = "owned"

// Shard is what moves between lanes: splits with their positions, and key groups with their state. Without keyed state one
// split is one shard, and its ID is the split's name.
type Shard struct {
	ID     string         `json:"id"`
	Epoch  uint64         `json:"epoch"` // begins at 1, counts moves
	Status string         `json:"status"`
	To     *record.Lane   `json:"to,omitempty"`
	From   []record.Lane  `json:"from,omitempty"`
	Splits []source.Split `json:"splits"`
	State  *KeyedState    `json:"state,omitempty"` // of the shard's key groups
}

// StateShard is the ID of the shard that holds all key groups of a pipeline with keyed steps. No split has this name.
const StateShard = "//state"

// KeyedState is what a manifest says of keyed state: where it lies and which key groups it is of.
type KeyedState struct {
	// Groups is the number of key groups of the pipeline, fixed at its first start. The shard has all of them, from 0.
	Groups int `json:"groups"`
	// Watermark is how far event time had come at the barrier, milliseconds since 1970; the least int64 when it is not known.
	Watermark int64 `json:"watermark"`
	// Version and Data are package state/local's own.
	Version int    `json:"version"`
	Data    []byte `json:"data"`
	// Objects names everything in the store that Data refers to, below the pipeline's folder, sorted (I9).
	Objects []string `json:"objects,omitempty"`
}

// SinkState is what a manifest says about one sink.
type SinkState struct {
	Name string `json:"name"`
	// Lease and Checkpoint are the last that is known Committed here; 0 before the first.
	Lease      record.Lease      `json:"lease"`
	Checkpoint record.Checkpoint `json:"checkpoint"`
	// Pending are the committables that are decided and not known Committed, in the order in which they are committed: all
	// that were published before, by any lease, and this checkpoint's own.
	Pending []sink.Committable `json:"pending,omitempty"`
	// Held counts rows that are prepared and decided and that no committable names so far: the sink collects them, by its state.
	Held int64 `json:"held,omitzero"`
	// State is the sink's own.
	State []byte `json:"state,omitempty"`
}

// Unfinished reports whether the sink has rows that are decided and may not be in its target.
func (s *SinkState) Unfinished() bool { return len(s.Pending) > 0 || s.Held > 0 }

// Replaced records that rows of a unit were refused at commit and that another unit took its place.
type Replaced struct {
	Sink       string            `json:"sink"`
	Lease      record.Lease      `json:"lease"`
	Checkpoint record.Checkpoint `json:"checkpoint"`
	Unit       record.Unit       `json:"unit"` // the unit that is no more
	By         record.Unit       `json:"by"`
	Rows       []int64           `json:"rows"` // places of the refused rows in the old unit
}

// Counters count every record since the pipeline began (I12), stage by stage in the order of the way: "source", "decode",
// "step:NAME", "route", "sink:NAME". The sinks are side by side: each takes in what the last stage before them handed on.
type Counters struct {
	Stages []StageCount `json:"stages"`
	// DeadLetters is what the dead-letter sink took: the sum of what all stages refused.
	DeadLetters int64 `json:"dead_letters"`
	// Earlier holds the totals of stages as they were before the list of stages changed with the config. They don't form a
	// chain any more, and DeadLetters does not contain them.
	Earlier []StageCount `json:"earlier,omitempty"`
}

// StageCount is one stage's account: In = Passed + Filtered + Refused + Deduplicated + Absorbed + Late, and the next stage's In
// is this one's Passed + Made.
type StageCount struct {
	Stage        string `json:"stage"`
	In           int64  `json:"in"`
	Passed       int64  `json:"passed"`
	Filtered     int64  `json:"filtered"`
	Refused      int64  `json:"refused"`
	Deduplicated int64  `json:"deduplicated,omitempty"` // rows whose key was seen before
	Absorbed     int64  `json:"absorbed,omitempty"`     // rows that live on in state
	Late         int64  `json:"late,omitempty"`         // rows that came after their window was gone, where these are dropped
	Made         int64  `json:"made,omitempty"`         // rows that the stage added
}

// Add adds another account of the same stage.
func (s *StageCount) Add(d StageCount) {
	s.In, s.Passed, s.Filtered, s.Refused = s.In+d.In, s.Passed+d.Passed, s.Filtered+d.Filtered, s.Refused+d.Refused
	s.Deduplicated, s.Absorbed, s.Late, s.Made = s.Deduplicated+d.Deduplicated, s.Absorbed+d.Absorbed, s.Late+d.Late, s.Made+d.Made
}

// Out is what the stage hands to the next one.
func (s *StageCount) Out() int64 { return s.Passed + s.Made }

func (s *StageCount) balanced() bool {
	return s.In == s.Passed+s.Filtered+s.Refused+s.Deduplicated+s.Absorbed+s.Late
}

// Positions returns where every split stands, in the order of shards.
func (m *Manifest) Positions() []source.Position {
	var out []source.Position
	for _, sh := range m.Shards {
		for _, sp := range sh.Splits {
			out = append(out, sp.Position)
		}
	}
	return out
}

// SplitCount returns how many splits the manifest lists.
func (m *Manifest) SplitCount() int {
	n := 0
	for _, sh := range m.Shards {
		n += len(sh.Splits)
	}
	return n
}

// State returns what the manifest says of keyed state, nil without any.
func (m *Manifest) State() *KeyedState {
	for i := range m.Shards {
		if m.Shards[i].State != nil {
			return m.Shards[i].State
		}
	}
	return nil
}

// Balanced reports whether every record is accounted for (I12): at each stage as [StageCount] says, and the dead letters are what
// all stages refused.
func (c *Counters) Balanced() bool {
	var refused int64
	for i := range c.Stages {
		s := &c.Stages[i]
		if before := c.before(i); !s.balanced() || before != nil && s.In != before.Out() {
			return false
		}
		refused += s.Refused
	}
	return c.DeadLetters == refused
}

// before returns the stage whose rows a stage takes in, nil for the first: the one in front of it, and for each of several sinks the
// one in front of them all.
func (c *Counters) before(i int) *StageCount {
	isSink := strings.HasPrefix(c.Stages[i].Stage, SinkStage)
	for i--; i >= 0; i-- {
		if !isSink || !strings.HasPrefix(c.Stages[i].Stage, SinkStage) {
			return &c.Stages[i]
		}
	}
	return nil
}

// SinkStage begins the name of a sink's stage in [Counters] and in dead letters; the sink's own name follows.
const SinkStage = "sink:"
