package config

import (
	"fmt"
	"strings"
	"time"
)

// Delivery is what a pipeline guarantees.
type Delivery string

// The guarantees that a pipeline can be configured for.
const (
	ExactlyOnce Delivery = "exactly-once"
	AtLeastOnce Delivery = "at-least-once"
)

// Pipeline holds the settings of one [pipeline.NAME] table and the sections of its plugins.
type Pipeline struct {
	// Name is the NAME in [pipeline.NAME].
	Name string
	// ID is what stores and sinks know the pipeline by; by default its name.
	ID string `config:"id"`
	// Delivery is the guarantee that is asked for.
	Delivery Delivery `config:"delivery"`
	// Tasks is the number of tasks; 0: as many as the daemon may use processors.
	Tasks int `config:"tasks"`
	// Source and Decode are never nil when the file has no error.
	Source, Decode *Section
	// Sinks are in the order of the file; at least one when the file has no error.
	Sinks []Sink
	// Steps are in the order of the file.
	Steps []*Section
	// DeadLetter is nil if there is none; then a record that can't be decoded stops the pipeline.
	DeadLetter *Section
	// DeadLetterLimits says when too many records are refused.
	DeadLetterLimits DeadLetterLimits
	// Checkpoint says when to take checkpoints and where to keep them.
	Checkpoint Checkpoint
	// Restart says how to restart the pipeline after a failure.
	Restart Restart
	// State holds the settings of keyed state.
	State State
	// EventTime says how far event time has come when rows of several splits are out of order.
	EventTime EventTime
}

// Sink is one of a pipeline's sinks: its section, and the keys of it that the pipeline itself obeys.
type Sink struct {
	*Section
	// ID is what ledgers and fences know the sink by; by default [SinkID] if it is the only one.
	ID string `config:"id"`
	// When is the condition for a row to go there; empty: every row does.
	When string `config:"when"`
}

// SinkID is the ID of a pipeline's only sink if it has no other.
const SinkID = "sink"

// DeadLetterLimits holds the keys of [pipeline.NAME.dead_letter] that the pipeline itself obeys.
type DeadLetterLimits struct {
	// MaxRatio is the part of the last RatioWindow records that may be dead letters; 1: no limit.
	MaxRatio float64 `config:"max_ratio"`
	// RatioWindow is a number of records.
	RatioWindow int64 `config:"ratio_window"`
}

// Checkpoint holds the settings of the [pipeline.NAME.checkpoint] table.
type Checkpoint struct {
	// Interval is the time between two barriers.
	Interval time.Duration `config:"interval"`
	// Bytes is the amount of input that brings the barrier earlier; 0: only time does.
	Bytes Bytes `config:"bytes"`
	// Keep is the number of past checkpoints that can be gone back to.
	Keep int `config:"keep"`
	// Timeout is how long the parts of one checkpoint may take until the pipeline is recovered.
	Timeout time.Duration `config:"timeout"`
	// MaxPending is the number of published checkpoints that may wait for their commit before the input waits too.
	MaxPending int `config:"max_pending"`
	// Store is the section of the store plugin, the same table; never nil.
	Store *Section
}

// Restart holds the settings of the [pipeline.NAME.restart] table.
type Restart struct {
	// BackoffMin is the pause after the first failure; it doubles with each failure that follows.
	BackoffMin time.Duration `config:"backoff_min"`
	// BackoffMax is the longest pause.
	BackoffMax time.Duration `config:"backoff_max"`
	// Limit is the number of failures in a row that stops the pipeline; 0: none does.
	Limit int `config:"limit"`
}

// State holds the settings of the [pipeline.NAME.state] table.
type State struct {
	// KeyGroups is the number of key groups that the first start fixes; 0: the default, or what is fixed.
	KeyGroups int `config:"key_groups"`
	// Memory is what keyed state may take of it.
	Memory Bytes `config:"memory"`
}

// EventTime holds the settings of the [pipeline.NAME.event_time] table.
type EventTime struct {
	// Disorder is how far back in event time a record may be behind the newest one of its split.
	Disorder time.Duration `config:"disorder"`
	// IdleAfter is the time without records after which a split is not waited for; 0: it always is.
	IdleAfter time.Duration `config:"idle_after"`
	// AheadMax is how far a record's time may be ahead of the clock and still move event time; 0: any may.
	AheadMax time.Duration `config:"ahead_max"`
}

