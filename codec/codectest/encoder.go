package codectest

import (
	"bytes"
	"slices"
	"testing"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/record"
)

// EncoderSubject is an encoder with rows.
type EncoderSubject struct {
	Factory codec.EncoderFactory
	Schema  *record.Schema
	// Fill appends the rows of Rows to the columns of a batch of the schema, without counting them.
	Fill func(b *record.Batch)
	// Rows says what becomes of each row. There must be at least two with a form.
	Rows []Row
	// Decoder reads the forms back to the same rows; nil if nothing does.
	Decoder codec.Factory
	// Allocates is true for an encoder that needs memory for each row even in steady state.
	Allocates bool
}

// Row is what an encoder makes of a row.
type Row struct {
	Form string // in bytes; anything may be expected of a row without a Form and without Refused
	// Refused says that the row has no form, and Column which column the refusal names.
	Refused bool
	Column  string
}

type encoderRule struct {
	name string
	why  string
	run  func(t *testing.T, s *EncoderSubject)
}

func encoderRules() []encoderRule {
	return []encoderRule{
		{"forms", "each row has the form that the format says", forms},
		{"appends", "what stands in dst before stays there, and a refusal leaves nothing behind it", appends},
		{"refusals", "a refusal says why, names the row, and a column of the schema or none", encoderRefusals},
		{"round trip", "the decoder of the format reads each form back to the same row", roundTrip},
		{"no memory", "what an encoder wrote or refused before has no influence on a row's form", encoderNoMemory},
		{"read only", "the batch is not changed", encoderReadOnly},
		{"no reference", "a form is complete without the batch, which is used again", encoderNoReference},
		{"no allocation", "in steady state encoding takes no memory", encoderNoAllocation},
	}
}

// RunEncoder runs all cases for encoders.
func RunEncoder(t *testing.T, s EncoderSubject) {
	t.Helper()
	formed := 0
	for _, row := range s.Rows {
		if !row.Refused {
			formed++
		}
	}
	if formed < 2 {
		t.Fatalf("got %d rows with a form, want 2 or more", formed)
	}
	for _, r := range encoderRules() {
		t.Run("encoder "+r.name, func(t *testing.T) {
			r.run(t, &s)
			if t.Failed() {
				t.Logf("the rule: %s", r.why)
			}
		})
	}
}

func (s *EncoderSubject) encoder(t *testing.T) codec.Encoder {
	t.Helper()
	e, err := s.Factory.New(s.Schema)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return e
}

// batch returns the rows, counted.
func (s *EncoderSubject) batch(t *testing.T) *record.Batch {
	t.Helper()
	b := record.NewBatch(s.Schema)
	s.Fill(b)
	for range s.Rows {
		b.AppendMeta(record.RowMeta{Offset: record.Offset(b.Rows)})
	}
	for i := range b.Cols {
		if got := b.Cols[i].Len(); got != len(s.Rows) {
			t.Fatalf("Fill made %d rows in column %q, want %d", got, s.Schema.Fields[i].Name, len(s.Rows))
		}
	}
	return b
}

// encode encodes a row that has a form.
func encode(t *testing.T, e codec.Encoder, dst []byte, b *record.Batch, row int) []byte {
	t.Helper()
	out, r, ok := e.Encode(dst, b, row)
	if !ok {
		t.Fatalf("row %d: got refusal %+v, want a form", row, r)
	}
	return out
}

func forms(t *testing.T, s *EncoderSubject) {
	t.Helper()
	e, b := s.encoder(t), s.batch(t)
	for i, want := range s.Rows {
		if want.Refused {
			continue
		}
		if got := string(encode(t, e, nil, b, i)); want.Form != "" && got != want.Form {
			t.Errorf("row %d: got %q, want %q", i, got, want.Form)
		}
	}
}

func appends(t *testing.T, s *EncoderSubject) {
	t.Helper()
	e, b := s.encoder(t), s.batch(t)
	for i, row := range s.Rows {
		for _, room := range []int{0, 7, 1 << 12} {
			dst := append(make([]byte, 0, len("before")+room), "before"...)
			out, _, ok := e.Encode(dst, b, i)
			if ok == row.Refused {
				t.Fatalf("row %d: got ok %t", i, ok)
			}
			want := "before"
			if ok {
				want += string(encode(t, s.encoder(t), nil, b, i))
			}
			if string(out) != want {
				t.Errorf("row %d, room for %d bytes: got %q, want %q", i, room, out, want)
			}
		}
	}
}

