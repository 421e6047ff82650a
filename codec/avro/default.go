package avro

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"

	"github.com/hamba/avro/v2"
)

// exactMax is the greatest integer below which the library, which reads defaults as float64, has read every one exactly.
const exactMax = 1 << 53

// appendDefault appends a field's default, as the library has read it, in the binary form of its schema.
func appendDefault(dst []byte, s avro.Schema, v any) ([]byte, error) {
	switch s := deref(s).(type) {
	case *avro.NullSchema:
		return dst, nil
	case *avro.UnionSchema:
		return appendUnionDefault(dst, s, v)
	case *avro.PrimitiveSchema:
		return appendPrimitiveDefault(dst, s.Type(), v)
	case *avro.FixedSchema:
		array := reflect.ValueOf(v) // the library makes an array of as many bytes
		if array.Kind() != reflect.Array || array.Len() != s.Size() {
			return nil, fmt.Errorf("it is not of %d bytes", s.Size())
		}
		for i := range array.Len() {
			dst = append(dst, byte(array.Index(i).Uint()))
		}
		return dst, nil
	case *avro.EnumSchema:
		symbol, _ := v.(string) //nolint:errcheck // no symbol is empty
		at := slices.Index(s.Symbols(), symbol)
		if at < 0 {
			return nil, fmt.Errorf("%v is not a symbol", v)
		}
		return appendLong(dst, int64(at)), nil
	case *avro.ArraySchema:
		items, ok := v.([]any)
		if !ok {
			return nil, fmt.Errorf("%T is no array", v)
		}
		return appendItems(dst, len(items), func(dst []byte, i int) ([]byte, error) { return appendDefault(dst, s.Items(), items[i]) })
	case *avro.MapSchema:
		pairs, ok := v.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%T is no map", v)
		}
		keys := slices.Sorted(maps.Keys(pairs))
		return appendItems(dst, len(keys), func(dst []byte, i int) ([]byte, error) {
			return appendDefault(appendBytes(dst, []byte(keys[i])), s.Values(), pairs[keys[i]])
		})
	case *avro.RecordSchema:
		return appendRecordDefault(dst, s, v)
	}
	return nil, fmt.Errorf("a schema of type %q is not known", s.Type())
}

// appendUnionDefault appends a default of the first type, or, as newer versions allow it, of whichever takes it.
func appendUnionDefault(dst []byte, s *avro.UnionSchema, v any) ([]byte, error) {
	var errs []error
	for i, t := range s.Types() {
		if _, null := deref(t).(*avro.NullSchema); null != isNull(v) {
			continue
		}
		out, err := appendDefault(appendLong(dst, int64(i)), t, v)
		if err == nil {
			return out, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("no type of the union takes %v: %w", v, errors.Join(errs...))
}

// isNull knows the library's null too, which has a type of its own.
func isNull(v any) bool {
	return v == nil || reflect.ValueOf(v).Kind() == reflect.Struct
}

func appendPrimitiveDefault(dst []byte, t avro.Type, v any) ([]byte, error) {
	switch v := v.(type) {
	case bool:
		if t == avro.Boolean {
			if v {
				return append(dst, 1), nil
			}
			return append(dst, 0), nil
		}
	case string:
		if t == avro.String {
			return appendBytes(dst, []byte(v)), nil
		}
	case []byte:
		if t == avro.Bytes {
			return appendBytes(dst, v), nil
		}
	}
	number := reflect.ValueOf(v)
	switch {
	case number.CanInt() && (t == avro.Int || t == avro.Long):
		if n := number.Int(); n <= -exactMax || n >= exactMax {
			return nil, errors.New("the number is too great to be known exactly here")
		}
		return appendLong(dst, number.Int()), nil
	case number.CanFloat() && t == avro.Float:
		return binary.LittleEndian.AppendUint32(dst, math.Float32bits(float32(number.Float()))), nil
	case number.CanFloat() && t == avro.Double:
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(number.Float())), nil
	}
	return nil, fmt.Errorf("%v is no %s", v, t)
}

func appendItems(dst []byte, n int, item func(dst []byte, i int) ([]byte, error)) ([]byte, error) {
	if n > 0 {
		dst = appendLong(dst, int64(n))
	}
	for i := range n {
		var err error
		if dst, err = item(dst, i); err != nil {
			return nil, err
		}
	}
	return append(dst, 0), nil
}

func appendRecordDefault(dst []byte, s *avro.RecordSchema, v any) ([]byte, error) {
	values, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%T is no record", v)
	}
	for _, f := range s.Fields() {
		value, ok := values[f.Name()]
		if !ok && !f.HasDefault() {
			return nil, fmt.Errorf("the field %q has no value", f.Name())
		}
		if !ok {
			value = f.Default()
		}
		var err error
		if dst, err = appendDefault(dst, f.Type(), value); err != nil {
			return nil, err
		}
	}
	return dst, nil
}
