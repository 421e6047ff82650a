package clickhouse

import (
	"fmt"
	"math"
	"strconv"

	"github.com/ingestd/ingestd/record"
)

// shape is how the values of a column look in a native block, and how they come from a [record.Column].
type shape struct {
	// typ is the column's type in a schema. Min and Max bound what the server can hold.
	typ record.Type
	// wire is the type's name in the block: the table's without LowCardinality, whose dictionary the server makes itself.
	wire   string
	layout layout
	key    *shape // of a map
	elem   *shape // of an array or map
}

// layout is how a value's bytes get from a record's column into the block.
type layout uint8

const (
	layoutCopy   layout = iota // the same bytes
	layoutLow1                 // the lowest byte of an integer of 2 bytes: Enum8
	layoutLow2                 // the lowest 2 bytes of an integer of 4 bytes: Date
	layoutLow4                 // the lowest 4 bytes of an integer of 8 bytes: DateTime
	layoutUUID                 // both halves of 8 bytes turned around
	layoutString               // length and bytes
	layoutList                 // offsets of 8 bytes, then the elements, or keys and values
)

// parseShape reads a type's text. The error tells why rows can't be written to such a column.
func parseShape(text string) (*shape, error) {
	t, err := parseTypeText(text)
	if err != nil {
		return nil, err
	}
	s, err := t.shape()
	if err != nil {
		return nil, fmt.Errorf("type %s: %w", text, err)
	}
	if err := s.typ.Check(); err != nil {
		return nil, fmt.Errorf("type %s: %w", text, err)
	}
	return s, nil
}

// shape finds the shape of a type.
func (t *typeText) shape() (*shape, error) {
	switch t.name {
	case "Nullable":
		return t.nullable()
	case "LowCardinality":
		return t.inner()
	case "Array":
		elem, err := t.inner()
		if err != nil {
			return nil, err
		}
		return &shape{
			typ: record.Type{Kind: record.Array, Elem: &elem.typ}, wire: "Array(" + elem.wire + ")", layout: layoutList, elem: elem,
		}, nil
	case "Map":
		return t.mapShape()
	case "Decimal":
		return t.decimal()
	case "FixedString":
		return t.fixedString()
	case "DateTime":
		return t.dateTime()
	case "DateTime64":
		return t.dateTime64()
	case "Enum8":
		return t.enum(layoutLow1)
	case "Enum16":
		return t.enum(layoutCopy)
	}
	s, ok := plainShape(t.name)
	if !ok || len(t.args) > 0 {
		return nil, fmt.Errorf("%s can't be written by ingestd", t)
	}
	return &s, nil
}

// The days and seconds since 1970 that the server's types reach. Date32 and DateTime64 go from 1900-01-01 to 2299-12-31.
const (
	dateMax        = math.MaxUint16
	date32Min      = -25567
	date32Max      = 120529
	dateTimeMax    = math.MaxUint32
	dateTime64Min  = int64(date32Min) * 86400
	dateTime64Next = int64(date32Max+1) * 86400
)

// plainShape knows the types without arguments.
func plainShape(name string) (shape, bool) {
	kinds := map[string]record.Kind{
		"Bool": record.Bool, "Int8": record.Int8, "Int16": record.Int16, "Int32": record.Int32, "Int64": record.Int64,
		"Int128": record.Int128, "Int256": record.Int256, "UInt8": record.Uint8, "UInt16": record.Uint16, "UInt32": record.Uint32,
		"UInt64": record.Uint64, "UInt128": record.Uint128, "UInt256": record.Uint256, "Float32": record.Float32,
		"Float64": record.Float64, "String": record.String, "Date": record.Date, "Date32": record.Date, "UUID": record.UUID,
		"IPv4": record.IPv4, "IPv6": record.IPv6,
	}
	kind, ok := kinds[name]
	s := shape{typ: record.Type{Kind: kind}, wire: name}
	switch name {
	case "String":
		s.layout = layoutString
	case "UUID":
		s.layout = layoutUUID
	case "Date":
		s.layout, s.typ.Max = layoutLow2, dateMax
	case "Date32":
		s.typ.Min, s.typ.Max = date32Min, date32Max
	}
	return s, ok
}

// inner is the shape of a type's only argument.
func (t *typeText) inner() (*shape, error) {
	if len(t.args) != 1 || t.args[0].typ == nil {
		return nil, fmt.Errorf("%s needs one type", t.name)
	}
	return t.args[0].typ.shape()
}

func (t *typeText) nullable() (*shape, error) {
	s, err := t.inner()
	if err != nil {
		return nil, err
	}
	if s.typ.Nullable || s.layout == layoutList {
		return nil, fmt.Errorf("%s can't be nullable", s.wire)
	}
	nullable := *s
	nullable.typ.Nullable = true
	nullable.wire = "Nullable(" + s.wire + ")"
	return &nullable, nil
}

