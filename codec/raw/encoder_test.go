package raw

import (
	"strings"
	"testing"

	"github.com/ingestd/ingestd/codec/codectest"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

func TestEncoder_conformance(t *testing.T) {
	codectest.RunEncoder(t, codectest.EncoderSubject{
		Factory: NewEncoder(EncoderSettings{}), Decoder: New(Settings{}),
		Schema: &record.Schema{Fields: []record.Field{{Name: "value", Type: record.Type{Kind: record.String, Nullable: true}}}},
		Fill: func(b *record.Batch) {
			b.Cols[0].AppendString("a\n\xff")
			b.Cols[0].AppendString("")
			b.Cols[0].AppendNull()
		},
		Rows: []codectest.Row{{Form: "a\n\xff"}, {}, {Refused: true, Column: "value"}},
	})
	codectest.RunEncoder(t, codectest.EncoderSubject{
		Factory: NewEncoder(EncoderSettings{Column: "f"}),
		Schema: &record.Schema{Fields: []record.Field{
			{Name: "n", Type: record.Type{Kind: record.Int8}}, {Name: "f", Type: record.Type{Kind: record.FixedString, Size: 2}},
		}},
		Fill: func(b *record.Batch) {
			for _, text := range []string{"a\x00", "bc"} {
				b.Cols[0].AppendInt(1)
				b.Cols[1].AppendFixed([]byte(text))
			}
		},
		Rows: []codectest.Row{{Form: "a\x00"}, {Form: "bc"}},
	})
}

func TestNewEncoder_refusesSchemas(t *testing.T) {
	s := &record.Schema{Fields: []record.Field{{Name: "n", Type: record.Type{Kind: record.Int8}}}}
	for column, want := range map[string]string{"n": "is int8", "": `no column "value"`} {
		_, err := NewEncoder(EncoderSettings{Column: column}).New(s)
		if err == nil || fault.KindOf(err) != fault.Misconfigured || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want a misconfigured one with %q", err, want)
		}
	}
	if err := config.CheckSpec(EncoderSpec(), &EncoderSettings{}); err != nil {
		t.Error(err)
	}
}
