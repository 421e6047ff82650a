package inspect

import (
	"encoding/binary"
	"encoding/json"
	"strings"
	"time"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/state"
	"github.com/ingestd/ingestd/step"
)

// Entry is one stored key of keyed state with its value, as JSON. What can't be read as what its state's type says stands in
// RawKey or RawValue, as it is stored.
type Entry struct {
	Step  string      `json:"step,omitempty"`
	State string      `json:"state,omitempty"`
	Kind  string      `json:"kind,omitempty"`
	Slot  uint16      `json:"slot,omitempty"`
	Group state.Group `json:"group"`
	// Key is the key: an object of its columns, or an array of its values when their names are not known. A key of nothing is left
	// out.
	Key       json.RawMessage `json:"key,omitempty"`
	Namespace *int64          `json:"namespace,omitempty"`
	Time      string          `json:"time,omitempty"`    // the namespace, when it is a time
	MapKey    json.RawMessage `json:"map_key,omitempty"` // of a map's entry
	Place     *uint64         `json:"place,omitempty"`   // of a list's element, from 0
	Length    *uint64         `json:"length,omitempty"`  // of a list, in its head
	Written   string          `json:"written,omitempty"` // when it was written, by the clock of the state's ttl
	Value     json.RawMessage `json:"value,omitempty"`
	RawKey    []byte          `json:"raw_key,omitempty"`
	RawValue  []byte          `json:"raw_value,omitempty"`

	array json.RawMessage // the values of the key
}

// wantedKey is a key as a person wrote it: a value as it is shown, a string also without its quotes; of a key of several columns an
// array of their values, or an object as it is shown.
type wantedKey struct{ object, array, value, text string }

func newWantedKey(text string) wantedKey {
	c := compact(text)
	return wantedKey{object: c, array: c, value: "[" + c + "]", text: "[" + string(codec.AppendJSONString(nil, []byte(text))) + "]"}
}

// is compares a key with its two forms, as an object or array, and always as an array.
func (w *wantedKey) is(key, array json.RawMessage) bool {
	if len(key) == 0 {
		return false
	}
	a := string(array)
	return w.object == string(key) || w.array == a || w.value == a || w.text == a
}

