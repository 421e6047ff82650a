package pipeline

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/source"
	"github.com/ingestd/ingestd/step"
)

// Table is the input of an enrich step's table. Its splits are splits of the pipeline like those of the source: their positions are
// in the same manifest as the state that was made of them. One task of its own reads them and sends their rows to the keyed tasks.
type Table struct {
	// Step is the name of the step, a [step.Enrich] behind [Keyed].
	Step string
	// Source and Codec give the table's rows; of several rows of a key the one that came last counts.
	Source source.Source
	Codec  codec.Factory
	// KeyCodec reads the key columns of a row that is deleted, a record without value, from the record's key; nil: the key has one
	// column, and the record's key is its text.
	KeyCodec codec.Factory
}

// tableSplit begins the names of the splits of all tables. No source names a split like that: Kafka has no topic with a colon, and a
// file's name is its absolute path.
const tableSplit = "table:"

// prefix begins the names of a table's splits.
func (t *Table) prefix() string { return tableSplit + url.PathEscape(t.Step) + "/" }

// cutTable takes a split's name apart into what says that it is a table's, "" for one of the source, and the name that it has there.
func cutTable(split string) (prefix, name string) {
	if !strings.HasPrefix(split, tableSplit) {
		return "", split
	}
	end := strings.IndexByte(split, '/') + 1
	return split[:end], split[end:]
}

// ownerless says that a split is that of a table which is not there any more.
func (d *Definition) ownerless(split string) bool {
	prefix, _ := cutTable(split)
	return prefix != "" && !slices.ContainsFunc(d.Tables, func(t Table) bool { return t.prefix() == prefix })
}

// enrich returns the step of a table and its place among the pipeline's steps.
func (d *Definition) enrich(t *Table) (*step.Enrich, int) {
	for i, s := range d.Steps {
		if k, ok := s.(keyedStep); ok && k.Name() == t.Step {
			e, _ := k.KeyedStep.(*step.Enrich) //nolint:errcheck // nil is the answer
			return e, i
		}
	}
	return nil, -1
}

// edges is how many source tasks send to the keyed tasks: those of the source, and behind them one for each table.
func (d *Definition) edges() int { return d.Tasks + len(d.Tables) }

// tableTask is the number of a table's task.
func (d *Definition) tableTask(table int) int { return 2*d.Tasks + table }

// splitsOf takes the splits of a table, or of the source for nil. Splits of tables that are not there any more belong to nobody: they
// stay where they are.
func splitsOf(t *Table, all []source.Split) []source.Split {
	return slices.DeleteFunc(slices.Clone(all), func(sp source.Split) bool {
		if t == nil {
			return strings.HasPrefix(sp.Split, tableSplit)
		}
		return !strings.HasPrefix(sp.Split, t.prefix())
	})
}

// discover looks for splits of the source and of all tables, sorted. Each is asked about its own.
func (d *Definition) discover(ctx context.Context, known []source.Split) ([]source.Split, error) {
	found, err := d.Source.Discover(ctx, splitsOf(nil, known))
	if err != nil {
		return nil, err
	}
	for i := range d.Tables {
		t := &d.Tables[i]
		more, err := tableSource{t.Source, t.prefix()}.Discover(ctx, splitsOf(t, known))
		if err != nil {
			return nil, fmt.Errorf("table of step %q: %w", t.Step, err)
		}
		found = append(found, more...)
	}
	slices.SortFunc(found, func(a, b source.Split) int { return strings.Compare(a.Split, b.Split) })
	return found, nil
}

// CloseSources closes the source and those of the tables, when no run needs them any more.
func (d *Definition) CloseSources() error {
	errs := []error{d.Source.Close()}
	for i := range d.Tables {
		errs = append(errs, d.Tables[i].Source.Close())
	}
	return errors.Join(errs...)
}

// committed shows positions to the lag tools of their sources.
func (d *Definition) committed(ctx context.Context, positions []source.Position) error {
	by := func(t *Table) []source.Position {
		var out []source.Position
		for _, p := range positions {
			if len(splitsOf(t, []source.Split{{Position: p}})) > 0 {
				out = append(out, p)
			}
		}
		return out
	}
	errs := []error{d.Source.Committed(ctx, by(nil))}
	for i := range d.Tables {
		t := &d.Tables[i]
		errs = append(errs, tableSource{t.Source, t.prefix()}.Committed(ctx, by(t)))
	}
	return errors.Join(errs...)
}

// checkTables holds tables against the steps that they belong to.
func (d *Definition) checkTables() error {
	const op = "pipeline.tables"
	for i, s := range d.Steps {
		k, ok := s.(keyedStep)
		if !ok {
			continue
		}
		if _, ok := k.KeyedStep.(*step.Enrich); !ok {
			continue
		}
		if !slices.ContainsFunc(d.Tables, func(t Table) bool { return t.Step == s.Name() }) {
			return &StepError{i, s.Name(), fault.E(op, fault.Misconfigured, errors.New("nothing gives it its table"))}
		}
		if slices.Contains(d.DiscardState, s.Name()) {
			return &StepError{i, s.Name(), fault.WithRemedy(op, fault.Misconfigured,
				errors.New("its state is the table, which would stay empty: its input was read already"),
				"give the step a new id instead: then its table is read again from the beginning")}
		}
	}
	for i := range d.Tables {
		e, place := d.enrich(&d.Tables[i])
		if e == nil {
			return fault.E(op, fault.Misconfigured, fmt.Errorf("there is no enrich step %q for a table", d.Tables[i].Step))
		}
		if _, err := d.Tables[i].deletions(e); err != nil {
			return &StepError{place, e.Name(), err}
		}
	}
	return nil
}

