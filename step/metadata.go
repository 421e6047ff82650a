package step

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/expr-lang/expr/types"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

// The names by which a record's metadata is read in expressions and put into columns.
const (
	Topic     = "_topic"     // string; "" for a file
	Partition = "_partition" // int
	Offset    = "_offset"    // int: a Kafka offset, or a byte offset in a file
	Timestamp = "_timestamp" // time, null where the source has none; milliseconds
	Key       = "_key"       // string, null where the record has none
	Headers   = "_headers"   // map from string to string or null; in an expression the last header of a name counts
)

// MetadataNames returns the reserved names in order.
func MetadataNames() []string { return []string{Topic, Partition, Offset, Timestamp, Key, Headers} }

// MetadataType returns the type that a metadata column has by default; ok is false for a name that is not reserved.
func MetadataType(name string) (t record.Type, ok bool) {
	text := record.Type{Kind: record.String}
	optional := record.Type{Kind: record.String, Nullable: true}
	switch name {
	case Topic:
		return text, true
	case Partition:
		return record.Type{Kind: record.Int32}, true
	case Offset:
		return record.Type{Kind: record.Int64}, true
	case Timestamp:
		return record.Type{Kind: record.Timestamp, Precision: 3, Nullable: true}, true
	case Key:
		return optional, true
	case Headers:
		return record.Type{Kind: record.Map, Key: &text, Elem: &optional}, true
	}
	return record.Type{}, false
}

// metadataSources returns the variables that read metadata.
func metadataSources() map[string]source {
	return map[string]source{
		Topic:     {types.String, func(b *record.Batch, _ int) any { return b.Meta.Topic }},
		Partition: {types.Int, func(b *record.Batch, _ int) any { return int(b.Meta.Partition) }},
		Offset:    {types.Int, func(b *record.Batch, row int) any { return int(b.Meta.Offsets[row]) }},
		Timestamp: {types.TypeOf(new(time.Time)), func(b *record.Batch, row int) any {
			if b.Meta.Timestamps[row] == -1 {
				return nil
			}
			return time.UnixMilli(b.Meta.Timestamps[row]).UTC()
		}},
		Key: {types.TypeOf(new(string)), func(b *record.Batch, row int) any {
			if b.Meta.Keys[row] == nil {
				return nil
			}
			return string(b.Meta.Keys[row])
		}},
		Headers: {types.TypeOf(map[string]*string{}), func(b *record.Batch, row int) any {
			m := make(map[string]*string, len(b.Meta.Headers[row]))
			for _, h := range b.Meta.Headers[row] {
				m[h.Key] = nil
				if h.Value != nil {
					value := string(h.Value)
					m[h.Key] = &value
				}
			}
			return m
		}},
	}
}

// MetadataColumn is a column that is filled from metadata.
type MetadataColumn struct {
	Field  record.Field
	Source string // one of MetadataNames
}

