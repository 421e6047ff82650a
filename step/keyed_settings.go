package step

import (
	"fmt"
	"strconv"
	"time"

	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/state"
)

// The types of keyed steps in a config, and of the steps that make rows.
const (
	typeDedup     = "dedup"
	typeAggregate = "aggregate"
	typeEnrich    = "enrich"
	typeExplode   = "explode"
)

func keyedID(example string) config.Key {
	return config.Key{
		Name: "id", Kind: config.KindString, Min: "1", Example: example,
		Doc: "The step's name in metrics, messages and dead letters, and the name of its state: a step with another name begins with\n" +
			"nothing. By default its type and its place, such as dedup-2; give it one, so that its state stays its own when steps are\n" +
			"added before it.",
	}
}

func keyKey() config.Key {
	return config.Key{
		Name: "key", Kind: config.KindStrings, Required: true, Example: `["user"]`,
		Doc: "The columns that make the key. Rows with equal values in all of them belong together; null is a value too.",
	}
}

func timeColumnKey() config.Key {
	return config.Key{
		Name: "time_column", Kind: config.KindString, Min: "1", Example: "created_at",
		Doc: "The column with the event time, a timestamp or a date. By default the record's own timestamp. All steps of a pipeline that\n" +
			"work by event time must name the same. A record without event time becomes a dead letter.",
	}
}

func ttlTimeKey() config.Key {
	return config.Key{
		Name: "ttl_time", Kind: config.KindEnum, Enum: []string{"event", "processing"}, Default: "event",
		Doc: "The time by which ttl counts: event time, or the clock of the machine.",
	}
}

// KeyedSpecs describes the sections of the keyed steps.
func KeyedSpecs() []config.Spec {
	return []config.Spec{dedupSpec(), aggregateSpec(), enrichSpec()}
}

func dedupSpec() config.Spec {
	return config.Spec{
		Type: typeDedup,
		Doc: "Keeps the first record of each key and drops those that follow; they are counted as deduplicated. Keys are remembered whole,\n" +
			"in state that takes part in checkpoints, so the answer is exact over restarts. Between partitions the first is the one that\n" +
			"arrives first.",
		Keys: []config.Key{
			keyedID("once"), keyKey(), {
				Name: "ttl", Kind: config.KindDuration, Min: "1ms", Example: "24h",
				Doc: "How long a key is remembered after the record that was kept; up to half of it longer, because keys are forgotten in\n" +
					"groups. By default for ever: then state grows with every new key.",
			}, ttlTimeKey(), timeColumnKey(),
		},
	}
}

func aggregateSpec() config.Spec {
	return config.Spec{
		Type: typeAggregate,
		Doc: "Computes aggregates by key, over all records or in windows of event time. What comes out are the key, the window's start and\n" +
			"end, and the aggregates; the records themselves stay in state. The columns that aggregates read must be declared in\n" +
			"decode.columns.",
		Keys: []config.Key{
			keyedID("per-user"), keyKey(), aggregateColumnsKey(), windowKey(), {
				Name: "emit", Kind: config.KindEnum, Enum: []string{string(EmitUpdate), string(EmitFinal)},
				Doc: "When results come out. update: with each batch, a record for each key and window that it changed, for targets that keep the\n" +
					"newest. final: one record for each key and window when it has ended and can't change any more; without a window at the end\n" +
					"of a bounded input. By default final with a window, update without. Sessions are final.",
				Example: "final",
			}, {
				Name: "allowed_lateness", Kind: config.KindDuration, Default: "0s",
				Doc: "How much later than the watermark allows a window still takes records. It ends that much later.",
			}, {
				Name: "late", Kind: config.KindEnum, Enum: []string{string(LateDeadLetter), string(LateDrop)}, Default: string(LateDeadLetter),
				Doc: "What becomes of a record all of whose windows have ended: it becomes a dead letter, or it is dropped and counted.",
			}, {
				Name: "ttl", Kind: config.KindDuration, Min: "1ms", Example: "30d",
				Doc: "Without a window: how long a key is kept after its last record; then it begins anew. By default for ever. It does not go with\n" +
					"collect and count_distinct.",
			}, ttlTimeKey(), timeColumnKey(),
		},
	}
}

