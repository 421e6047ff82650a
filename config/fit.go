package config

import (
	"encoding"
	"fmt"
	"reflect"
	"time"
)

// fits says why a field of type t can't hold the values of k, or "".
func (k *Key) fits(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	good := false
	switch k.Kind {
	case KindString, KindEnum:
		good = t.Kind() == reflect.String || reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
	case KindStrings:
		good = t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.String
	case KindInt, KindBytes:
		good = t.Kind() >= reflect.Int && t.Kind() <= reflect.Uint64 && t != reflect.TypeFor[time.Duration]()
	case KindFloat:
		good = t.Kind() == reflect.Float64 || t.Kind() == reflect.Float32
	case KindBool:
		good = t.Kind() == reflect.Bool
	case KindDuration:
		good = t == reflect.TypeFor[time.Duration]()
	case KindTime:
		good = t == reflect.TypeFor[time.Time]()
	case KindSecret:
		good = t == reflect.TypeFor[Secret]()
	case KindTable:
		good = t.Kind() == reflect.Struct
	case KindTables:
		good = t.Kind() == reflect.Slice && isRow(t.Elem())
	case KindStringMap:
		good = t == reflect.TypeFor[map[string]string]() || t == reflect.TypeFor[[]Entry]()
	case KindIntMap:
		good = t == reflect.TypeFor[map[string]int64]()
	case KindTableMap:
		good = holdsNamedRows(t)
	case KindSection:
		good = t == reflect.TypeFor[Section]()
	}
	if good {
		return ""
	}
	return fmt.Sprintf("a field of type %s can't hold the kind %s", t, k.Kind)
}

// isRow reports whether t is a struct or a pointer to one.
func isRow(t reflect.Type) bool {
	return t.Kind() == reflect.Struct || t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct
}

// holdsNamedRows reports whether t is a map from string to rows, or a slice of rows with a field for the name.
func holdsNamedRows(t reflect.Type) bool {
	if t.Kind() == reflect.Map {
		return t.Key().Kind() == reflect.String && isRow(t.Elem())
	}
	if t.Kind() != reflect.Slice || !isRow(t.Elem()) {
		return false
	}
	row := t.Elem()
	if row.Kind() == reflect.Pointer {
		row = row.Elem()
	}
	index := fieldIndex(row, keyTag)
	return index != nil && row.FieldByIndex(index).Type.Kind() == reflect.String
}
