package avro

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/hamba/avro/v2"

	"github.com/ingestd/ingestd/record"
)

// putOp says how a value of a column is written.
type putOp uint8

const (
	putConst  putOp = iota // bytes that are always the same
	putRecord              // a record
	putUnion               // null or a value
	putBool                //
	putInt                 // integers to int
	putLong                // integers to long
	putFloat               //
	putDouble              //
	putString              // string and fixed_string to string
	putBytes               // string, fixed_string and uuid to bytes
	putFixed               // the same to a fixed
	putText                // other types to string
	putNumber              // integers and decimal to a decimal
	putTicks               // timestamp to timestamp
	putSymbol              // enum to enum
	putWord                // string to enum
	putArray
	putMap
)

// put is how one value is written.
type put struct {
	op      putOp
	column  int // of a field; the value's own column is that, or one inside it
	typ     *record.Type
	bytes   []byte // of a constant
	fields  []*put // of a record
	null    []byte // of a union: the place of null, nil without one
	place   []byte // of a union: the place of the value
	elem    *put   // of a union, array or map
	size    int    // of a fixed, 0 for bytes
	digits  int    // of a timestamp
	symbols []string
	places  map[int16]int // of an enum's number among the symbols
}

// putter compiles how rows are written.
type putter struct {
	schema *record.Schema
	picked []int
	used   map[int]bool
	depth  int
}

// root compiles the whole record. Each picked column must be in the schema.
func (c *putter) root(s avro.Schema) (*put, error) {
	s = deref(s)
	r, ok := s.(*avro.RecordSchema)
	if !ok {
		if len(c.picked) != 1 {
			return nil, fmt.Errorf("the schema is %s: pick one column, or give a record", typeName(s))
		}
		p, err := c.value(s, &c.schema.Fields[c.picked[0]].Type)
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", c.schema.Fields[c.picked[0]].Name, err)
		}
		p.column = c.picked[0]
		return p, nil
	}
	p, err := c.record(r, "")
	if err != nil {
		return nil, err
	}
	var left []string
	for _, at := range c.picked {
		if !c.used[at] {
			left = append(left, c.schema.Fields[at].Name)
		}
	}
	if len(left) > 0 {
		return nil, fmt.Errorf("the schema has no field for the columns %s: leave them out by columns", strings.Join(left, ", "))
	}
	return p, nil
}

// record compiles a record whose fields are filled from the columns prefix + name.
func (c *putter) record(r *avro.RecordSchema, prefix string) (*put, error) {
	if c.depth++; c.depth > record.DepthMax {
		return nil, fmt.Errorf("records nest deeper than %d", record.DepthMax)
	}
	defer func() { c.depth-- }()
	p := &put{op: putRecord, column: -1}
	for _, f := range r.Fields() {
		field, err := c.field(f, prefix+f.Name())
		if err != nil {
			return nil, err
		}
		p.fields = append(p.fields, field)
	}
	return p, nil
}

func (c *putter) field(f *avro.Field, path string) (*put, error) {
	at := slices.IndexFunc(c.picked, func(i int) bool { return c.schema.Fields[i].Name == path })
	nested, isRecord := deref(f.Type()).(*avro.RecordSchema)
	within := slices.ContainsFunc(c.picked, func(i int) bool { return strings.HasPrefix(c.schema.Fields[i].Name, path+".") })
	switch {
	case at >= 0:
		column := c.picked[at]
		c.used[column] = true
		p, err := c.value(f.Type(), &c.schema.Fields[column].Type)
		if err != nil {
			return nil, fmt.Errorf("column %q: %w", path, err)
		}
		p.column = column
		return p, nil
	case isRecord && within:
		return c.record(nested, path+".")
	case f.HasDefault():
		bytes, err := appendDefault([]byte{}, f.Type(), f.Default())
		if err != nil {
			return nil, fmt.Errorf("the default of %q: %w", path, err)
		}
		return &put{op: putConst, column: -1, bytes: bytes}, nil
	}
	return nil, fmt.Errorf("the schema's field %q has no default, and there is no column of that name", path)
}

// value compiles how a type is written as a schema has it.
func (c *putter) value(s avro.Schema, t *record.Type) (*put, error) {
	s = deref(s)
	p := &put{column: -1, typ: t}
	if u, ok := s.(*avro.UnionSchema); ok {
		return p, c.union(p, u)
	}
	if t.Nullable {
		return nil, fmt.Errorf("%s may be null, %s not", t, typeName(s))
	}
	ok, err := c.fit(p, s)
	if err == nil && !ok {
		err = fmt.Errorf("%s does not fit %s", t, typeName(s))
	}
	return p, err
}

