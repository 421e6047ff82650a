package inspect

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/state"
	"github.com/ingestd/ingestd/step"
)

// slot is a state of a step, with what is needed to read its keys and values.
type slot struct {
	state.Slot
	key    []record.Field // the columns of the key; nil when the state does not tell
	mapKey reader         // of a map's keys; nil for others, and when their type is not known
	value  reader         // nil when the type is not known
	timed  bool           // the namespace is a time
}

// Built-in steps note their key in a state of this name, whose type begins with the mark.
const (
	keyState = "key"
	keyMark  = "key of "
)

func newSlots(stored []state.Slot) []*slot {
	out := make([]*slot, len(stored))
	for i := range stored {
		out[i] = newSlot(&stored[i])
		out[i].key = keyOf(stored, &stored[i])
	}
	return out
}

func newSlot(s *state.Slot) *slot {
	out := &slot{Slot: *s, timed: s.Kind == state.KindTimer || s.Kind == state.KindSeen}
	typ := s.Type
	if s.Kind == state.KindMap {
		inner, ok := strings.CutPrefix(typ, "map(")
		parts := splitTop(strings.TrimSuffix(inner, ")"))
		if !ok || len(parts) != 2 {
			return out
		}
		out.mapKey, typ = newKeyReader(parts[0]), parts[1]
	}
	switch {
	case s.Kind == state.KindTimer || s.Kind == state.KindSeen:
		out.value = readNothing
	case s.Name == step.AccumulatorsState && strings.Contains(typ, ": "):
		out.value = accumulators(typ).read
		out.timed = strings.HasPrefix(typ, "tumbling") || strings.HasPrefix(typ, "hopping")
	case s.Name == step.SessionsState && typ == "sessions":
		out.value = readSessions
	default:
		out.value = newReader(typ)
	}
	return out
}

// keyOf finds the columns of a step's key: the step's own note, or, as all keyed steps of a pipeline have the same key, another's.
func keyOf(stored []state.Slot, of *state.Slot) []record.Field {
	var fields []record.Field
	for i := range stored {
		s := &stored[i]
		text, ok := strings.CutPrefix(s.Type, keyMark)
		if !ok || s.Name != keyState || s.Discarded && s.Step != of.Step {
			continue
		}
		own := s.Step == of.Step && s.Discarded == of.Discarded
		if own || fields == nil {
			fields = keyFields(text)
		}
		if own {
			break
		}
	}
	return fields
}

// keyFields reads "word string, day date" as the columns of a key; nil if it is something else.
func keyFields(text string) []record.Field {
	var out []record.Field
	for _, part := range splitTop(text) {
		at := lastSpace(part)
		if at <= 0 {
			return nil
		}
		f := record.Field{Name: part[:at]}
		switch class := part[at+1:]; class {
		case "integer":
			f.Type.Kind = record.Int256
		case "float":
			f.Type.Kind = record.Float64
		default:
			t, err := record.ParseType(class)
			if err != nil {
				return nil
			}
			f.Type = t
		}
		f.Type.Nullable = true
		out = append(out, f)
	}
	return out
}

// splitTop splits at ", " outside of quotes and brackets.
func splitTop(text string) []string {
	var out []string
	from := 0
	walkTop(text, func(i int) {
		if strings.HasPrefix(text[i:], ", ") {
			out = append(out, text[from:i])
			from = i + len(", ")
		}
	})
	return append(out, text[from:])
}

// lastSpace returns the place of the last space outside of quotes and brackets, or -1.
func lastSpace(text string) int {
	at := -1
	walkTop(text, func(i int) {
		if text[i] == ' ' {
			at = i
		}
	})
	return at
}

// walkTop calls f with the place of each byte outside of quotes and brackets.
func walkTop(text string, f func(i int)) {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '(':
			depth++
		case ')':
			depth--
		case '"':
			i = quoteEnd(text, i)
		default:
			if depth == 0 {
				f(i)
			}
		}
	}
}

// quoteEnd returns the place of the quote that ends the one at a place, or the text's end.
func quoteEnd(text string, at int) int {
	for i := at + 1; i < len(text); i++ {
		switch text[i] {
		case '"':
			return i
		case '\\':
			i++
		}
	}
	return len(text)
}

func (s *State) slot(number uint16) *slot {
	i, ok := slices.BinarySearchFunc(s.slots, number, func(s *slot, n uint16) int { return cmp.Compare(s.Slot.Slot, n) })
	if !ok {
		return nil
	}
	return s.slots[i]
}

func sorted(counts map[uint16]*Count) []Count {
	var out []Count
	for _, slot := range slices.Sorted(maps.Keys(counts)) {
		out = append(out, *counts[slot])
	}
	return out
}