func encoderRefusals(t *testing.T, s *EncoderSubject) {
	t.Helper()
	e, b := s.encoder(t), s.batch(t)
	for i, row := range s.Rows {
		if !row.Refused {
			continue
		}
		out, r, ok := e.Encode(nil, b, i)
		if ok || len(out) > 0 {
			t.Errorf("row %d: got %q, want a refusal", i, out)
		}
		if r.Reason == "" || r.Row != i || r.Column != row.Column || r.Byte != -1 {
			t.Errorf("row %d: got refusal %+v, want row %d, column %q, byte -1 and a reason", i, r, i, row.Column)
		}
		if r.Column != "" && s.Schema.Index(r.Column) < 0 {
			t.Errorf("row %d: got column %q, which is not in the schema", i, r.Column)
		}
	}
}

func roundTrip(t *testing.T, s *EncoderSubject) {
	t.Helper()
	if s.Decoder == nil {
		t.Skip("nothing reads the forms back")
	}
	schema, err := s.Decoder.Schema(s.Schema)
	if err != nil {
		t.Fatalf("Schema: %v", err)
	}
	d, err := s.Decoder.New(schema)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	e, b, again := s.encoder(t), s.batch(t), record.NewBatch(schema)
	for i, row := range s.Rows {
		if row.Refused {
			continue
		}
		form := encode(t, e, nil, b, i)
		if form == nil {
			form = []byte{} // not a tombstone
		}
		decodeGood(t, d, again, Sample{Value: form})
		got, want := string(codec.AppendJSON(nil, again, again.Rows-1)), string(codec.AppendJSON(nil, b, i))
		if got != want {
			t.Errorf("row %d as %q: got %s, want %s", i, form, got, want)
		}
	}
}

func encoderNoMemory(t *testing.T, s *EncoderSubject) {
	t.Helper()
	used, b := s.encoder(t), s.batch(t)
	for i := range s.Rows {
		used.Encode(nil, b, i)
	}
	for i := range slices.Backward(s.Rows) {
		got, refusal, ok := used.Encode(nil, b, i)
		want, wantRefusal, wantOK := s.encoder(t).Encode(nil, b, i)
		if !bytes.Equal(got, want) || refusal != wantRefusal || ok != wantOK {
			t.Errorf("row %d: got %q %+v %t, want %q %+v %t as from a fresh encoder", i, got, refusal, ok, want, wantRefusal, wantOK)
		}
	}
}

func encoderReadOnly(t *testing.T, s *EncoderSubject) {
	t.Helper()
	e, b, want := s.encoder(t), s.batch(t), s.batch(t)
	for i := range s.Rows {
		e.Encode(nil, b, i)
	}
	sameBatch(t, "after encoding", b, want)
}

func encoderNoReference(t *testing.T, s *EncoderSubject) {
	t.Helper()
	e, b, again := s.encoder(t), s.batch(t), s.batch(t)
	var got [][]byte
	for i := range s.Rows {
		out, _, _ := e.Encode(nil, b, i)
		got = append(got, out)
	}
	for i := range b.Cols {
		scrape(&b.Cols[i])
	}
	for i := range s.Rows {
		if want, _, _ := s.encoder(t).Encode(nil, again, i); !bytes.Equal(got[i], want) {
			t.Errorf("row %d, the batch used for something else: got %q, want %q", i, got[i], want)
		}
	}
}

// scrape overwrites the memory of a column.
func scrape(c *record.Column) {
	for i := range c.Bytes {
		c.Bytes[i] = '#'
	}
	clear(c.Fixed)
	if c.Key != nil {
		scrape(c.Key)
	}
	if c.Elem != nil {
		scrape(c.Elem)
	}
}

func encoderNoAllocation(t *testing.T, s *EncoderSubject) {
	t.Helper()
	if s.Allocates {
		t.Skip("the encoder says that it allocates")
	}
	e, b := s.encoder(t), s.batch(t)
	var dst []byte
	round := func() {
		dst = dst[:0]
		for i, row := range s.Rows {
			if !row.Refused {
				dst = encode(t, e, dst, b, i)
			}
		}
	}
	round()
	if got := testing.AllocsPerRun(20, round); got != 0 {
		t.Errorf("got %v allocations for %d rows, want 0", got, len(s.Rows))
	}
}