func aggregateColumnsKey() config.Key {
	return config.Key{
		Name: "columns", Kind: config.KindStringMap, Required: true, Example: `{ orders = "count()", total = "sum(price * quantity)" }`,
		Doc: "The aggregate for each column that comes out. The argument is a column or an expression; null is no value. There are\n" +
			"count() and count(x); sum(x) and avg(x), exact for integers and decimals: a record with which the sum would not fit its type\n" +
			"(int64, uint64, decimal with 38 or 76 digits, float64) becomes a dead letter; min(x) and max(x); first(x) and last(x), in\n" +
			"order of arrival; collect(x, limit), the first values as an array, by default 1000; count_distinct(x, limit), exact: a record\n" +
			"with one more different value than the limit, by default 100,000, becomes a dead letter; approx_count_distinct(x, precision),\n" +
			"a HyperLogLog of 2^precision registers, by default 12 for an error of about 1.6 percent; top_k(x, k), the most frequent values as an\n" +
			"array, exact while a key has at most 10 * k different ones.",
	}
}

func windowKey() config.Key {
	return config.Key{
		Name: "window", Kind: config.KindTable,
		Doc: "The windows. Without it there is one result for each key. They are half open: a record at a window's end is in the next one.",
		Table: &config.Spec{Keys: []config.Key{
			{
				Name: "type", Kind: config.KindEnum, Required: true, Enum: []string{string(Tumbling), string(Hopping), string(Session)},
				Doc: "tumbling: one window after the other. hopping: windows that overlap. session: from a key's first record until none came for\n" +
					"as long as the gap.",
				Example: string(Tumbling),
			},
			{Name: "size", Kind: config.KindDuration, Min: "1ms", Doc: "tumbling and hopping: how long a window is.", Example: "1m"},
			{
				Name: "slide", Kind: config.KindDuration, Min: "1ms", Example: "10s",
				Doc: "hopping: the time from the beginning of a window to that of the next. Each record is in size / slide windows, at most 100.",
			},
			{Name: "offset", Kind: config.KindDuration, Doc: "tumbling and hopping: windows begin at its multiples since 1970, UTC, plus this.", Example: "5m"},
			{Name: "gap", Kind: config.KindDuration, Min: "1ms", Doc: "session: the time without records that ends it.", Example: "30m"},
			{Name: "start", Kind: config.KindString, Min: "1", Default: "window_start", Doc: "The column with the window's start, a timestamp(3)."},
			{Name: "end", Kind: config.KindString, Min: "1", Default: "window_end", Doc: "The column with the window's end, a timestamp(3)."},
		}},
	}
}

// ExplodeSpec describes the section of explode, which needs no key.
func ExplodeSpec() config.Spec {
	return config.Spec{
		Type: typeExplode,
		Doc: "Makes a record of each element of an array, or of each part of a text; the other columns are repeated. A record without any\n" +
			"element is counted as filtered.",
		Keys: []config.Key{
			{
				Name: "id", Kind: config.KindString, Min: "1", Example: "words",
				Doc: "The step's name in metrics, messages and dead letters. By default its type and its place, such as explode-2.",
			},
			{
				Name: "column", Kind: config.KindString, Required: true, Example: "line",
				Doc: "The array or the text. It must be declared in decode.columns.",
			},
			{
				Name: "into", Kind: config.KindString, Min: "1", Example: "word",
				Doc: "The column of the elements, behind the others. By default they take the place of the column.",
			},
			{
				Name: "split", Kind: config.KindEnum,
				Enum: []string{string(SplitWords), string(SplitSpace), string(SplitLines), string(SplitSeparator)}, Example: string(SplitWords),
				Doc: "How a text is taken apart. words: letters, digits and marks, with an apostrophe between two of them. whitespace: what stands\n" +
					"between white space. lines. separator: what stands between the separators.",
			},
			{Name: "separator", Kind: config.KindString, Min: "1", Example: ",", Doc: `The separator, with split = "separator".`},
			{
				Name: "limit", Kind: config.KindInt, Min: "1", Max: "100000000", Default: "100000",
				Doc: "A record with more elements becomes a dead letter.",
			},
		},
	}
}

