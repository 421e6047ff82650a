// Package codectest holds each rule of the contracts of codec.Decoder, codec.Factory, codec.Encoder and codec.EncoderFactory as a
// case. A codec joins with a [Subject] and a call of [Run], and with an [EncoderSubject] and a call of [RunEncoder].
package codectest

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/record"
)

// Subject is a codec with samples of its format.
type Subject struct {
	Factory codec.Factory
	// Wanted is what the sink takes; nil: anything.
	Wanted *record.Schema
	// Good are records that fit. There must be at least two.
	Good []Sample
	// Bad are records that do not fit. Among them should be one that fails after a part of every column was read.
	Bad []Sample
	// Allocates is true for a codec that needs memory for each record even in steady state.
	Allocates bool
}

// Sample is one raw record.
type Sample struct {
	Value []byte // nil is a tombstone
	// JSON is the row of a good sample as codec.AppendJSON writes it.
	JSON string
	// Column is the column that the refusal of a bad sample names; "" for the whole record.
	Column string
	// Byte is the place that the refusal of a bad sample names; -1 for none.
	Byte int64
}

// rule is one case of the suite.
type rule struct {
	name string
	why  string
	run  func(t *testing.T, s *subject)
}

func rules() []rule {
	return []rule{
		{"one row", "each good record appends exactly one row to each column, and nothing else of the batch changes", oneRow},
		{"values", "the row holds what the record says", values},
		{"refusal", "a refusal says why, names a column of the schema or none, and a place inside the record or none", refusal},
		{"unchanged", "after a refusal the batch is what it was, nested columns included", unchanged},
		{"no memory", "what a decoder read before, good or bad, has no influence on what it makes of a record", noMemory},
		{"no reference", "the batch is complete without the record's memory, which belongs to the source", noReference},
		{"read only", "the record is not changed", readOnly},
		{"deterministic", "two decoders make the same of the same records", deterministic},
		{"cut records", "a record that is cut anywhere is decoded or refused, and if refused the batch is unchanged", cutRecords},
		{"own columns", "columns behind those of the schema are left alone: they hold metadata", ownColumns},
		{"stable schema", "a schema that the factory completed is complete", stableSchema},
		{"no allocation", "in steady state decoding takes no memory", noAllocation},
	}
}

// subject is a Subject with its completed schema.
type subject struct {
	Subject
	schema *record.Schema
}

// Run runs all cases.
func Run(t *testing.T, s Subject) {
	t.Helper()
	schema, err := s.Factory.Schema(s.Wanted)
	if err != nil {
		t.Fatalf("Schema: %v", err)
	}
	if len(s.Good) < 2 || len(s.Bad) == 0 {
		t.Fatalf("got %d good and %d bad samples, want 2 and 1 or more", len(s.Good), len(s.Bad))
	}
	for _, r := range rules() {
		t.Run(r.name, func(t *testing.T) {
			r.run(t, &subject{Subject: s, schema: schema})
			if t.Failed() {
				t.Logf("the rule: %s", r.why)
			}
		})
	}
}

func (s *subject) decoder(t *testing.T) codec.Decoder {
	t.Helper()
	d, err := s.Factory.New(s.schema)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return d
}

// decodeGood decodes a sample that must be taken, with its metadata.
func decodeGood(t *testing.T, d codec.Decoder, b *record.Batch, sample Sample) {
	t.Helper()
	if r, ok := d.Decode(b, sample.Value); !ok {
		t.Fatalf("record %q: got refusal %+v, want a row", sample.Value, r)
	}
	b.AppendMeta(record.RowMeta{Offset: record.Offset(b.Rows)})
}

// decodeBad decodes a sample that must be refused.
func decodeBad(t *testing.T, d codec.Decoder, b *record.Batch, sample Sample) record.Refusal {
	t.Helper()
	r, ok := d.Decode(b, sample.Value)
	if ok {
		t.Fatalf("record %q: got a row, want a refusal", sample.Value)
	}
	return r
}

