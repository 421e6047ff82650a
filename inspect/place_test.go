package inspect

import (
	"bytes"
	"slices"
	"testing"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/state"
)

// A key is looked for in the key group that it lies in, whichever of its forms a person writes.
func TestSlot_findsTheKeyOfWhatIsShown(t *testing.T) {
	for _, c := range []struct{ note, column, value string }{
		{"k string", "string", "tea"},
		{"k string", "string", ""},
		{"k string", "string", `with "quotes", [and] é`},
		{"k string", "string", "5"},
		{"k integer", "int16", "-7"},
		{"k integer", "uint64", "18446744073709551615"},
		{"k float", "float64", "0.1"},
		{"k bool", "bool", "true"},
		{"k decimal(10, 2)", "decimal(10, 2)", "1.50"},
		{"k date", "date", "2026-01-02"},
		{"k timestamp(3)", "timestamp(3)", "2026-01-02T03:04:05.678Z"},
		{"k uuid", "uuid", "01234567-89ab-cdef-0123-456789abcdef"},
		{"k ipv4", "ipv4", "10.0.0.1"},
		{"k ipv6", "ipv6", "::1"},
		{`k enum("a" = 1, "b" = 2)`, `enum("a" = 1, "b" = 2)`, "b"},
	} {
		typ, err := record.ParseType(c.column)
		if err != nil {
			t.Fatal(err)
		}
		typ.Nullable = true
		b := record.NewBatch(&record.Schema{Fields: []record.Field{{Name: "k", Type: typ}}})
		if err := codec.AppendText(&b.Cols[0], []byte(c.value)); err != nil {
			t.Fatal(err)
		}
		b.Cols[0].AppendNull()
		s := newSlot(&state.Slot{Descriptor: state.Descriptor{Kind: state.KindValue, Type: "int64"}})
		s.key = keyFields(c.note)
		for row, text := range []string{c.value, "null"} {
			key := state.AppendKey(nil, b, []int{0}, row)
			object, array := s.keyText(key)
			for _, written := range []string{text, string(object), string(array)} {
				if !slices.ContainsFunc(s.keysOf(written), func(k []byte) bool { return bytes.Equal(k, key) }) {
					t.Errorf("%s: %s is not found by %s: got %x, want %x", c.note, c.value, written, s.keysOf(written), key)
				}
			}
		}
	}
}

// A text that is no key of these columns, and a key of unknown columns, may be anywhere.
func TestSlot_doesNotGuess(t *testing.T) {
	s := newSlot(&state.Slot{Descriptor: state.Descriptor{Kind: state.KindValue, Type: "int64"}})
	if got := s.keysOf("tea"); got != nil {
		t.Errorf("columns unknown: got %x", got)
	}
	s.key = keyFields("word string, n integer")
	for _, text := range []string{"tea", `["tea"]`, `["tea","x"]`, `["tea",[1]]`, `{"word":"tea"}`, `["tea",1] 2`, ""} {
		if got := s.keysOf(text); got != nil {
			t.Errorf("%s: got %x, want none", text, got)
		}
	}
	if got := s.keysOf(`["tea", 1]`); len(got) != 1 {
		t.Errorf("got %x, want one key", got)
	}
}