// Pipelines checks everything but [daemon] and returns the pipelines in the order of the file. Each plugin's section has
// been checked against its spec in reg; Decode gives its values. Errors go to [File.Err]; if there are any, the result may
// lack what they are about.
func (f *File) Pipelines(reg Registry) []Pipeline {
	for _, field := range f.root.fields {
		if field.name != "daemon" && field.name != "pipeline" {
			f.report(field.value.key, Error{
				Key: keyText(field.name), Message: "unknown key", Hint: didYouMean(field.name, []string{"daemon", "pipeline"}),
			})
		}
	}
	all := f.root.get("pipeline")
	if all == nil || (all.form == formTable && len(all.fields) == 0) {
		if !f.damaged {
			f.report(0, Error{Message: "the file has no pipeline", Expected: "a table [pipeline.NAME]"})
		}
		return nil
	}
	d := decoding{file: f, ok: true}
	if !d.form(all, "pipeline", &Key{Kind: KindTable}, formTable) {
		return nil
	}
	var list []Pipeline
	owners := make(map[string]string)
	for _, field := range all.fields {
		p, ok := f.pipeline(field, reg)
		if !ok {
			continue
		}
		if owner, taken := owners[p.ID]; taken {
			f.report(field.value.key, Error{
				Key: join("pipeline", p.Name), Message: "the id " + quote(p.ID) + " is that of the pipeline " + owner,
				Hint: "ids must differ: positions and state are kept under them",
			})
		}
		owners[p.ID] = p.Name
		list = append(list, p)
	}
	return list
}

// pipeline reads one pipeline; false if it is no table at all.
func (f *File) pipeline(from field, reg Registry) (Pipeline, bool) {
	p := Pipeline{Name: from.name}
	path := join("pipeline", from.name)
	if problem := nameProblem(from.name); problem != "" {
		f.report(from.value.key, Error{Key: path, Message: problem, Expected: nameExpected})
	}
	d := decoding{file: f, ok: true}
	if !d.form(from.value, path, &Key{Kind: KindTable}, formTable) {
		return p, false
	}
	spec := pipelineSpec()
	t, err := targetOf(&p)
	if err != nil {
		return p, false
	}
	d.table(from.value, path, &spec, t, subtables())
	if p.ID == "" {
		p.ID = p.Name
	} else if problem := nameProblem(p.ID); problem != "" {
		f.report(from.value.get("id").at, Error{Key: path + ".id", Message: problem, Expected: nameExpected})
	}
	b := sections{file: f, reg: reg, parent: from.value, path: path}
	p.Source = b.required(RoleSource)
	p.Decode = b.required(RoleDecode)
	p.Steps = b.steps()
	p.Sinks = b.sinks()
	limits := deadLetterSpec()
	p.DeadLetter = b.table(RoleDeadLetter, &limits, &p.DeadLetterLimits)
	checkpoint := checkpointSpec()
	p.Checkpoint.Store = b.store(&checkpoint, &p.Checkpoint)
	restart := restartSpec()
	if s := b.plain("restart", &restart, &p.Restart); s != nil && p.Restart.BackoffMax < p.Restart.BackoffMin {
		s.Errorf("backoff_max", "%q is below backoff_min, %q", formatDuration(p.Restart.BackoffMax), formatDuration(p.Restart.BackoffMin))
	}
	state, eventTime := stateSpec(), eventTimeSpec()
	b.plain("state", &state, &p.State)
	b.plain("event_time", &eventTime, &p.EventTime)
	return p, true
}

const nameExpected = `lower-case letters, digits, "_" and "-", at most 64, the first a letter or digit`

// nameProblem says why a pipeline's name or ID can't be one: it becomes a part of file names, table rows and metrics.
func nameProblem(name string) string {
	const charactersMax = 64
	switch {
	case name == "":
		return "the name is empty"
	case strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != "" || name[0] == '_' || name[0] == '-':
		return shorten(quote(name)) + " is not a valid name"
	case len(name) > charactersMax:
		return fmt.Sprintf("the name has %d characters", len(name))
	}
	return ""
}

// subtables names the tables of a pipeline that have specs of their own.
func subtables() []string {
	return []string{RoleSource, RoleDecode, RoleStep, RoleSink, RoleDeadLetter, "checkpoint", "restart", "state", "event_time"}
}

func pipelineSpec() Spec {
	return Spec{
		Doc: "One flow: a source, a decoder, steps, a sink and a place for dead letters. The name has lower-case letters, digits, _ and -.",
		Keys: []Key{
			{
				Name: "id", Kind: KindString, Max: "64", Example: "orders",
				Doc: "What the checkpoint store and the sinks know the pipeline by; by default its name. Keep it when the pipeline is renamed: " +
					"a new id starts from nothing.",
			},
			{
				Name: "delivery", Kind: KindEnum, Enum: []string{string(ExactlyOnce), string(AtLeastOnce)}, Default: string(ExactlyOnce),
				Doc: "exactly-once: every record has its effect in the sink once, whatever fails. at-least-once: duplicates are possible after a crash.",
			},
			{
				Name: "tasks", Kind: KindInt, Min: "0", Max: "1024", Default: "0",
				Doc: "How many tasks share the source's splits; 0 means as many as the daemon may use processors.",
			},
		},
	}
}

