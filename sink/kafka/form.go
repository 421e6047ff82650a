package kafka

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

// former turns rows of batches of one schema into records.
type former struct {
	settings *Settings
	target   *target

	value     *valueForm
	key       *keyForm
	tombstone int // column, -1 for none
	headers   []headerForm
	timestamp int // column, -1 for none
	partition int // column, -1 for none

	turn   int32  // of the records that go round
	arena  []byte // of the row at hand
	spans  []span
	row    row
	reason record.Refusal
}

// span is a part of the arena; from -1 is nothing.
type span struct{ from, to int }

type headerForm struct {
	name   string
	column int
}

// newFormer checks the columns that the settings name. The error says which key of the settings is wrong.
func newFormer(s *Settings, t *target, encoders encoders, schema *record.Schema) (*former, error) {
	f := &former{settings: s, target: t, arena: make([]byte, 0, 1<<10)} // never nil: an empty key is not none
	var errs [5]error
	f.tombstone, errs[0] = find(schema, "tombstone", s.Tombstone, func(t *record.Type) bool { return t.Kind == record.Bool })
	f.timestamp, errs[1] = find(schema, "timestamp_column", s.TimestampColumn, func(t *record.Type) bool {
		return t.Kind == record.Timestamp || t.Kind == record.Date
	})
	f.partition, errs[2] = find(schema, "partition_column", s.PartitionColumn, isInteger)
	f.value, errs[3] = newValueForm(s, encoders.value, schema)
	f.key, errs[4] = newKeyForm(s, encoders.key, schema)
	for _, h := range s.Headers {
		i, err := find(schema, "headers."+h.Key, h.Value, isScalar)
		if err != nil {
			return nil, err
		}
		f.headers = append(f.headers, headerForm{h.Key, i})
	}
	return f, errors.Join(errs[:]...)
}

// find returns the column that a key names, -1 for none.
func find(schema *record.Schema, key, name string, fits func(t *record.Type) bool) (int, error) {
	if name == "" {
		return -1, nil
	}
	i := schema.Index(name)
	if i < 0 {
		return -1, fmt.Errorf("%s: there is no column %q", key, name)
	}
	if t := &schema.Fields[i].Type; !fits(t) {
		return -1, fmt.Errorf("%s: column %q of type %s does not fit", key, name, t)
	}
	return i, nil
}

func isScalar(t *record.Type) bool { return t.Kind != record.Array && t.Kind != record.Map }

func isBytes(t *record.Type) bool { return t.Kind == record.String || t.Kind == record.FixedString }

func isInteger(t *record.Type) bool {
	switch t.Kind { //nolint:exhaustive // the others are no integers
	case record.Int8, record.Int16, record.Int32, record.Int64, record.Uint8, record.Uint16, record.Uint32, record.Uint64:
		return true
	}
	return false
}

// projection shows some columns of batches.
type projection struct {
	columns []int // nil for all
	view    record.Batch
}

func newProjection(schema *record.Schema, columns []int) *projection {
	p := &projection{columns: columns}
	if columns == nil {
		p.view.Schema = schema
		return p
	}
	s := &record.Schema{}
	for _, i := range columns {
		s.Fields = append(s.Fields, schema.Fields[i])
	}
	p.view.Schema = s
	return p
}

// of shows a batch. The result is valid until the batch changes.
func (p *projection) of(b *record.Batch) *record.Batch {
	if p.columns == nil {
		return b
	}
	p.view.Cols = p.view.Cols[:0]
	for _, i := range p.columns {
		p.view.Cols = append(p.view.Cols, b.Cols[i])
	}
	p.view.Rows, p.view.Meta = b.Rows, b.Meta
	return &p.view
}

// jsonEncoder is the encoding without an encoder: JSON objects.
type jsonEncoder struct{}

// Encode appends the row as a JSON object.
func (jsonEncoder) Encode(dst []byte, b *record.Batch, row int) ([]byte, record.Refusal, bool) {
	return codec.AppendJSON(dst, b, row), record.Refusal{}, true
}

func newEncoder(factory codec.EncoderFactory, schema *record.Schema) (codec.Encoder, error) {
	if factory == nil {
		return jsonEncoder{}, nil
	}
	return factory.New(schema)
}

// rawColumn is a column of bytes. In dead letters, bytes that are no UTF-8 are in another one, in base64.
type rawColumn struct{ column, base64 int }

func newRawColumn(schema *record.Schema, name string, column int) rawColumn {
	r := rawColumn{column, -1}
	letters := record.DeadLetterSchema()
	same := slices.EqualFunc(schema.Fields, letters.Fields, func(a, b record.Field) bool { return a.Name == b.Name && a.Type.Equal(&b.Type) })
	if same {
		r.base64 = schema.Index(name + "_base64")
	}
	return r
}