func (c *putter) union(p *put, u *avro.UnionSchema) error {
	p.op = putUnion
	plain := *p.typ
	plain.Nullable = false
	var reasons []string
	for i, s := range u.Types() {
		if s.Type() == avro.Null {
			p.null = appendLong([]byte{}, int64(i))
			continue
		}
		elem, err := c.value(s, &plain)
		if err != nil {
			reasons = append(reasons, err.Error())
			continue
		}
		if p.elem == nil || p.elem.op == putText && elem.op != putText { // everything has a text: it is the last resort
			p.elem, p.place = elem, appendLong([]byte{}, int64(i))
		}
	}
	switch {
	case p.elem == nil:
		return fmt.Errorf("no type of the union takes it: %s", strings.Join(reasons, "; "))
	case p.typ.Nullable && p.null == nil:
		return fmt.Errorf("%s may be null, %s not", p.typ, typeName(u))
	}
	return nil
}

// fit sets the operation for a type that is not nullable and a schema that is no union.
func (c *putter) fit(p *put, s avro.Schema) (bool, error) {
	t := p.typ
	switch s := s.(type) {
	case *avro.PrimitiveSchema:
		return p.primitive(s), nil
	case *avro.FixedSchema:
		p.size = s.Size()
		if d, ok := s.Logical().(*avro.DecimalLogicalSchema); ok {
			return p.decimal(d), nil
		}
		p.op = putFixed
		switch t.Kind { //nolint:exhaustive // the others are no bytes
		case record.String:
			return true, nil
		case record.FixedString:
			return t.Size == s.Size(), nil
		case record.UUID, record.IPv6:
			return s.Size() == uuidBytes, nil
		}
	case *avro.EnumSchema:
		return p.enum(s), nil
	case *avro.ArraySchema:
		if t.Kind == record.Array {
			p.op = putArray
			var err error
			p.elem, err = c.value(s.Items(), t.Elem)
			return err == nil, err
		}
	case *avro.MapSchema:
		if t.Kind == record.Map {
			p.op = putMap
			var err error
			p.elem, err = c.value(s.Values(), t.Elem)
			return err == nil, err
		}
	}
	return false, nil
}

func (p *put) primitive(s *avro.PrimitiveSchema) bool {
	t := p.typ
	integer := isInteger(t) && t.Width() <= 8
	kind, digits := meaningOf(logicalOf(s))
	switch s.Type() { //nolint:exhaustive // these are the primitive ones
	case avro.Boolean:
		p.op = putBool
		return t.Kind == record.Bool
	case avro.Int:
		p.op = putInt
		return kind == meansPlain && integer || kind == meansDate && t.Kind == record.Date
	case avro.Long:
		if kind == meansTimestamp {
			p.op, p.digits = putTicks, digits
			return t.Kind == record.Timestamp
		}
		p.op = putLong
		return kind == meansPlain && integer
	case avro.Float:
		p.op = putFloat
		return t.Kind == record.Float32
	case avro.Double:
		p.op = putDouble
		return isFloat(t)
	case avro.Bytes:
		if d, ok := s.Logical().(*avro.DecimalLogicalSchema); ok {
			return p.decimal(d)
		}
		p.op = putBytes
		return t.Kind == record.String || t.Kind == record.FixedString || t.Kind == record.UUID
	case avro.String:
		p.op = putText
		if t.Kind == record.String || t.Kind == record.FixedString {
			p.op = putString
		}
		return t.Kind != record.Array && t.Kind != record.Map
	}
	return false
}

// decimal takes types of the same scale whose digits the schema has room for.
func (p *put) decimal(d *avro.DecimalLogicalSchema) bool {
	p.op = putNumber
	digits := digitsOf(p.typ)
	return digits > 0 && digits <= d.Precision() && p.typ.Scale == d.Scale()
}

func (p *put) enum(s *avro.EnumSchema) bool {
	p.symbols = s.Symbols()
	switch p.typ.Kind { //nolint:exhaustive // the others are no enums
	case record.String:
		p.op = putWord
		return true
	case record.Enum:
		p.op, p.places = putSymbol, map[int16]int{}
		for _, v := range p.typ.Values {
			at := slices.Index(p.symbols, v.Name)
			if at < 0 {
				return false
			}
			p.places[v.Number] = at
		}
		return true
	}
	return false
}

// inInt reports whether a number fits 32 bits.
func inInt(v int64) bool { return v >= math.MinInt32 && v <= math.MaxInt32 }