func (t *typeText) mapShape() (*shape, error) {
	if len(t.args) != 2 || t.args[0].typ == nil || t.args[1].typ == nil {
		return nil, fmt.Errorf("%s needs two types", t.name)
	}
	key, err := t.args[0].typ.shape()
	if err != nil {
		return nil, err
	}
	elem, err := t.args[1].typ.shape()
	if err != nil {
		return nil, err
	}
	return &shape{
		typ:  record.Type{Kind: record.Map, Key: &key.typ, Elem: &elem.typ},
		wire: "Map(" + key.wire + ", " + elem.wire + ")", layout: layoutList, key: key, elem: elem,
	}, nil
}

// integer is the i-th argument as a number from 0 to limit.
func (t *typeText) integer(i, limit int) (int, error) {
	if i >= len(t.args) || t.args[i].quoted || t.args[i].number == "" {
		return 0, fmt.Errorf("%s needs a number", t.name)
	}
	n, err := strconv.Atoi(t.args[i].number)
	if err != nil || n < 0 || n > limit {
		return 0, fmt.Errorf("%s: %s is not a number from 0 to %d", t.name, t.args[i].number, limit)
	}
	return n, nil
}

func (t *typeText) decimal() (*shape, error) {
	precision, err := t.integer(0, record.PrecisionMax)
	if err != nil {
		return nil, err
	}
	scale, err := t.integer(1, precision)
	if err != nil {
		return nil, err
	}
	return &shape{typ: record.Type{Kind: record.Decimal, Precision: precision, Scale: scale}, wire: t.String()}, nil
}

func (t *typeText) fixedString() (*shape, error) {
	size, err := t.integer(0, record.FixedSizeMax)
	if err != nil {
		return nil, err
	}
	return &shape{typ: record.Type{Kind: record.FixedString, Size: size}, wire: t.String()}, nil
}

// zone is the i-th argument as the name of a time zone, "" when there is none.
func (t *typeText) zone(i int) (string, error) {
	if len(t.args) <= i {
		return "", nil
	}
	if len(t.args) > i+1 || !t.args[i].quoted || t.args[i].number != "" {
		return "", fmt.Errorf("%s has unknown arguments", t)
	}
	return t.args[i].text, nil
}

func (t *typeText) dateTime() (*shape, error) {
	zone, err := t.zone(0)
	if err != nil {
		return nil, err
	}
	return &shape{typ: record.Type{Kind: record.Timestamp, Zone: zone, Max: dateTimeMax}, wire: t.String(), layout: layoutLow4}, nil
}

func (t *typeText) dateTime64() (*shape, error) {
	precision, err := t.integer(0, record.TicksMax)
	if err != nil {
		return nil, err
	}
	zone, err := t.zone(1)
	if err != nil {
		return nil, err
	}
	typ := record.Type{Kind: record.Timestamp, Precision: precision, Zone: zone, Min: dateTime64Min, Max: dateTime64Next}
	for range precision {
		typ.Min *= 10
		if typ.Max > math.MaxInt64/10 { // nanoseconds end in 2262
			typ.Max = math.MaxInt64
			continue
		}
		typ.Max *= 10
	}
	if typ.Max != math.MaxInt64 {
		typ.Max--
	}
	return &shape{typ: typ, wire: t.String()}, nil
}

func (t *typeText) enum(l layout) (*shape, error) {
	s := &shape{typ: record.Type{Kind: record.Enum}, wire: t.String(), layout: l}
	bits := 16
	if l == layoutLow1 {
		bits = 8
	}
	for _, a := range t.args {
		n, err := strconv.ParseInt(a.number, 10, bits)
		if !a.quoted || err != nil {
			return nil, fmt.Errorf("%s has a value without a name or a number", t.name)
		}
		s.typ.Values = append(s.typ.Values, record.EnumValue{Name: a.text, Number: int16(n)})
	}
	return s, nil
}

// takes reports whether a column of type t can be written as s: the same layout, and nulls checked by value.
func (s *shape) takes(t *record.Type) bool {
	if s.typ.Kind == record.Enum && t.Kind == record.Enum {
		return true // numbers are checked by value
	}
	if (s.key == nil) != (t.Key == nil) || (s.elem == nil) != (t.Elem == nil) {
		return false
	}
	if s.elem != nil {
		return s.typ.Kind == t.Kind && s.elem.takes(t.Elem) && (s.key == nil || s.key.takes(t.Key))
	}
	return s.typ.SameLayout(t)
}
