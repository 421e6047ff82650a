package avro

import (
	"errors"
	"fmt"

	"github.com/hamba/avro/v2"

	"github.com/ingestd/ingestd/record"
)

// deriveColumns returns a column for each field of a record's schema.
func deriveColumns(s avro.Schema) (*record.Schema, error) {
	r, ok := deref(s).(*avro.RecordSchema)
	if !ok {
		return nil, errors.New("schema: columns can only be made of a record's fields")
	}
	out := &record.Schema{}
	for _, f := range r.Fields() {
		t, err := deriveColumn(f.Type(), 1)
		if err != nil {
			return nil, fmt.Errorf("schema: field %q: %w", f.Name(), err)
		}
		out.Fields = append(out.Fields, record.Field{Name: f.Name(), Type: t, Optional: t.Nullable})
	}
	return out, out.Check()
}

// deriveColumn returns the type that holds every value of a schema: records and unions of several types become JSON in a string.
func deriveColumn(s avro.Schema, depth int) (record.Type, error) {
	s = deref(s)
	text := record.Type{Kind: record.String}
	if depth > record.DepthMax {
		return text, nil
	}
	switch s := s.(type) {
	case *avro.NullSchema:
		return record.Type{Kind: record.String, Nullable: true}, nil
	case *avro.PrimitiveSchema:
		return derivePrimitive(s), nil
	case *avro.FixedSchema:
		return deriveFixed(s), nil
	case *avro.EnumSchema:
		return text, nil // names may come and go
	case *avro.ArraySchema:
		elem, err := deriveColumn(s.Items(), depth+1)
		return record.Type{Kind: record.Array, Elem: &elem}, err
	case *avro.MapSchema:
		elem, err := deriveColumn(s.Values(), depth+1)
		return record.Type{Kind: record.Map, Key: &text, Elem: &elem}, err
	case *avro.RecordSchema:
		return text, nil
	case *avro.UnionSchema:
		return deriveUnion(s, depth)
	}
	return record.Type{}, fmt.Errorf("a schema of type %q is not known", s.Type())
}

func deriveUnion(s *avro.UnionSchema, depth int) (record.Type, error) {
	var others []avro.Schema
	for _, t := range s.Types() {
		if t.Type() != avro.Null {
			others = append(others, t)
		}
	}
	nullable := len(others) < len(s.Types())
	t := record.Type{Kind: record.String}
	var err error
	if len(others) == 1 {
		t, err = deriveColumn(others[0], depth)
	}
	t.Nullable = t.Nullable || nullable
	return t, err
}

func derivePrimitive(s *avro.PrimitiveSchema) record.Type {
	kind, digits := meaningOf(logicalOf(s))
	switch kind { //nolint:exhaustive // the others are as their primitive type, a time as its text
	case meansDecimal:
		return deriveDecimal(s)
	case meansDate:
		return record.Type{Kind: record.Date}
	case meansTime:
		return record.Type{Kind: record.String}
	case meansTimestamp, meansLocal:
		return record.Type{Kind: record.Timestamp, Precision: digits}
	case meansUUID:
		return record.Type{Kind: record.UUID}
	}
	switch s.Type() { //nolint:exhaustive // the others are texts
	case avro.Boolean:
		return record.Type{Kind: record.Bool}
	case avro.Int:
		return record.Type{Kind: record.Int32}
	case avro.Long:
		return record.Type{Kind: record.Int64}
	case avro.Float:
		return record.Type{Kind: record.Float32}
	case avro.Double:
		return record.Type{Kind: record.Float64}
	}
	return record.Type{Kind: record.String}
}

func deriveFixed(s *avro.FixedSchema) record.Type {
	kind, _ := meaningOf(logicalOf(s))
	switch kind { //nolint:exhaustive // the others are bytes
	case meansDecimal:
		return deriveDecimal(s)
	case meansUUID:
		return record.Type{Kind: record.UUID}
	case meansDuration:
		return record.Type{Kind: record.String}
	}
	if s.Size() < 1 || s.Size() > record.FixedSizeMax {
		return record.Type{Kind: record.String}
	}
	return record.Type{Kind: record.FixedString, Size: s.Size()}
}

func deriveDecimal(s avro.LogicalTypeSchema) record.Type {
	d, ok := s.Logical().(*avro.DecimalLogicalSchema)
	if !ok || d.Precision() > record.PrecisionMax {
		return record.Type{Kind: record.String}
	}
	return record.Type{Kind: record.Decimal, Precision: d.Precision(), Scale: d.Scale()}
}
