// Package pipeline runs pipelines: tasks that read, decode, transform and write, a driver that does what the pure machine
// decides, a supervisor that restarts by the recovery path, the memory budget, and the guarantee that a pipeline's parts allow.
package pipeline

import (
	"fmt"
	"time"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/source"
	"github.com/ingestd/ingestd/state/local"
	"github.com/ingestd/ingestd/step"
)

// The names of sinks in manifests, ledgers and metrics: that of the only sink unless it has another, and that of the dead letters'.
const (
	MainSink       = config.SinkID
	DeadLetterSink = "dead_letter"
)

// Route is one sink of a pipeline, and which rows go there.
type Route struct {
	// Name is the sink's identity in manifests, ledgers and fences: another name is another sink. Unique, not [DeadLetterSink].
	Name string
	Sink sink.Plugin
	When string // an expression that is true for the rows that the sink takes; "": all
}

// Definition is one configured pipeline, made of plugins that have done no I/O yet.
type Definition struct {
	Name     string // in the config
	ID       string // in stores, ledgers and fences; by default the name
	Delivery config.Delivery
	Digest   string // of the config, without secrets
	Tasks    int    // how many tasks share the splits, and as many the key groups; at least 1
	// KeyGroups is the number of key groups that the first start fixes; 0: the default, or what is fixed.
	KeyGroups int

	Source source.Source
	Codec  codec.Factory
	Steps  []step.Step // keyed ones by [Keyed]
	Tables []Table     // one for each enrich step
	// EventTime is how keyed steps that work by event time are told how far it has come.
	EventTime step.WatermarkOptions
	// DiscardState names steps whose stored state is given up: the supervisor passes it on once, with the first state that is
	// restored, and never to what was kept since.
	DiscardState []string
	// StateMemory bounds what keyed state takes of memory: half of it belongs to the local database, the rest to the tasks.
	StateMemory int64
	// StateLimits say when a base of keyed state is made; the zero value is good.
	StateLimits local.Limits
	// Sink is short for one of Sinks that is called [MainSink] and takes all rows.
	Sink sink.Plugin
	// Sinks take the rows, each those that it wants, in one checkpoint. Empty where Sink is set.
	Sinks []Route
	// DeadLetter takes what was refused; nil: a refused record stops the pipeline.
	DeadLetter sink.Plugin
	// MaxRatio of refused records among the last RatioWindow stops the pipeline; RatioWindow 0 never does.
	MaxRatio    float64
	RatioWindow int64

	Store      checkpoint.Store
	Checkpoint CheckpointSettings
	Restart    RestartSettings
	// StallAfter is how long nothing may move while there is something to do before it is called a stall.
	StallAfter time.Duration
	// ShutdownTimeout bounds the wait for commits at the end; what is left is finished by the next start.
	ShutdownTimeout time.Duration
	// DiscoveryInterval is the time between looks for new splits.
	DiscoveryInterval time.Duration
}

// CheckpointSettings say when checkpoints are cut and what is kept.
type CheckpointSettings struct {
	Interval   time.Duration
	Bytes      int64         // read bytes that ask for a checkpoint before the interval is over; 0 never
	Keep       int           // manifests that stay; at least 1
	MaxPending int           // checkpoints that may wait for their commit
	Timeout    time.Duration // how long the tasks' parts of one checkpoint may take
}

// RestartSettings bound the exponential backoff between runs of a pipeline.
type RestartSettings struct {
	Initial time.Duration
	Max     time.Duration
	Limit   int // restarts in a row after which the pipeline stays down; 0 never
}

// routes lists the sinks that take rows, in the order of commits.
func (d *Definition) routes() []Route {
	if d.Sink != nil {
		return []Route{{Name: MainSink, Sink: d.Sink}}
	}
	return d.Sinks
}

// routed reports whether rows are told apart before the sinks, which is a stage of its own: there a row that no sink wants ends.
func (d *Definition) routed() bool {
	routes := d.routes()
	return len(routes) > 1 || len(routes) == 1 && routes[0].When != ""
}

// routeStage is the name of the stage in front of the sinks, in counters.
const routeStage = "route"

// stages lists a pipeline's stages in the order of a record's way, as counters name them; the sinks at the end are side by side.
func (d *Definition) stages() []string {
	out := []string{"source", "decode"}
	for _, s := range d.Steps {
		out = append(out, "step:"+s.Name())
	}
	if d.routed() {
		out = append(out, routeStage)
	}
	for _, r := range d.routes() {
		out = append(out, checkpoint.SinkStage+r.Name)
	}
	return out
}

// stepsAt is the place of the first step among the stages.
const stepsAt = 2

// sinks returns the plugins in the order of commits, with their names; that of the dead letters is the last.
func (d *Definition) sinks() (plugins []sink.Plugin, names []string) {
	for _, r := range d.routes() {
		plugins, names = append(plugins, r.Sink), append(names, r.Name)
	}
	if d.DeadLetter != nil {
		plugins, names = append(plugins, d.DeadLetter), append(names, DeadLetterSink)
	}
	return plugins, names
}

// SinkNames lists the pipeline's sinks by name, that of the dead letters among them.
func (d *Definition) SinkNames() []string {
	_, names := d.sinks()
	return names
}

// minimumBytes is the least that a pipeline needs of the budget to make progress: a full fetch for each task, twice, so that
// one is read while the other is written, and no less than the source may ask for at once.
func (d *Definition) minimumBytes() int64 {
	n := int64(d.parts()) * 2 * taskBytesMin // what waits on the edges to the keyed tasks is the memory of fetches
	if s, ok := d.Source.(source.Sizer); ok {
		n = max(n, s.AcquireMax())
	}
	for i := range d.Tables {
		if s, ok := d.Tables[i].Source.(source.Sizer); ok {
			n = max(n, s.AcquireMax())
		}
	}
	return n
}

// taskBytesMin is the size of the largest fetch that a reader hands out when nothing else limits it.
const taskBytesMin = 4 << 20

// commitBytes is what the pipeline's commits and keyed state may take beside the budget.
func (d *Definition) commitBytes() int64 {
	var n int64
	if d.hasState() {
		n += d.StateMemory
	}
	plugins, _ := d.sinks()
	for _, p := range plugins {
		n += p.Capabilities().CommitBytes
	}
	return n
}

// DivideMemory splits the daemon's memory limit into what commits may take and the budget of data in flight, and gives each
// pipeline its minimum. It refuses a limit that is below the sum.
func DivideMemory(limit int64, defs []*Definition) (*Budget, map[string]*Share, error) {
	var commits, minimum int64
	for _, d := range defs {
		commits += d.commitBytes()
		minimum += d.minimumBytes()
	}
	if limit < commits+minimum {
		return nil, nil, fault.E("pipeline.DivideMemory", fault.Misconfigured,
			fmt.Errorf("memory_limit is %s, but the pipelines need at least %s: %s for commits and %s for data in flight",
				mebibytes(limit), mebibytes(commits+minimum), mebibytes(commits), mebibytes(minimum)))
	}
	b := NewBudget(limit - commits)
	shares := map[string]*Share{}
	for _, d := range defs {
		shares[d.Name] = b.Share(d.minimumBytes())
	}
	return b, shares, nil
}

// mebibytes prints a number of bytes so that no limit that is too small looks like one that is not.
func mebibytes(n int64) string {
	if n%(1<<20) == 0 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%.1f MiB (%d bytes)", float64(n)/(1<<20), n)
}