// append appends the bytes; ok is false for null.
func (r rawColumn) append(dst []byte, b *record.Batch, row int) (out []byte, ok bool) {
	if !b.Cols[r.column].IsNull(row) {
		return codec.AppendValue(dst, &b.Cols[r.column], row), true
	}
	if r.base64 >= 0 && !b.Cols[r.base64].IsNull(row) {
		if out, err := base64.StdEncoding.AppendDecode(dst, b.Cols[r.base64].BytesAt(row)); err == nil {
			return out, true
		}
	}
	return dst, false
}

// valueForm makes a record's value.
type valueForm struct {
	raw     *rawColumn
	columns *projection
	encoder codec.Encoder
	view    *record.Batch
}

func newValueForm(s *Settings, factory codec.EncoderFactory, schema *record.Schema) (*valueForm, error) {
	if s.Value != "" {
		i, err := find(schema, "value", s.Value, isBytes)
		if err != nil {
			return nil, err
		}
		return &valueForm{raw: new(newRawColumn(schema, s.Value, i))}, nil
	}
	columns, err := findAll(schema, "columns", s.Columns, func(*record.Type) bool { return true })
	if err != nil {
		return nil, err
	}
	p := newProjection(schema, columns)
	encoder, err := newEncoder(factory, p.view.Schema)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return &valueForm{columns: p, encoder: encoder}, nil
}

// findAll returns the columns that a list names, nil for an empty list.
func findAll(schema *record.Schema, key string, names []string, fits func(t *record.Type) bool) ([]int, error) {
	var columns []int
	for _, name := range names {
		i, err := find(schema, key, name, fits)
		if err != nil {
			return nil, err
		}
		columns = append(columns, i)
	}
	return columns, nil
}

// keyForm makes a record's key.
type keyForm struct {
	keep    bool
	single  *rawColumn
	columns *projection // nil for none
	encoder codec.Encoder
	view    *record.Batch
}

func newKeyForm(s *Settings, factory codec.EncoderFactory, schema *record.Schema) (*keyForm, error) {
	if len(s.Key) == 0 {
		return &keyForm{keep: s.KeepKey}, nil
	}
	columns, err := findAll(schema, "key", s.Key, func(t *record.Type) bool { return factory != nil || isScalar(t) })
	if err != nil {
		return nil, err
	}
	if len(columns) == 1 && factory == nil {
		return &keyForm{single: new(newRawColumn(schema, s.Key[0], columns[0]))}, nil
	}
	p := newProjection(schema, columns)
	encoder, err := newEncoder(factory, p.view.Schema)
	if err != nil {
		return nil, fmt.Errorf("key_encode: %w", err)
	}
	return &keyForm{columns: p, encoder: encoder}, nil
}

// take begins with a batch, of the former's schema.
func (f *former) take(b *record.Batch) {
	if f.value.columns != nil {
		f.value.view = f.value.columns.of(b)
	}
	if f.key.columns != nil {
		f.key.view = f.key.columns.of(b)
	}
}

// form makes the record of a row of the batch that was taken, and its partition. The record is valid until the next call. now is
// the time of writing in milliseconds since 1970. ok is false for a row that can't be one, and f.reason says why. An error
// concerns all rows.
func (f *former) form(b *record.Batch, i int, now int64) (partition int32, ok bool, err error) {
	f.arena, f.spans = f.arena[:0], f.spans[:0]
	key, ok := f.keySpan(b, i)
	if !ok {
		return 0, false, nil
	}
	value, ok := f.valueSpan(b, i)
	if !ok {
		return 0, false, nil
	}
	for _, h := range f.headers {
		c := &b.Cols[h.column]
		if c.IsNull(i) {
			f.spans = append(f.spans, span{-1, -1})
			continue
		}
		from := len(f.arena)
		f.arena = codec.AppendValue(f.arena, c, i)
		f.spans = append(f.spans, span{from, len(f.arena)})
	}
	f.row.key, f.row.value = f.bytes(key), f.bytes(value)
	if f.key.keep && i < len(b.Meta.Keys) {
		f.row.key = b.Meta.Keys[i]
	}
	f.row.headers = f.row.headers[:0]
	if f.settings.KeepHeaders && i < len(b.Meta.Headers) {
		f.row.headers = append(f.row.headers, b.Meta.Headers[i]...)
	}
	for k, h := range f.headers {
		f.row.headers = append(f.row.headers, record.Header{Key: h.name, Value: f.bytes(f.spans[k])})
	}
	if f.row.key == nil && f.target.compacted {
		return 0, f.refuse(i, "", "the topic is compacted, and the record has no key"), nil
	}
	if !f.stamp(b, i, now) {
		return 0, false, nil
	}
	return f.place(b, i)
}

