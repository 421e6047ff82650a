// Package invariant asserts what docs/invariants.md lists, by the ids given there.
package invariant

import (
	"reflect"
	"strconv"
	"strings"
)

// elementsMax bounds how much of a slice a violation prints.
const elementsMax = 16

// A Violation is what Check panics with.
type Violation struct {
	ID     string // of the invariant, such as "I3"
	Detail string // the arguments of Check, formatted
}

// String returns the id and the arguments.
func (v Violation) String() string {
	if v.Detail == "" {
		return "invariant " + v.ID + " does not hold"
	}
	return "invariant " + v.ID + " does not hold: " + v.Detail
}

// Check panics with a Violation unless ok. It is always on: a crash and the replay that follows it are safe, going on is not.
// The args say what was found, as a rule a name and a value in turn. They are formatted only when the check fails, and a
// check that holds allocates nothing. Numbers, strings, booleans, structs and slices of these print their values;
// of anything else only the type is printed. Safe for concurrent use.
func Check(id string, ok bool, args ...any) { //nolint:revive // ok is what is asserted, not a mode
	if !ok {
		panic(Violation{ID: id, Detail: detail(args)})
	}
}

// detail formats without a call that would let args escape: with one, every call of Check would put its arguments on the heap.
func detail(args []any) string {
	var b strings.Builder
	for i, arg := range args {
		if i > 0 {
			b.WriteByte(' ')
		}
		if arg == nil {
			b.WriteString("nil")
			continue
		}
		write(&b, reflect.ValueOf(arg))
	}
	return b.String()
}

func write(b *strings.Builder, v reflect.Value) {
	switch {
	case v.CanInt():
		b.WriteString(strconv.FormatInt(v.Int(), 10))
	case v.CanUint():
		b.WriteString(strconv.FormatUint(v.Uint(), 10))
	case v.CanFloat():
		b.WriteString(strconv.FormatFloat(v.Float(), 'g', -1, 64))
	case v.Kind() == reflect.Bool:
		b.WriteString(strconv.FormatBool(v.Bool()))
	case v.Kind() == reflect.String:
		b.WriteString(v.String())
	case v.Kind() == reflect.Struct, v.Kind() == reflect.Slice, v.Kind() == reflect.Array:
		writeElements(b, v)
	default:
		b.WriteString(v.Type().String())
	}
}

func writeElements(b *strings.Builder, v reflect.Value) {
	fields := v.Kind() == reflect.Struct
	var n int
	if fields {
		n = v.NumField()
	} else {
		n = v.Len()
	}
	b.WriteByte('{')
	for i := range min(n, elementsMax) {
		if i > 0 {
			b.WriteByte(' ')
		}
		if fields {
			write(b, v.Field(i))
		} else {
			write(b, v.Index(i))
		}
	}
	if n > elementsMax {
		b.WriteString(" and " + strconv.Itoa(n-elementsMax) + " more")
	}
	b.WriteByte('}')
}
