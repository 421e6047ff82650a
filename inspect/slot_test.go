package inspect

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/state"
)

// The columns of a key are read from the text by which steps note them, whatever stands in names and types.
func TestKeyFields_readWhatStepsNote(t *testing.T) {
	for text, want := range map[string][]string{
		"word string":                        {"word"},
		"word string, n integer, f float":    {"word", "n", "f"},
		"two words string, d decimal(12, 3)": {"two words", "d"},
		`e enum("a, b" = 1, "c\" )" = 2), t timestamp(3, "Europe/Berlin")`: {"e", "t"},
		"a array(nullable(int64))": {"a"},
		"word nosuch":              nil,
		"word":                     nil,
		"":                         nil,
	} {
		var got []string
		for _, f := range keyFields(text) {
			got = append(got, f.Name)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

// A step's own note counts; another step's does where there is none, and that of a key that was given up only for what was given up.
func TestKeyOf_findsTheStepsKey(t *testing.T) {
	note := func(slot uint16, step, text string) state.Slot {
		return state.Slot{Slot: slot, Descriptor: state.Descriptor{Step: step, Name: "key", Kind: state.KindValue, Type: "key of " + text, Version: 1}}
	}
	old := note(1, "a", "old string")
	old.Discarded = true
	stored := []state.Slot{old, note(2, "b", "theirs string"), note(3, "a", "own string")}
	custom := state.Slot{Slot: 4, Descriptor: state.Descriptor{Step: "mine", Name: "n", Kind: state.KindValue, Type: "int64", Version: 1}}
	for _, c := range []struct {
		of   state.Slot
		want string
	}{{stored[0], "old"}, {stored[1], "theirs"}, {stored[2], "own"}, {custom, "theirs"}} {
		got := keyOf(append(stored, custom), &c.of)
		if len(got) != 1 || got[0].Name != c.want {
			t.Errorf("slot %d: got %v, want %s", c.of.Slot, got, c.want)
		}
	}
	if got := keyOf([]state.Slot{custom}, &custom); got != nil {
		t.Errorf("nobody noted a key: got %v", got)
	}
}

// A type that only its step knows has no reader, and a text of types is taken apart at its own commas only.
func TestNewReader_knowsTheTypesOfState(t *testing.T) {
	for typ, known := range map[string]bool{
		"int64": true, "float64": true, "string": true, "bytes": true, "bool": true, "nothing": true, "tuple(int64, decimal(10, 2))": true,
		`tuple(enum("a, b" = 1), string)`: true, "mine": false, "tuple(nosuch)": false, "": false,
	} {
		if got := newReader(typ) != nil; got != known {
			t.Errorf("%s: got a reader %t, want %t", typ, got, known)
		}
	}
	for typ, known := range map[string]bool{"int64": true, "float64": true, "string": true, "key of int64": true, "key of nosuch": false, "mine": false} {
		if got := newKeyReader(typ) != nil; got != known {
			t.Errorf("%s as a map's key: got a reader %t, want %t", typ, got, known)
		}
	}
	c := record.NewColumn(record.Type{Kind: record.Int64})
	c.AppendInt(5)
	row := state.AppendValue(nil, &c, 0)
	if text, ok := newReader("tuple(int64)")(row); !ok || string(text) != "[5]" {
		t.Errorf("got %s, %t, want [5]", text, ok)
	}
	if _, ok := newReader("tuple(int64)")(append(row, 1)); ok {
		t.Error("a byte too many is read")
	}
}
