package json

import (
	"strings"
	"testing"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/codec/codectest"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

// encoderRows appends rows of every shape to a batch of encoderSchema.
func encoderRows(t *testing.T) func(b *record.Batch) {
	t.Helper()
	return func(b *record.Batch) {
		for i, text := range []string{"plain", "", "\"\\\n\u2028", "\xff", "null"} {
			row := []string{text, "-12.50", "2026-11-03T10:11:12.5Z", "NaN"}
			for c, value := range row {
				if text == "null" && b.Cols[c].Type.Nullable {
					b.Cols[c].AppendNull()
				} else if err := codec.AppendText(&b.Cols[c], []byte(value)); err != nil {
					t.Fatal(err)
				}
			}
			b.Cols[4].Key.AppendString("k" + text)
			b.Cols[4].Elem.AppendInt(int64(i))
			b.Cols[4].CloseList()
		}
	}
}

func encoderOf(t *testing.T, s EncoderSettings) *EncoderFactory {
	t.Helper()
	f, err := NewEncoder(s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func encoderSchema(t *testing.T) *record.Schema {
	t.Helper()
	return testSchema(t, "text", "nullable(string)", "sum", "decimal(9, 2)", "at", "nullable(timestamp(3))", "f", "float64", "map", "map(string, int8)")
}

func TestEncoder_conformance(t *testing.T) {
	f, err := New(Settings{})
	if err != nil {
		t.Fatal(err)
	}
	const rest = `,"sum":-12.50,"at":"2026-11-03T10:11:12.500Z","f":"NaN","map":`
	codectest.RunEncoder(t, codectest.EncoderSubject{
		Factory: encoderOf(t, EncoderSettings{}), Decoder: f, Schema: encoderSchema(t), Fill: encoderRows(t),
		Rows: []codectest.Row{
			{Form: `{"text":"plain"` + rest + `{"kplain":0}}`},
			{Form: `{"text":""` + rest + `{"k":1}}`},
			{Form: `{"text":"\"\\\n` + "\u2028" + `"` + rest + `{"k\"\\\n` + "\u2028" + `":2}}`},
			{Refused: true, Column: "text"},
			{Form: `{"text":null,"sum":-12.50,"at":null,"f":"NaN","map":{"knull":4}}`},
		},
	})
	codectest.RunEncoder(t, codectest.EncoderSubject{
		Factory: encoderOf(t, EncoderSettings{Columns: []string{"map", "text"}, InvalidUTF8: Base64}), Schema: encoderSchema(t), Fill: encoderRows(t),
		Rows: []codectest.Row{
			{Form: `{"map":{"kplain":0},"text":"plain"}`},
			{},
			{},
			{Form: `{"map":[[{"base64":"a/8="},3]],"text":{"base64":"/w=="}}`},
			{Form: `{"map":{"knull":4},"text":null}`},
		},
	})
}

// With all columns the bytes are those of codec.AppendJSON.
func TestEncoder_writesAsAppendJSON(t *testing.T) {
	s := encoderSchema(t)
	e, err := encoderOf(t, EncoderSettings{InvalidUTF8: Base64}).New(s)
	if err != nil {
		t.Fatal(err)
	}
	b := record.NewBatch(s)
	encoderRows(t)(b)
	for i := range b.Cols[0].Len() {
		got, _, _ := e.Encode(nil, b, i)
		if want := string(codec.AppendJSON(nil, b, i)); string(got) != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestNewEncoder_unknownColumn(t *testing.T) {
	_, err := encoderOf(t, EncoderSettings{Columns: []string{"z"}}).New(encoderSchema(t))
	if err == nil || fault.KindOf(err) != fault.Misconfigured || !strings.Contains(err.Error(), `"z"`) {
		t.Errorf("got error %v, want a misconfigured one that names the column", err)
	}
	if err := config.CheckSpec(EncoderSpec(), &EncoderSettings{}); err != nil {
		t.Error(err)
	}
}
