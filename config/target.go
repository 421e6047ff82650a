package config

import (
	"encoding"
	"fmt"
	"reflect"
)

// target is the field of a settings struct that takes a value, or nothing: then values are checked and dropped.
type target struct {
	value reflect.Value
}

// tagName is the struct tag that names the key of a field; keyTag marks the field that takes the key of a free table.
const (
	tagName = "config"
	keyTag  = ",key"
)

// targetOf returns the target for a settings struct. into is a pointer to it, or nil.
func targetOf(into any) (target, error) {
	if into == nil {
		return target{}, nil
	}
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return target{}, fmt.Errorf("defect in the plugin: %T is not a pointer to a settings struct", into)
	}
	return target{value: v.Elem()}, nil
}

// field returns the field for a key; no target if there is none.
func (t target) field(name string) target {
	if !t.value.IsValid() || t.value.Kind() != reflect.Struct {
		return target{}
	}
	index := fieldIndex(t.value.Type(), name)
	if index == nil {
		return target{}
	}
	return target{value: t.value.FieldByIndex(index)}
}

// fieldIndex finds the exported field with a tag, in embedded structs too.
func fieldIndex(t reflect.Type, name string) []int {
	for i := range t.NumField() {
		f := t.Field(i)
		tag, tagged := f.Tag.Lookup(tagName)
		if tagged && tag == name && f.IsExported() {
			return f.Index
		}
		if f.Anonymous && !tagged && f.Type.Kind() == reflect.Struct {
			if inner := fieldIndex(f.Type, name); inner != nil {
				return append([]int{i}, inner...)
			}
		}
	}
	return nil
}

// optional reports whether the field can stay nil.
func (t target) optional() bool {
	return t.value.IsValid() && t.value.Kind() == reflect.Pointer
}

// present returns what a pointer field points to, made if it is nil, or the field itself.
func (t target) present() target {
	if !t.optional() {
		return t
	}
	if t.value.IsNil() {
		t.value.Set(reflect.New(t.value.Type().Elem()))
	}
	return target{value: t.value.Elem()}
}

// store converts a scalar or a []string into the field, whose type fits. The error is a number that the field can't hold, or
// what its UnmarshalText says.
func (t target) store(value any) error {
	if !t.value.IsValid() {
		return nil
	}
	dst, src := t.present().value, reflect.ValueOf(value)
	if u, ok := reflect.TypeAssert[encoding.TextUnmarshaler](dst.Addr()); ok && src.Kind() == reflect.String {
		return u.UnmarshalText([]byte(src.String()))
	}
	switch {
	case src.Kind() == reflect.Int64 && dst.CanInt() && dst.OverflowInt(src.Int()):
		return fmt.Errorf("%d does not fit into %d bits", src.Int(), dst.Type().Bits())
	case src.Kind() == reflect.Int64 && dst.CanUint() && (src.Int() < 0 || dst.OverflowUint(uint64(src.Int()))):
		return fmt.Errorf("%d does not fit into %d bits without a sign", src.Int(), dst.Type().Bits())
	case dst.Kind() == reflect.Slice:
		list := reflect.MakeSlice(dst.Type(), src.Len(), src.Len())
		for i := range src.Len() {
			list.Index(i).Set(src.Index(i).Convert(dst.Type().Elem()))
		}
		src = list
	}
	dst.Set(src.Convert(dst.Type()))
	return nil
}

// rows makes room for n tables in a slice field and returns the target of each.
func (t target) rows(n int) func(i int) target {
	if !t.value.IsValid() {
		return func(int) target { return target{} }
	}
	list := t.present().value
	list.Set(reflect.MakeSlice(list.Type(), n, n))
	return func(i int) target { return target{value: list.Index(i)}.present() }
}

// namedRows makes room for n named tables in a map or slice field. The function that it returns gives the target of a row
// and what to call when the row is complete.
func (t target) namedRows(n int) func(i int, name string) (target, func()) {
	if !t.value.IsValid() {
		return func(int, string) (target, func()) { return target{}, func() {} }
	}
	into := t.present().value
	if into.Kind() == reflect.Map {
		into.Set(reflect.MakeMapWithSize(into.Type(), n))
		return func(_ int, name string) (target, func()) {
			row := reflect.New(into.Type().Elem()).Elem()
			key := reflect.ValueOf(name).Convert(into.Type().Key())
			return target{value: row}.present(), func() { into.SetMapIndex(key, row) }
		}
	}
	rows := t.rows(n)
	return func(i int, name string) (target, func()) {
		row := rows(i)
		row.field(keyTag).value.SetString(name)
		return row, func() {}
	}
}

// storeMap puts the entries of a free table into a map or into a []Entry.
func (t target) storeMap(entries []entry) {
	if !t.value.IsValid() {
		return
	}
	into := t.present().value
	if list, ok := reflect.TypeAssert[*[]Entry](into.Addr()); ok {
		*list = make([]Entry, len(entries))
		for i, e := range entries {
			(*list)[i] = Entry{Key: e.key, Value: reflect.ValueOf(e.value).String(), Pos: e.pos}
		}
		return
	}
	into.Set(reflect.MakeMapWithSize(into.Type(), len(entries)))
	for _, e := range entries {
		into.SetMapIndex(reflect.ValueOf(e.key), reflect.ValueOf(e.value))
	}
}
