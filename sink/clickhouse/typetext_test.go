package clickhouse

import (
	"strings"
	"testing"
)

func TestTypeText_isWrittenAsItWasRead(t *testing.T) {
	for _, text := range []string{
		"UInt8", "DateTime64(3, 'Europe/Berlin')", "Enum8('a' = -128, 'it\\'s, (b)' = 127)", "Map(LowCardinality(String), Array(Nullable(Decimal(76, 3))))",
		"FixedString(16)", "Tuple(Array(String), UInt8)", "DateTime('UTC')", `Enum16('\n\0\\' = 5)`,
	} {
		got, err := parseTypeText(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got.String() != text {
			t.Errorf("got %s, want %s", got, text)
		}
	}
}

func TestTypeText_wrongTextsAreErrors(t *testing.T) {
	for _, text := range []string{
		"", "(", "UInt8(", "UInt8)", "Array(UInt8", "Array(,)", "Enum8('a = 1)", "Enum8('a' = )", "Enum8('a\\", "FixedString(-)", "A(1 2)", "A B", "Decimal(1x)",
		strings.Repeat("Array(", 20) + "UInt8" + strings.Repeat(")", 20),
	} {
		if got, err := parseTypeText(text); err == nil {
			t.Errorf("%q: got %s, want an error", text, got)
		}
	}
}

// What the server may send never panics the parser, and what is understood is understood again in the form that is sent back.
func FuzzTypeText(f *testing.F) {
	for _, s := range []string{"UInt8", "Enum8('a' = 1, 'b\\'' = -2)", "Map(String, Array(Nullable(DateTime64(9, 'UTC'))))", "LowCardinality(Nullable(FixedString(3)))", "Decimal(38, 38)", "A('", "A(1", "Tuple(a UInt8)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text, err := parseTypeText(s)
		if err != nil {
			return
		}
		again, err := parseTypeText(text.String())
		if err != nil || again.String() != text.String() {
			t.Fatalf("%q is written as %q, which is read as %v (%v)", s, text, again, err)
		}
		shape, err := parseShape(s)
		if err != nil {
			return
		}
		wire, err := parseShape(shape.wire)
		if err != nil {
			t.Fatalf("%q is sent as %q: %v", s, shape.wire, err)
		}
		if wire.wire != shape.wire || !wire.typ.Equal(&shape.typ) || wire.layout != shape.layout {
			t.Errorf("%q is sent as %q, which is another type", s, shape.wire)
		}
		if strings.Contains(shape.wire, "LowCardinality(") && !strings.Contains(shape.wire, "'") {
			t.Errorf("%q is sent with a dictionary: %q", s, shape.wire)
		}
	})
}
