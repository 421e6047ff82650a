package step

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/record"
)

// writer appends results of expressions to columns of one type. A value is stored only if the type holds it exactly.
type writer struct {
	typ       record.Type
	text      *codec.Text
	key, elem *writer
	scratch   []byte
}

func newWriter(t *record.Type) (*writer, error) {
	text, err := codec.NewText(t)
	if err != nil {
		return nil, err
	}
	w := &writer{typ: *t, text: text}
	if t.Key != nil {
		if w.key, err = newWriter(t.Key); err != nil {
			return nil, err
		}
	}
	if t.Elem != nil {
		if w.elem, err = newWriter(t.Elem); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// takes reports whether a result of the given type may fit, as far as that is known before it is there.
func (w *writer) takes(t reflect.Type) bool {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	k := w.typ.Kind
	numeric := k >= record.Int8 && k <= record.Decimal
	switch t {
	case nil:
		return true
	case reflect.TypeFor[int](), reflect.TypeFor[float64](), reflect.TypeFor[Number]():
		return numeric
	case reflect.TypeFor[bool]():
		return k == record.Bool
	case reflect.TypeFor[time.Time]():
		return k == record.Timestamp || k == record.Date
	case reflect.TypeFor[string]():
		return k != record.Bool && !numeric && k != record.Array && k != record.Map
	}
	switch t.Kind() { //nolint:exhaustive // nothing else can be stored
	case reflect.Interface:
		return true
	case reflect.Slice, reflect.Array:
		return k == record.Array
	case reflect.Map:
		return k == record.Map
	}
	return false
}

// append appends a result. After an error the column may hold elements of a list that is not closed.
func (w *writer) append(c *record.Column, v any) error {
	switch v := v.(type) {
	case nil:
		if !w.typ.Nullable {
			return fmt.Errorf("null does not fit %s", &w.typ)
		}
		c.AppendNull()
		return nil
	case string:
		if !w.takes(reflect.TypeFor[string]()) {
			return w.mismatch(v)
		}
		w.scratch = append(w.scratch[:0], v...)
	case bool:
		if w.typ.Kind != record.Bool {
			return w.mismatch(v)
		}
		c.AppendBool(v)
		return nil
	case int, float64, Number:
		if !w.takes(reflect.TypeFor[int]()) {
			return w.mismatch(v)
		}
		return w.number(c, v)
	case time.Time:
		return w.time(c, v)
	default:
		return w.list(c, v)
	}
	if err := w.text.Append(c, w.scratch); err != nil {
		return fmt.Errorf("%s: %q %w", &w.typ, w.scratch, err)
	}
	return nil
}

func (w *writer) mismatch(v any) error { return fmt.Errorf("%v does not fit %s", v, &w.typ) }

func (w *writer) number(c *record.Column, v any) error {
	switch v := v.(type) {
	case int:
		w.scratch = strconv.AppendInt(w.scratch[:0], int64(v), 10)
	case float64:
		if w.typ.Kind == record.Float32 || w.typ.Kind == record.Float64 {
			return w.float(c, v)
		}
		w.scratch = strconv.AppendFloat(w.scratch[:0], v, 'g', -1, 64)
	case Number:
		if w.typ.Kind == record.Float32 || w.typ.Kind == record.Float64 {
			f, _ := v.rat.Float64()
			return w.float(c, f)
		}
		if _, exact := v.rat.FloatPrec(); !exact {
			return fmt.Errorf("%s: %s has digits without end; use round(x, %d)", &w.typ, v, w.typ.Scale)
		}
		w.scratch = append(w.scratch[:0], v.String()...)
	}
	if err := codec.AppendNumber(c, w.scratch); err != nil {
		return fmt.Errorf("%s: %s %w", &w.typ, w.scratch, err)
	}
	return nil
}

// float stores a float; one that is finite must stay so in 32 bits.
func (w *writer) float(c *record.Column, v float64) error {
	if w.typ.Kind == record.Float64 || v != v || v-v != 0 { // not a number, or infinite
		c.AppendFloat(v)
		return nil
	}
	w.scratch = strconv.AppendFloat(w.scratch[:0], v, 'g', -1, 64)
	if err := codec.AppendNumber(c, w.scratch); err != nil {
		return fmt.Errorf("%s: %s %w", &w.typ, w.scratch, err)
	}
	return nil
}

func (w *writer) time(c *record.Column, v time.Time) error {
	switch w.typ.Kind { //nolint:exhaustive // no other kind takes a time
	case record.Timestamp:
		w.scratch = v.UTC().AppendFormat(w.scratch[:0], "2006-01-02T15:04:05.999999999Z")
	case record.Date:
		day := v.UTC()
		if !day.Equal(day.Truncate(secondsPerDay * time.Second)) {
			return fmt.Errorf("%s: %s has a time of day", &w.typ, day.Format(time.RFC3339Nano))
		}
		w.scratch = day.AppendFormat(w.scratch[:0], time.DateOnly)
	default:
		return w.mismatch(v)
	}
	if err := w.text.Append(c, w.scratch); err != nil {
		return fmt.Errorf("%s: %s %w", &w.typ, w.scratch, err)
	}
	return nil
}

// list stores an array or a map; the pairs of a map in the order of their keys.
func (w *writer) list(c *record.Column, v any) error {
	switch v := v.(type) {
	case *string: // an element of the headers
		if v == nil {
			return w.append(c, nil)
		}
		return w.append(c, *v)
	case []any:
		return w.array(c, v)
	case map[string]any:
		return w.pairs(c, slices.Sorted(maps.Keys(v)), func(key string) any { return v[key] })
	case map[string]*string:
		return w.pairs(c, slices.Sorted(maps.Keys(v)), func(key string) any { return v[key] })
	}
	rv := reflect.ValueOf(v)
	if rv.Kind() == reflect.Slice {
		list := make([]any, rv.Len())
		for i := range list {
			list[i] = rv.Index(i).Interface()
		}
		return w.array(c, list)
	}
	return w.mismatch(v)
}

func (w *writer) array(c *record.Column, list []any) error {
	if w.typ.Kind != record.Array {
		return w.mismatch(list)
	}
	for _, v := range list {
		if err := w.elem.append(c.Elem, v); err != nil {
			return err
		}
	}
	c.CloseList()
	return nil
}

func (w *writer) pairs(c *record.Column, keys []string, value func(key string) any) error {
	if w.typ.Kind != record.Map {
		return errors.New("a map does not fit " + w.typ.String())
	}
	for _, key := range keys {
		if err := w.key.text.Append(c.Key, []byte(key)); err != nil {
			return fmt.Errorf("map key %s: %q %w", &w.key.typ, key, err)
		}
		if err := w.elem.append(c.Elem, value(key)); err != nil {
			return err
		}
	}
	c.CloseList()
	return nil
}