func sinkSpec() Spec {
	return Spec{Keys: []Key{
		{
			Name: "id", Kind: KindString, Max: "64", Example: "warehouse",
			Doc: "What the sink's ledger, its fence and the checkpoints know it by. Needed when there are several; the only one is called \"sink\" " +
				"if it has none. Another id is another sink: it begins at the checkpoint with which it comes, and knows nothing of what was written before.",
		},
		{
			Name: "when", Kind: KindString, Example: `country == "DE"`,
			Doc: "An expression, as in a filter: only rows for which it is true go to this sink. Without it all do. A row that no sink takes ends there.",
		},
	}}
}

func deadLetterSpec() Spec {
	return Spec{Keys: []Key{
		{
			Name: "max_ratio", Kind: KindFloat, Min: "0", Max: "1", Default: "1", Example: "0.01",
			Doc: "The part of the last ratio_window records that may become dead letters. Above it the pipeline stops, and the checkpoint " +
				"with which it was passed is not published. 1 means no limit.",
		},
		{
			Name: "ratio_window", Kind: KindInt, Min: "1", Max: "1000000000", Default: "10000",
			Doc: "The number of records over which max_ratio is judged.",
		},
	}}
}

func checkpointSpec() Spec {
	return Spec{
		Doc: "When a checkpoint is taken and where it is kept. Rows become visible in an exactly-once sink with the checkpoint.",
		Keys: []Key{
			{
				Name: "interval", Kind: KindDuration, Min: "10ms", Max: "1h", Default: "1s",
				Doc: "The time between two checkpoints.",
			},
			{
				Name: "bytes", Kind: KindBytes, Default: "0B", Example: "256MiB",
				Doc: "The amount of input after which a checkpoint is taken before its time; 0B means that only time counts.",
			},
			{
				Name: "keep", Kind: KindInt, Min: "1", Max: "1000", Default: "3",
				Doc: "How many past checkpoints can be gone back to.",
			},
			{
				Name: "timeout", Kind: KindDuration, Min: "1s", Max: "24h", Default: "10m",
				Doc: "How long the parts of one checkpoint may take; then the pipeline goes back to the last one.",
			},
			{
				Name: "max_pending", Kind: KindInt, Min: "1", Max: "100", Default: "2",
				Doc: "How many published checkpoints may wait until the sinks have committed them; then the input waits too.",
			},
		},
	}
}

func restartSpec() Spec {
	return Spec{
		Doc: "What happens after a failure that may pass: the pipeline is recovered from its last checkpoint, the others run on.",
		Keys: []Key{
			{
				Name: "backoff_min", Kind: KindDuration, Min: "10ms", Max: "1h", Default: "1s",
				Doc: "The pause after the first failure; it doubles with every failure that follows.",
			},
			{
				Name: "backoff_max", Kind: KindDuration, Min: "10ms", Max: "24h", Default: "1m",
				Doc: "The longest pause.",
			},
			{
				Name: "limit", Kind: KindInt, Min: "0", Max: "1000000", Default: "0",
				Doc: "The number of failures without a checkpoint between them that stops the pipeline for good; 0 means that it goes on without end.",
			},
		},
	}
}

func stateSpec() Spec {
	return Spec{
		Doc: "What the state of keyed steps (dedup, aggregate) takes. It is part of every checkpoint; below data_dir/state lies a copy that may be lost.",
		Keys: []Key{
			{
				Name: "key_groups", Kind: KindInt, Min: "0", Max: "65536", Default: "0", Example: "256",
				Doc: "The number of parts that keys are divided into, and the most tasks that can share them. The pipeline's first start fixes it; " +
					"0 means 256, or what is fixed. The number of tasks may change at any start.",
			},
			{
				Name: "memory", Kind: KindBytes, Min: "16MiB", Default: "128MiB",
				Doc: "Memory for changes that are not on the disk yet and for what is read again. It is taken out of daemon.memory_limit.",
			},
		},
	}
}

func eventTimeSpec() Spec {
	return Spec{
		Doc: "How far event time is taken to have come: the watermark, by which windows end. It is the least over all splits of the newest " +
			"record's time, less the disorder.",
		Keys: []Key{
			{
				Name: "disorder", Kind: KindDuration, Min: "0s", Default: "5s",
				Doc: "How far a record's time may be behind the newest one of its split without being late.",
			},
			{
				Name: "idle_after", Kind: KindDuration, Min: "0s", Default: "30s",
				Doc: "A split without records for so long is not waited for; 0s means that it always is, and then one silent split keeps every window open.",
			},
			{
				Name: "ahead_max", Kind: KindDuration, Min: "0s", Default: "24h",
				Doc: "A record's time that is further ahead of the clock does not move the watermark, so that one wrong clock does not end all windows; " +
					"0s means that any time does.",
			},
		},
	}
}