func (f *former) bytes(s span) []byte {
	if s.from < 0 {
		return nil
	}
	return f.arena[s.from:s.to:s.to]
}

// refuse notes why a row can't be written.
func (f *former) refuse(row int, column, reason string) bool {
	f.reason = record.Refusal{Row: row, Reason: reason, Column: column, Byte: -1}
	return false
}

func (f *former) keySpan(b *record.Batch, i int) (span, bool) {
	none, from := span{-1, -1}, len(f.arena)
	var some bool
	switch {
	case f.key.single != nil:
		if f.arena, some = f.key.single.append(f.arena, b, i); !some {
			return none, true
		}
	case f.key.columns != nil:
		if f.arena, f.reason, some = f.key.encoder.Encode(f.arena, f.key.view, i); !some {
			return none, false
		}
	default:
		return none, true
	}
	return span{from, len(f.arena)}, true
}

func (f *former) valueSpan(b *record.Batch, i int) (span, bool) {
	none, from := span{-1, -1}, len(f.arena)
	if f.tombstone >= 0 && !b.Cols[f.tombstone].IsNull(i) && b.Cols[f.tombstone].Bool(i) {
		return none, true
	}
	var some bool
	if f.value.raw != nil {
		if f.arena, some = f.value.raw.append(f.arena, b, i); !some {
			return none, true
		}
		return span{from, len(f.arena)}, true
	}
	if f.arena, f.reason, some = f.value.encoder.Encode(f.arena, f.value.view, i); !some {
		return none, false
	}
	return span{from, len(f.arena)}, true
}

// stamp sets the timestamp. What the topic's limits refuse is refused here: at commit it would stop the whole transaction.
func (f *former) stamp(b *record.Batch, i int, now int64) bool {
	at := now
	switch {
	case f.timestamp >= 0:
		if c := &b.Cols[f.timestamp]; !c.IsNull(i) {
			at = milliseconds(c, i)
		}
	case f.settings.Timestamp == timestampSource && i < len(b.Meta.Timestamps) && b.Meta.Timestamps[i] >= 0:
		at = b.Meta.Timestamps[i]
	}
	f.row.timestamp = at
	switch t := f.target; {
	case at < 0:
		return f.refuse(i, f.settings.TimestampColumn, "the timestamp is before 1970")
	case t.before > 0 && now-at > t.before:
		return f.refuse(i, f.settings.TimestampColumn, "the timestamp is older than the topic's message.timestamp.before.max.ms allows")
	case t.after > 0 && at-now > t.after:
		return f.refuse(i, f.settings.TimestampColumn, "the timestamp is further ahead than the topic's message.timestamp.after.max.ms allows")
	}
	return true
}

// milliseconds reads a timestamp or a date.
func milliseconds(c *record.Column, i int) int64 {
	const perDay = 24 * 3600 * 1000
	v := c.Int(i)
	if c.Type.Kind == record.Date {
		return v * perDay
	}
	for p := c.Type.Precision; p < 3; p++ {
		v *= 10
	}
	unit := int64(1)
	for p := c.Type.Precision; p > 3; p-- {
		unit *= 10
	}
	if v < 0 {
		return -((-v + unit - 1) / unit)
	}
	return v / unit
}

// place chooses the partition.
func (f *former) place(b *record.Batch, i int) (partition int32, ok bool, err error) {
	n := f.target.partitions
	switch f.settings.Partitioner {
	case partitionSource:
		if b.Meta.Topic == "" {
			return 0, false, errors.New(`partitioner = "source": the rows come from no partition of a topic`)
		}
		if b.Meta.Partition >= n {
			return 0, false, fault.WithRemedy("", fault.Misconfigured,
				fmt.Errorf(`partitioner = "source": the topic %s has %d partitions, and rows come from partition %d`, f.settings.Topic, n, b.Meta.Partition),
				fmt.Sprintf("kafka-topics --alter --topic %s --partitions %d", f.settings.Topic, b.Meta.Partition+1))
		}
		return b.Meta.Partition, true, nil
	case partitionColumn:
		c := &b.Cols[f.partition]
		if c.IsNull(i) {
			return 0, f.refuse(i, f.settings.PartitionColumn, "the partition is null"), nil
		}
		if p := c.Uint(i); c.Type.Signed() && c.Int(i) < 0 || p >= uint64(n) {
			return 0, f.refuse(i, f.settings.PartitionColumn, fmt.Sprintf("the partition is not below %d", n)), nil
		}
		return int32(c.Int(i)), true, nil
	case partitionKey:
		if f.row.key != nil {
			return byKey(f.row.key, n), true, nil
		}
	}
	f.turn = (f.turn + 1) % n
	return f.turn, true, nil
}
