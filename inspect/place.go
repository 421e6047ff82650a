package inspect

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/state"
)

// places returns the key groups that may hold a key which a person wrote, in order; nil when that can't be told: all may. A text can
// be several keys, null and "null" for one.
func (s *State) places(text string) []state.Group {
	var out []state.Group
	for _, slot := range s.slots {
		keys := slot.keysOf(text)
		if keys == nil {
			return nil
		}
		for _, key := range keys {
			out = append(out, state.GroupOf(key, s.groups))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// keysOf returns what is stored for the keys that a text can mean, nil when that can't be told.
func (s *slot) keysOf(text string) [][]byte {
	if len(s.key) == 0 {
		return nil
	}
	var out [][]byte
	if len(s.key) == 1 {
		if key, ok := s.keyOfValues([]any{text}); ok {
			out = append(out, key)
		}
	}
	if values := s.valuesOf(text); values != nil {
		if key, ok := s.keyOfValues(values); ok {
			out = append(out, key)
		}
	}
	return out
}

// valuesOf reads a text as JSON: an object of the key's columns, an array of its values, or its only value. nil if it is none.
func (s *slot) valuesOf(text string) []any {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil || dec.More() {
		return nil
	}
	switch v := v.(type) {
	case map[string]any:
		values := make([]any, len(s.key))
		for i := range s.key {
			value, ok := v[s.key[i].Name]
			if !ok {
				return nil
			}
			values[i] = value
		}
		return values
	case []any:
		if len(v) == len(s.key) {
			return v
		}
		return nil
	}
	if len(s.key) == 1 {
		return []any{v}
	}
	return nil
}

// keyOfValues returns the key of one value for each column, if they fit.
func (s *slot) keyOfValues(values []any) ([]byte, bool) {
	b := record.Batch{Rows: 1, Cols: make([]record.Column, len(s.key))}
	cols := make([]int, len(s.key))
	for i := range s.key {
		cols[i] = i
		b.Cols[i] = record.NewColumn(s.key[i].Type)
		if !appendValue(&b.Cols[i], values[i]) {
			return nil, false
		}
	}
	return state.AppendKey(nil, &b, cols, 0), true
}

func appendValue(col *record.Column, v any) bool {
	switch v := v.(type) {
	case nil:
		col.AppendNull()
		return true
	case bool:
		return col.Type.Kind == record.Bool && codec.AppendText(col, []byte(map[bool]string{false: "false", true: "true"}[v])) == nil
	case json.Number:
		return codec.AppendText(col, []byte(v.String())) == nil
	case string:
		return codec.AppendText(col, []byte(v)) == nil
	}
	return false // an array: such keys are looked for everywhere
}