// compact is a JSON text without spaces; another text stays as it is.
func compact(text string) string {
	var b strings.Builder
	dec := json.NewDecoder(strings.NewReader(text))
	var raw json.RawMessage
	if dec.Decode(&raw) != nil || dec.More() {
		return text
	}
	inString := false
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		switch {
		case inString && c == '\\':
			b.WriteByte(c)
			i++
			c = raw[i]
		case c == '"':
			inString = !inString
		case !inString && (c == ' ' || c == '\t' || c == '\n' || c == '\r'):
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

func (s *State) decode(key, value []byte) *Entry {
	e := &Entry{}
	p, err := state.SplitKey(key)
	if err != nil {
		e.RawKey, e.RawValue = key, value
		return e
	}
	e.Slot, e.Kind, e.Group = p.Slot, p.Kind, p.Group
	slot := s.slot(p.Slot)
	if slot == nil {
		slot = newSlot(&state.Slot{Slot: p.Slot})
	}
	e.Step, e.State = slot.Step, slot.Name
	if p.Spaced {
		e.Namespace = &p.Space
		if slot.timed {
			e.Time = timeText(p.Space)
		}
	}
	if len(p.User) > 0 {
		if e.Key, e.array = slot.keyText(p.User); e.Key == nil {
			e.RawKey = key
		}
	}
	if !e.take(slot, p.Sub, value) {
		e.Value, e.RawValue = nil, value
	}
	return e
}

// take reads the rest of a key and its value. It returns false for a value that can't be read.
func (e *Entry) take(slot *slot, sub, value []byte) bool {
	if e.Kind == state.KindTimer || e.Kind == state.KindSeen {
		return len(value) == 0
	}
	if e.Kind == state.KindList && len(sub) == 8 {
		n := binary.BigEndian.Uint64(sub)
		e.Place = &n
		return e.read(slot.value, value)
	}
	var ok bool
	if value, ok = e.head(value); !ok {
		return false
	}
	switch e.Kind {
	case state.KindList:
		n, size := binary.Uvarint(value)
		e.Length = &n
		return size == len(value)
	case state.KindMap:
		if slot.mapKey != nil {
			e.MapKey, ok = slot.mapKey(sub)
		}
		if slot.mapKey == nil || !ok {
			e.MapKey = base64Text(sub)
		}
	}
	return e.read(slot.value, value)
}

// head takes the time of writing from the front of a value.
func (e *Entry) head(value []byte) (rest []byte, ok bool) {
	const plain, timed, timedBytes = 0x00, 0x01, 9
	switch {
	case len(value) > 0 && value[0] == plain:
		return value[1:], true
	case len(value) >= timedBytes && value[0] == timed:
		e.Written = timeText(int64(binary.BigEndian.Uint64(value[1:])))
		return value[timedBytes:], true
	}
	return nil, false
}

func (e *Entry) read(r reader, value []byte) (ok bool) {
	if r == nil {
		return false
	}
	e.Value, ok = r(value)
	return ok
}

// keyText returns a key as JSON, nil if it can't be read: as an object if the names of its columns are known, and as an array.
func (s *slot) keyText(user []byte) (key, array json.RawMessage) {
	types, err := state.KeyTypes(user)
	if err != nil {
		return nil, nil
	}
	cols := make([]record.Column, len(types))
	pointers := make([]*record.Column, len(types))
	named := len(s.key) == len(types)
	for i := range types {
		if named && s.key[i].Type.Kind == record.Enum {
			types[i] = s.key[i].Type
		}
		cols[i] = record.NewColumn(types[i])
		pointers[i] = &cols[i]
	}
	if state.ReadKey(user, pointers...) != nil {
		return nil, nil
	}
	if array = arrayText(cols); !named {
		return array, array
	}
	out := []byte{'{'}
	for i := range cols {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(codec.AppendJSONString(out, []byte(s.key[i].Name)), ':')
		out = codec.AppendJSONValue(out, &cols[i], 0)
	}
	return append(out, '}'), array
}

func arrayText(cols []record.Column) json.RawMessage {
	out := []byte{'['}
	for i := range cols {
		if i > 0 {
			out = append(out, ',')
		}
		out = codec.AppendJSONValue(out, &cols[i], 0)
	}
	return append(out, ']')
}

func base64Text(b []byte) json.RawMessage {
	text, err := json.Marshal(map[string][]byte{"base64": b})
	if err != nil {
		return nil
	}
	return text
}

// timeText is a time of state as text; a time that is out of any calendar is left out.
func timeText(ms int64) string {
	const bound = 253402300800000 // the year 10000
	if ms <= -bound || ms >= bound {
		return ""
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
}

// accumulators reads the accumulators of an aggregate step, whose state has this type.
type accumulators string

// read returns an array with the result of each aggregate.
func (typ accumulators) read(b []byte) (json.RawMessage, bool) {
	list, _, err := step.ReadAccumulators(string(typ), b)
	if err != nil {
		return nil, false
	}
	cols := make([]record.Column, len(list))
	for i := range list {
		cols[i] = list[i].Result
	}
	return arrayText(cols), true
}

func readSessions(b []byte) (json.RawMessage, bool) {
	list, err := step.ReadSessions(b)
	if err != nil {
		return nil, false
	}
	type span struct {
		Namespace int64  `json:"namespace"`
		Start     string `json:"start"`
		End       string `json:"end"`
	}
	spans := make([]span, len(list))
	for i, s := range list {
		spans[i] = span{s.ID, timeText(s.Start), timeText(s.End)}
	}
	text, err := json.Marshal(spans)
	return text, err == nil
}