func oneRow(t *testing.T, s *subject) {
	t.Helper()
	d, b := s.decoder(t), record.NewBatch(s.schema)
	for i, sample := range s.Good {
		if r, ok := d.Decode(b, sample.Value); !ok {
			t.Fatalf("record %q: got refusal %+v, want a row", sample.Value, r)
		}
		for c := range b.Cols {
			if got := b.Cols[c].Len(); got != i+1 {
				t.Errorf("record %q, column %q: got %d rows, want %d", sample.Value, s.schema.Fields[c].Name, got, i+1)
			}
		}
		if b.Rows != i || len(b.Meta.Offsets) != i {
			t.Errorf("record %q: got %d counted rows and %d offsets, want %d: they are the caller's",
				sample.Value, b.Rows, len(b.Meta.Offsets), i)
		}
		b.AppendMeta(record.RowMeta{})
	}
}

func values(t *testing.T, s *subject) {
	t.Helper()
	d, b := s.decoder(t), record.NewBatch(s.schema)
	for i, sample := range s.Good {
		decodeGood(t, d, b, sample)
		if got := string(codec.AppendJSON(nil, b, i)); got != sample.JSON {
			t.Errorf("record %q: got row %s, want %s", sample.Value, got, sample.JSON)
		}
	}
}

func refusal(t *testing.T, s *subject) {
	t.Helper()
	d, b := s.decoder(t), record.NewBatch(s.schema)
	decodeGood(t, d, b, s.Good[0])
	for _, sample := range s.Bad {
		r := decodeBad(t, d, b, sample)
		if r.Reason == "" || r.Column != sample.Column || r.Byte != sample.Byte || r.Row != b.Rows {
			t.Errorf("record %q: got refusal %+v, want row %d, column %q, byte %d and a reason",
				sample.Value, r, b.Rows, sample.Column, sample.Byte)
		}
		if r.Column != "" && s.schema.Index(r.Column) < 0 {
			t.Errorf("record %q: got column %q, which is not in the schema", sample.Value, r.Column)
		}
		if r.Byte < -1 || r.Byte > int64(len(sample.Value)) {
			t.Errorf("record %q: got byte %d, want -1 or a place in %d bytes", sample.Value, r.Byte, len(sample.Value))
		}
	}
}

// sameBatch compares everything, also what columns hold beyond the rows; slices that are empty and nil are the same.
func sameBatch(t *testing.T, what string, got, want *record.Batch) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("%s (-want +got):\n%s", what, diff)
	}
}

func unchanged(t *testing.T, s *subject) {
	t.Helper()
	for _, sample := range s.Bad {
		d, b := s.decoder(t), record.NewBatch(s.schema)
		want := record.NewBatch(s.schema)
		for _, good := range s.Good {
			decodeBad(t, d, b, sample)
			decodeGood(t, d, b, good)
			decodeGood(t, s.decoder(t), want, good)
			decodeBad(t, d, b, sample)
			sameBatch(t, "after the refusal of "+string(sample.Value), b, want)
		}
	}
}

func noMemory(t *testing.T, s *subject) {
	t.Helper()
	used := s.decoder(t)
	for _, sample := range append(append([]Sample(nil), s.Bad...), s.Good...) {
		used.Decode(record.NewBatch(s.schema), sample.Value)
	}
	for _, sample := range s.Good {
		got, want := record.NewBatch(s.schema), record.NewBatch(s.schema)
		decodeGood(t, used, got, sample)
		decodeGood(t, s.decoder(t), want, sample)
		sameBatch(t, "record "+string(sample.Value), got, want)
	}
	for _, sample := range s.Bad {
		got := decodeBad(t, used, record.NewBatch(s.schema), sample)
		want := decodeBad(t, s.decoder(t), record.NewBatch(s.schema), sample)
		if got != want {
			t.Errorf("record %q: got refusal %+v, want %+v as from a fresh decoder", sample.Value, got, want)
		}
	}
}

