package step

import (
	"encoding/binary"
	"math/big"
	"time"

	"github.com/expr-lang/expr/types"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/record"
)

// source is where a variable of an expression comes from.
type source struct {
	typ  types.Type
	read func(b *record.Batch, row int) any
}

// variablesOf returns what expressions over a schema can read: its columns, and the metadata that no column hides.
func variablesOf(s *record.Schema) map[string]source {
	variables := metadataSources()
	for i := range s.Fields {
		t := &s.Fields[i].Type
		get := reader(t)
		variables[s.Fields[i].Name] = source{
			typ:  typeIn(t),
			read: func(b *record.Batch, row int) any { return get(&b.Cols[i], row) },
		}
	}
	return variables
}

// typeIn returns the type that values of a column have in an expression. A nullable one is a pointer: the checker then knows
// the type behind it, and nil is allowed.
func typeIn(t *record.Type) types.Type {
	if t.Nullable {
		return nullableIn(t)
	}
	switch t.Kind {
	case record.Bool:
		return types.Bool
	case record.Int8, record.Int16, record.Int32, record.Int64, record.Uint8, record.Uint16, record.Uint32:
		return types.Int
	case record.Uint64, record.Int128, record.Int256, record.Uint128, record.Uint256, record.Decimal:
		return types.TypeOf(Number{})
	case record.Float32, record.Float64:
		return types.Float64
	case record.String, record.FixedString, record.UUID, record.IPv4, record.IPv6, record.Enum:
		return types.String
	case record.Date, record.Timestamp:
		return types.TypeOf(time.Time{})
	case record.Array:
		return types.Array(typeIn(t.Elem))
	case record.Map:
		return types.TypeOf(map[string]any{})
	case record.Invalid:
	}
	return types.Any
}

func nullableIn(t *record.Type) types.Type {
	plain := *t
	plain.Nullable = false
	switch typeIn(&plain) {
	case types.Bool:
		return types.TypeOf(new(bool))
	case types.Int:
		return types.TypeOf(new(int))
	case types.Float64:
		return types.TypeOf(new(float64))
	case types.String:
		return types.TypeOf(new(string))
	case types.TypeOf(Number{}):
		return types.TypeOf(new(Number))
	case types.TypeOf(time.Time{}):
		return types.TypeOf(new(time.Time))
	}
	return types.Any
}

// reader returns how a value of a type is read for an expression. Null is nil.
func reader(t *record.Type) func(c *record.Column, row int) any {
	plain := plainReader(t)
	if !t.Nullable {
		return plain
	}
	return func(c *record.Column, row int) any {
		if c.IsNull(row) {
			return nil
		}
		return plain(c, row)
	}
}

func plainReader(t *record.Type) func(c *record.Column, row int) any {
	switch t.Kind {
	case record.Bool:
		return func(c *record.Column, row int) any { return c.Bool(row) }
	case record.Int8, record.Int16, record.Int32, record.Int64, record.Uint8, record.Uint16, record.Uint32:
		return func(c *record.Column, row int) any { return int(c.Int(row)) }
	case record.Uint64, record.Int128, record.Int256, record.Uint128, record.Uint256, record.Decimal:
		return numberReader(t)
	case record.Float32, record.Float64:
		return func(c *record.Column, row int) any { return c.Float(row) }
	case record.String:
		return func(c *record.Column, row int) any { return string(c.BytesAt(row)) }
	case record.FixedString, record.UUID, record.IPv4, record.IPv6, record.Enum:
		return func(c *record.Column, row int) any { return string(codec.AppendValue(nil, c, row)) }
	case record.Date:
		return func(c *record.Column, row int) any { return time.Unix(c.Int(row)*secondsPerDay, 0).UTC() }
	case record.Timestamp:
		scale := ticksPerSecond(t.Precision)
		return func(c *record.Column, row int) any { return timeOf(c.Int(row), scale) }
	case record.Array:
		return arrayReader(t)
	case record.Map:
		return mapReader(t)
	case record.Invalid:
	}
	return func(*record.Column, int) any { return nil }
}

const secondsPerDay = 24 * 60 * 60

func ticksPerSecond(precision int) int64 {
	n := int64(1)
	for range precision {
		n *= 10
	}
	return n
}

func timeOf(ticks, scale int64) time.Time {
	seconds, rest := ticks/scale, ticks%scale
	return time.Unix(seconds, rest*(1_000_000_000/scale)).UTC()
}

func numberReader(t *record.Type) func(c *record.Column, row int) any {
	scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(t.Scale)), nil)
	return func(c *record.Column, row int) any {
		return Number{new(big.Rat).SetFrac(integerAt(c, row), scale)}
	}
}

// integerAt returns the integer that a value of any width is stored as.
func integerAt(c *record.Column, row int) *big.Int {
	raw := c.FixedAt(row)
	if len(raw) <= 8 {
		if c.Type.Signed() {
			return big.NewInt(c.Int(row))
		}
		return new(big.Int).SetUint64(c.Uint(row))
	}
	v := new(big.Int)
	for i := len(raw) - 8; i >= 0; i -= 8 {
		v.Lsh(v, 64)
		v.Or(v, new(big.Int).SetUint64(binary.LittleEndian.Uint64(raw[i:])))
	}
	if c.Type.Signed() && raw[len(raw)-1]&0x80 != 0 {
		v.Sub(v, new(big.Int).Lsh(big.NewInt(1), uint(8*len(raw))))
	}
	return v
}

func arrayReader(t *record.Type) func(c *record.Column, row int) any {
	get := reader(t.Elem)
	return func(c *record.Column, row int) any {
		from, to := c.Range(row)
		list := make([]any, 0, to-from)
		for i := from; i < to; i++ {
			list = append(list, get(c.Elem, int(i)))
		}
		return list
	}
}

func mapReader(t *record.Type) func(c *record.Column, row int) any {
	get := reader(t.Elem)
	return func(c *record.Column, row int) any {
		from, to := c.Range(row)
		m := make(map[string]any, to-from)
		for i := from; i < to; i++ {
			m[string(codec.AppendValue(nil, c.Key, int(i)))] = get(c.Elem, int(i))
		}
		return m
	}
}