// The settings of each step.
type (
	dedupSettings struct {
		ID         string        `config:"id"`
		Key        []string      `config:"key"`
		TTL        time.Duration `config:"ttl"`
		TTLTime    string        `config:"ttl_time"`
		TimeColumn string        `config:"time_column"`
	}
	aggregateSettings struct {
		ID              string          `config:"id"`
		Key             []string        `config:"key"`
		Columns         []config.Entry  `config:"columns"`
		Window          *windowSettings `config:"window"`
		Emit            string          `config:"emit"`
		AllowedLateness time.Duration   `config:"allowed_lateness"`
		Late            string          `config:"late"`
		TTL             time.Duration   `config:"ttl"`
		TTLTime         string          `config:"ttl_time"`
		TimeColumn      string          `config:"time_column"`
	}
	windowSettings struct {
		Type   string        `config:"type"`
		Size   time.Duration `config:"size"`
		Slide  time.Duration `config:"slide"`
		Offset time.Duration `config:"offset"`
		Gap    time.Duration `config:"gap"`
		Start  string        `config:"start"`
		End    string        `config:"end"`
	}
	explodeSettings struct {
		ID        string `config:"id"`
		Column    string `config:"column"`
		Into      string `config:"into"`
		Split     string `config:"split"`
		Separator string `config:"separator"`
		Limit     int    `config:"limit"`
	}
)

func placedID(section *config.Section, place int) string {
	return section.Type() + "-" + strconv.Itoa(place)
}

func ttlOf(d time.Duration, by string) state.TTL {
	ttl := state.TTL{For: d}
	if by == state.ProcessingTime.String() {
		ttl.By = state.ProcessingTime
	}
	return ttl
}

// OpenKeyed makes the keyed step of a section, as [Open] does.
func OpenKeyed(section *config.Section, place int) (KeyedStep, error) {
	switch section.Type() {
	case typeDedup:
		s := dedupSettings{ID: placedID(section, place)}
		if !section.Decode(dedupSpec(), &s) {
			break
		}
		return &Dedup{ID: s.ID, Key: s.Key, TTL: ttlOf(s.TTL, s.TTLTime), TimeColumn: s.TimeColumn}, nil
	case typeAggregate:
		return openAggregate(section, place)
	case typeEnrich:
		return openEnrich(section, place)
	}
	return nil, failedKeyed(section)
}

func failedKeyed(section *config.Section) error {
	err := section.Err()
	if err == nil {
		err = fmt.Errorf("%s: there is no keyed step of type %q", section.Path(), section.Type())
	}
	return fault.E("step.OpenKeyed", fault.Misconfigured, err)
}

func openAggregate(section *config.Section, place int) (KeyedStep, error) {
	s := aggregateSettings{ID: placedID(section, place)}
	if !section.Decode(aggregateSpec(), &s) {
		return nil, failedKeyed(section)
	}
	a := &Aggregate{
		ID: s.ID, Key: s.Key, Emit: Emit(s.Emit), TimeColumn: s.TimeColumn, AllowedLateness: s.AllowedLateness, Late: Late(s.Late),
		TTL: ttlOf(s.TTL, s.TTLTime),
	}
	if w := s.Window; w != nil {
		a.Window = Window{Kind: WindowKind(w.Type), Size: w.Size, Slide: w.Slide, Offset: w.Offset, Gap: w.Gap}
		a.Start, a.End = w.Start, w.End
	}
	ok := true
	for _, entry := range s.Columns {
		if _, err := parseCall(entry.Value); err != nil {
			section.Errorf("columns."+entry.Key, "%v", err)
			ok = false
		}
		a.Columns = append(a.Columns, AggregateColumn{Column: entry.Key, Value: entry.Value})
	}
	checked := *a
	checked.defaults()
	if err := checked.check(); err != nil {
		section.Errorf("", "%v", err)
		ok = false
	}
	if !ok {
		return nil, failedKeyed(section)
	}
	return a, nil
}

// OpenExplode makes the explode step of a section, as [Open] does.
func OpenExplode(section *config.Section, place int) (Step, error) {
	s := explodeSettings{ID: placedID(section, place)}
	if !section.Decode(ExplodeSpec(), &s) {
		return nil, failed(section)
	}
	e := &Explode{ID: s.ID, Column: s.Column, Into: s.Into, Split: Split(s.Split), Separator: s.Separator, Limit: s.Limit}
	if (e.Split == SplitSeparator) != (e.Separator != "") {
		section.Errorf("separator", `it goes with split = "separator", and is needed there`)
		return nil, failed(section)
	}
	return e, nil
}