// tableSource gives the splits of a table's source names that no other split of the pipeline has.
type tableSource struct {
	source.Source
	prefix string
}

func (s tableSource) own(splits []source.Split) []source.Split {
	out := slices.Clone(splits)
	for i := range out {
		out[i].Split = strings.TrimPrefix(out[i].Split, s.prefix)
	}
	return out
}

func (s tableSource) Discover(ctx context.Context, known []source.Split) ([]source.Split, error) {
	found, err := s.Source.Discover(ctx, s.own(known))
	found = slices.Clone(found)
	for i := range found {
		found[i].Split = s.prefix + found[i].Split
	}
	return found, err
}

func (s tableSource) Open(ctx context.Context, splits []source.Split, budget source.Budget) (source.Reader, error) {
	r, err := s.Source.Open(ctx, s.own(splits), budget)
	if err != nil {
		return nil, err
	}
	return tableReader{r, s}, nil
}

func (s tableSource) Committed(ctx context.Context, positions []source.Position) error {
	out := slices.Clone(positions)
	for i := range out {
		out[i].Split = strings.TrimPrefix(out[i].Split, s.prefix)
	}
	return s.Source.Committed(ctx, out)
}

// tableReader is a reader of a [tableSource].
type tableReader struct {
	source.Reader
	of tableSource
}

func (r tableReader) Poll(ctx context.Context) (source.Fetch, error) {
	f, err := r.Reader.Poll(ctx)
	if f.Next.Split != "" {
		f.Next.Split = r.of.prefix + f.Next.Split
	}
	f.Refused = slices.Clone(f.Refused)
	for i := range f.Refused {
		f.Refused[i].Split = r.of.prefix + f.Refused[i].Split
	}
	return f, err
}

func (r tableReader) Add(ctx context.Context, splits []source.Split) error {
	return r.Reader.Add(ctx, r.of.own(splits))
}

func (r tableReader) Lag() []source.Lag {
	lag := slices.Clone(r.Reader.Lag())
	for i := range lag {
		lag[i].Split = r.of.prefix + lag[i].Split
	}
	return lag
}

func (r tableReader) Lost() int64 {
	if l, ok := r.Reader.(source.LossCounter); ok {
		return l.Lost()
	}
	return 0
}

// deletions returns what reads the keys of deleted rows.
func (t *Table) deletions(e *step.Enrich) (*deletions, error) {
	const op = "pipeline.tables"
	d := &deletions{}
	schema := &record.Schema{}
	for _, name := range e.TableKey {
		i := e.Table.Index(name)
		if i < 0 {
			return nil, fault.E(op, fault.Misconfigured, fmt.Errorf("table: there is no column %q", name))
		}
		schema.Fields = append(schema.Fields, e.Table.Fields[i])
		d.table = append(d.table, i)
	}
	if t.KeyCodec == nil {
		d.from, d.batch = []int{0}, record.NewBatch(schema)
		if len(schema.Fields) > 1 {
			return d, nil
		}
		text, err := codec.NewText(&schema.Fields[0].Type)
		d.text = text
		return d, err
	}
	full, err := t.KeyCodec.Schema(schema)
	if err != nil {
		return nil, fmt.Errorf("table.key_decode: %w", err)
	}
	for i := range schema.Fields {
		f := &schema.Fields[i]
		at := full.Index(f.Name)
		if at < 0 || !full.Fields[at].Type.SameLayout(&f.Type) {
			return nil, fault.E(op, fault.Misconfigured, fmt.Errorf("table.key_decode: it gives no column %q of type %s", f.Name, &f.Type))
		}
		d.from = append(d.from, at)
	}
	d.batch = record.NewBatch(full)
	d.decoder, err = t.KeyCodec.New(full)
	return d, err
}

// deletions reads the keys of deleted rows from the keys of records without value.
type deletions struct {
	text    *codec.Text   // nil: decoder does
	decoder codec.Decoder // nil with text; both are nil when there is no way
	batch   *record.Batch // one row
	from    []int         // the key's columns in it
	table   []int         // the key's columns in the table
}

// append adds a row to b whose key is that of a deleted row; its other columns say nothing. What can't be read is refused.
func (d *deletions) append(b *record.Batch, key []byte) (record.Refusal, bool) {
	refuse := func(reason string) (record.Refusal, bool) {
		return record.Refusal{Row: b.Rows, Reason: "a deleted row of the table: " + reason, Byte: -1}, false
	}
	d.batch.Reset()
	switch {
	case key == nil:
		return refuse("the record has no key")
	case d.decoder != nil:
		if r, ok := d.decoder.Decode(d.batch, key); !ok {
			return refuse("the record's key: " + r.Reason)
		}
	case d.text == nil:
		return refuse("the table's key has several columns, and table.key_decode does not say how the record's key holds them")
	default:
		if err := d.text.Append(&d.batch.Cols[0], key); err != nil {
			return refuse("the record's key " + err.Error())
		}
	}
	for i := range b.Cols {
		at := slices.Index(d.table, i)
		if at < 0 {
			b.Cols[i].AppendZero()
			continue
		}
		b.Cols[i].AppendFrom(&d.batch.Cols[d.from[at]], 0)
	}
	return record.Refusal{}, true
}