func noReference(t *testing.T, s *subject) {
	t.Helper()
	d, b := s.decoder(t), record.NewBatch(s.schema)
	for i, sample := range s.Good {
		value := bytes.Clone(sample.Value)
		decodeGood(t, d, b, Sample{Value: value})
		for j := range value {
			value[j] = '#'
		}
		if got := string(codec.AppendJSON(nil, b, i)); got != sample.JSON {
			t.Errorf("record %q, its memory used for something else: got row %s, want %s", sample.Value, got, sample.JSON)
		}
	}
}

func readOnly(t *testing.T, s *subject) {
	t.Helper()
	d, b := s.decoder(t), record.NewBatch(s.schema)
	for _, sample := range append(append([]Sample(nil), s.Good...), s.Bad...) {
		value := bytes.Clone(sample.Value)
		d.Decode(b, value)
		if !bytes.Equal(value, sample.Value) {
			t.Errorf("record %q became %q", sample.Value, value)
		}
	}
}

func deterministic(t *testing.T, s *subject) {
	t.Helper()
	first, second := s.decoder(t), s.decoder(t)
	a, b := record.NewBatch(s.schema), record.NewBatch(s.schema)
	for _, sample := range append(append([]Sample(nil), s.Good...), s.Bad...) {
		r1, ok1 := first.Decode(a, sample.Value)
		r2, ok2 := second.Decode(b, sample.Value)
		if r1 != r2 || ok1 != ok2 {
			t.Errorf("record %q: got %+v %t and %+v %t, want the same", sample.Value, r1, ok1, r2, ok2)
		}
	}
	sameBatch(t, "two decoders", a, b)
}

func cutRecords(t *testing.T, s *subject) {
	t.Helper()
	for _, sample := range append(append([]Sample(nil), s.Good...), s.Bad...) {
		for n := range len(sample.Value) {
			d, b := s.decoder(t), record.NewBatch(s.schema)
			decodeGood(t, d, b, s.Good[0])
			want := record.NewBatch(s.schema)
			decodeGood(t, d, want, s.Good[0])
			r, ok := d.Decode(b, sample.Value[:n:n])
			if ok {
				continue
			}
			if r.Byte < -1 || r.Byte > int64(n) {
				t.Errorf("record %q: got byte %d, want -1 to %d", sample.Value[:n], r.Byte, n)
			}
			sameBatch(t, "after the refusal of "+string(sample.Value[:n]), b, want)
		}
	}
}

func ownColumns(t *testing.T, s *subject) {
	t.Helper()
	wide := &record.Schema{Fields: append(append([]record.Field(nil), s.schema.Fields...),
		record.Field{Name: "_offset", Type: record.Type{Kind: record.Int64}})}
	d, b := s.decoder(t), record.NewBatch(wide)
	decodeGood(t, d, b, s.Good[0])
	decodeBad(t, d, b, s.Bad[0])
	if got := b.Cols[len(b.Cols)-1].Len(); got != 0 {
		t.Errorf("got %d rows in a column that is not the decoder's, want 0", got)
	}
}

func stableSchema(t *testing.T, s *subject) {
	t.Helper()
	if err := s.schema.Check(); err != nil {
		t.Errorf("Schema gave a schema that is wrong: %v", err)
	}
	again, err := s.Factory.Schema(s.schema)
	if err != nil {
		t.Fatalf("Schema of a completed schema: %v", err)
	}
	if diff := cmp.Diff(s.schema, again); diff != "" {
		t.Errorf("a completed schema changed (-first +second):\n%s", diff)
	}
}

func noAllocation(t *testing.T, s *subject) {
	t.Helper()
	if s.Allocates {
		t.Skip("the codec says that it allocates")
	}
	d, b := s.decoder(t), record.NewBatch(s.schema)
	round := func() {
		b.Reset()
		for range 10 {
			for _, sample := range s.Good {
				decodeGood(t, d, b, sample)
			}
		}
	}
	round()
	if got := testing.AllocsPerRun(20, round); got != 0 {
		t.Errorf("got %v allocations for %d records, want 0", got, 10*len(s.Good))
	}
}