// TakeMetadata splits a wanted schema: the columns that are filled from metadata, and what is left for the decoder. A column
// is one of the former if names gives its source, or if it has a reserved name itself. With a nil wanted schema the columns
// are those in names, sorted, with their default types, and the rest is nil. The error is fault.Misconfigured.
func TakeMetadata(wanted *record.Schema, names map[string]string) (rest *record.Schema, columns []MetadataColumn, err error) {
	var errs []error
	for _, column := range sorted(names) {
		if t, ok := MetadataType(names[column]); !ok {
			errs = append(errs, fmt.Errorf("column %q: %q is not one of %s", column, names[column], strings.Join(MetadataNames(), ", ")))
		} else if wanted == nil {
			columns = append(columns, MetadataColumn{Field: record.Field{Name: column, Type: t}, Source: names[column]})
		} else if wanted.Index(column) < 0 {
			errs = append(errs, fmt.Errorf("the sink has no column %q to take %s", column, names[column]))
		}
	}
	if wanted != nil {
		rest = &record.Schema{}
		for i := range wanted.Fields {
			f := wanted.Fields[i]
			from, named := names[f.Name]
			if _, reserved := MetadataType(f.Name); reserved && !named {
				from = f.Name
			}
			if from == "" {
				rest.Fields = append(rest.Fields, f)
				continue
			}
			columns = append(columns, MetadataColumn{Field: f, Source: from})
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, fault.E("step.TakeMetadata", fault.Misconfigured, err)
	}
	return rest, columns, nil
}

func sorted[V any](names map[string]V) []string {
	list := make([]string, 0, len(names))
	for name := range names {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// metadata adds columns that are filled from metadata.
type metadata struct {
	columns []MetadataColumn
}

// NewMetadata returns the step that adds metadata columns behind those of the batch. A value that does not fit its column, such
// as a null timestamp in a column that is not nullable, refuses the record.
func NewMetadata(columns []MetadataColumn) Step { return &metadata{columns: slices.Clone(columns)} }

// Name returns "metadata".
func (m *metadata) Name() string { return "metadata" }

// Bind checks that each column can take its metadata.
func (m *metadata) Bind(in *record.Schema) (*record.Schema, Apply, error) {
	out := &record.Schema{Fields: slices.Clone(in.Fields)}
	fill := make([]filler, len(m.columns))
	var errs []error
	for i, c := range m.columns {
		if in.Index(c.Field.Name) >= 0 {
			errs = append(errs, fmt.Errorf("the column %q is there already", c.Field.Name))
		}
		var err error
		if fill[i], err = newFiller(c); err != nil {
			errs = append(errs, fmt.Errorf("column %q: %w", c.Field.Name, err))
		}
		out.Fields = append(out.Fields, c.Field)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, misconfigured(m.Name(), err)
	}
	r := refuser{step: m.Name()}
	return out, func(b *record.Batch, res *Result) {
		r.begin(b)
		for i := range fill {
			f := &fill[i]
			c := b.AddColumn(&f.writer.typ)
			for row := range b.Rows {
				if err := f.put(c, b, row); err != nil {
					c.Truncate(row)
					c.AppendZero()
					r.refuse(row, m.columns[i].Field.Name, err.Error())
				}
			}
		}
		b.Schema = out
		r.end(b, res)
	}, nil
}

// filler fills one metadata column.
type filler struct {
	writer *writer
	put    func(c *record.Column, b *record.Batch, row int) error
}

func newFiller(c MetadataColumn) (filler, error) {
	w, err := newWriter(&c.Field.Type)
	if err != nil {
		return filler{}, err
	}
	f := filler{writer: w}
	t := &c.Field.Type
	switch c.Source {
	case Offset:
		if t.Kind == record.Int64 && t.Min == 0 && t.Max == 0 {
			f.put = func(c *record.Column, b *record.Batch, row int) error {
				c.AppendInt(int64(b.Meta.Offsets[row]))
				return nil
			}
			return f, nil
		}
	case Headers:
		if t.Kind != record.Map || t.Key.Kind != record.String || t.Elem.Kind != record.String {
			return f, fmt.Errorf("%s does not fit %s, a map of strings is expected", Headers, t)
		}
		f.put = putHeaders
		return f, nil
	case Key:
		if t.Kind == record.Array || t.Kind == record.Map {
			return f, fmt.Errorf("%s does not fit %s", Key, t)
		}
		f.put = w.putKey
		return f, nil
	}
	from, ok := metadataSources()[c.Source]
	if !ok {
		return f, fmt.Errorf("%q is not one of %s", c.Source, strings.Join(MetadataNames(), ", "))
	}
	if nature := from.typ.Nature(); !w.takes(nature.Type) {
		return f, fmt.Errorf("%s does not fit %s", c.Source, t)
	}
	f.put = func(c *record.Column, b *record.Batch, row int) error { return w.append(c, from.read(b, row)) }
	return f, nil
}

// putKey stores the key's bytes as the text of a value.
func (w *writer) putKey(c *record.Column, b *record.Batch, row int) error {
	key := b.Meta.Keys[row]
	if key == nil {
		return w.append(c, nil)
	}
	if err := w.text.Append(c, key); err != nil {
		return fmt.Errorf("%s: %q %w", &w.typ, excerpt(key), err)
	}
	return nil
}

// putHeaders stores all headers in their order, also those of the same name.
func putHeaders(c *record.Column, b *record.Batch, row int) error {
	for _, h := range b.Meta.Headers[row] {
		c.Key.AppendString(h.Key)
		switch {
		case h.Value != nil:
			c.Elem.AppendBytes(h.Value)
		case c.Elem.Type.Nullable:
			c.Elem.AppendNull()
		default:
			return fmt.Errorf("the header %q has no value, and null does not fit %s", h.Key, &c.Elem.Type)
		}
	}
	c.CloseList()
	return nil
}
