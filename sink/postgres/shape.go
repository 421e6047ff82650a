package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ingestd/ingestd/record"
)

// form is how a value looks in the binary format of COPY.
type form uint8

const (
	formText      form = iota // no binary form of ours: sent as text to a temporary table, which the server casts
	formBool                  // 1 byte
	formInt                   // big endian, by size
	formFloat                 // IEEE 754, big endian, by size
	formNumeric               // digits of base 10000
	formString                // the bytes
	formBytes                 // the bytes
	formDate                  // int32 days since 2000-01-01
	formTimestamp             // int64 microseconds since 2000-01-01
	formTime                  // int64 microseconds since midnight
	formUUID                  // 16 bytes
	formJSON                  // the text
	formJSONB                 // a version and the text
	formInet                  // family, bits, flag, length, address
	formEnum                  // the label
	formArray                 // dimensions, then each element with its length
)

// shape is how the values of a column are written, and what the server can hold.
type shape struct {
	// typ is the column's type in a schema.
	typ  record.Type
	name string // of the server's type, for messages
	form form
	size int // formInt, formFloat: bytes
	// unsigned is true for oid, the only one of the integers.
	unsigned bool
	// limit is the most characters of a formString, 0 for none.
	limit int
	// digits is the precision of a formNumeric, 0 for none; scale is what it is rounded to, digits behind the point.
	digits, scale int
	// ticks are the digits behind the second that a time keeps.
	ticks int
	// network is true for cidr, whose bits behind the mask must be zero.
	network bool
	labels  map[string]bool // formEnum
	elem    *shape          // formArray
	elemOID uint32          // formArray: of the server's element type, which may be a domain
}

// judgedLate reports whether a value may be refused by the server though Write took it.
func (s *shape) judgedLate() bool {
	return s.form == formText || s.form == formJSON || s.form == formJSONB || s.elem != nil && s.elem.judgedLate()
}

// pgType is a row of pg_type.
type pgType struct {
	oid, name, kind string // kind: b base, d domain, e enum, r range …
	base            string // of a domain
	baseMod         int    // of a domain's base type, -1 for none
	elem            string // of a true array, "0" for all others
	notNull         bool
	labels          []string
	schema          string
}

// pgTypes are types by OID.
type pgTypes map[string]*pgType

// readTypes reads types with all that they consist of.
func readTypes(ctx context.Context, c *conn, oids []string) (pgTypes, error) {
	const q = `SELECT t.oid, t.typname, t.typtype, t.typbasetype, t.typtypmod, CASE WHEN t.typcategory = 'A' AND t.typlen = -1 THEN t.typelem ELSE 0 END, t.typnotnull, n.nspname
 FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.oid = ANY($1::oid[])`
	types := pgTypes{}
	for len(oids) > 0 {
		rows, err := c.query(ctx, q, arrayLiteral(oids))
		if err != nil {
			return nil, fmt.Errorf("read pg_type: %w", err)
		}
		var next []string
		for _, r := range rows {
			t := &pgType{oid: r[0], name: r[1], kind: r[2], base: r[3], elem: r[5], notNull: r[6] == "t", schema: r[7]}
			if t.baseMod, err = strconv.Atoi(r[4]); err != nil {
				return nil, fmt.Errorf("read pg_type: %w", err)
			}
			types[t.oid] = t
			next = append(next, t.base, t.elem)
		}
		oids = slices.DeleteFunc(next, func(oid string) bool { return oid == "0" || types[oid] != nil })
	}
	for _, t := range types {
		if t.kind != "e" {
			continue
		}
		rows, err := c.query(ctx, "SELECT enumlabel FROM pg_enum WHERE enumtypid = $1::oid ORDER BY enumsortorder", t.oid)
		if err != nil {
			return nil, fmt.Errorf("read pg_enum: %w", err)
		}
		for _, r := range rows {
			t.labels = append(t.labels, r[0])
		}
	}
	return types, nil
}

// arrayLiteral writes numbers as an array.
func arrayLiteral(oids []string) string { return "{" + strings.Join(oids, ",") + "}" }

// base follows domains to what they are made of.
func (p pgTypes) base(oid string, mod int) (*pgType, int) {
	t := p[oid]
	for t != nil && t.kind == "d" {
		mod = t.baseMod
		t = p[t.base]
	}
	return t, mod
}

// The ranges of the server's dates and times (src/include/datatype/timestamp.h), in days and microseconds since 1970. The upper end
// of a timestamp is above what an int64 of microseconds since 1970 holds.
const (
	dateMin       = -2440588   // 4714-11-24 BC
	dateMax       = 2145042905 // 5874897-12-31
	timestampMin  = -210866803200000000
	epochDays     = 10957 // from 1970-01-01 to 2000-01-01
	epochMicros   = 946684800000000
	timestampTick = 6
)

var errNoValues = errors.New("the enum has no values")

// shape finds how values of a type are written. mod is the type's modifier, -1 for none; dims are an array's declared dimensions.
func (p pgTypes) shape(t *pgType, mod, dims int) (*shape, error) {
	if t.elem != "0" {
		return p.array(t, mod, dims)
	}
	if t.kind == "e" {
		return enumShape(t)
	}
	s := &shape{name: t.name, typ: record.Type{Kind: record.String}}
	if t.schema != "pg_catalog" {
		if t.name == "citext" {
			s.form = formString
		}
		return s, nil
	}
	if s.plain(t.name) {
		return s, nil
	}
	const header = 4 // a length in a modifier counts the header of a value
	switch t.name {
	case "varchar", "bpchar":
		s.form = formString
		s.limit = max(mod-header, 0)
	case "numeric":
		s.numeric(mod)
	case "timestamp", "timestamptz":
		s.form, s.ticks = formTimestamp, timestampTick
		if mod >= 0 {
			s.ticks = mod
		}
		s.typ = record.Type{Kind: record.Timestamp, Precision: s.ticks}
	case "time":
		s.form, s.ticks = formTime, timestampTick
		if mod >= 0 {
			s.ticks = mod
		}
	}
	return s, nil
}

// plain knows the types without modifiers.
func (s *shape) plain(name string) bool {
	switch name {
	case "bool":
		s.form, s.typ.Kind = formBool, record.Bool
	case "int2":
		s.form, s.size, s.typ.Kind = formInt, 2, record.Int16
	case "int4":
		s.form, s.size, s.typ.Kind = formInt, 4, record.Int32
	case "int8":
		s.form, s.size, s.typ.Kind = formInt, 8, record.Int64
	case "oid":
		s.form, s.size, s.unsigned, s.typ.Kind = formInt, 4, true, record.Uint32
	case "float4":
		s.form, s.size, s.typ.Kind = formFloat, 4, record.Float32
	case "float8":
		s.form, s.size, s.typ.Kind = formFloat, 8, record.Float64
	case "text":
		s.form = formString
	case "bytea":
		s.form = formBytes
	case "date":
		s.form, s.typ.Kind, s.typ.Min, s.typ.Max = formDate, record.Date, dateMin, dateMax
	case "uuid":
		s.form, s.typ.Kind = formUUID, record.UUID
	case "json":
		s.form = formJSON
	case "jsonb":
		s.form = formJSONB
	case "inet", "cidr":
		s.form, s.network = formInet, name == "cidr"
	default:
		return false
	}
	return true
}

// anyDigits is what a numeric without a precision is read as: 38 digits on each side of the point.
const anyDigits = 38

// numeric reads a numeric's modifier: precision in the upper half, scale in the lower 11 bits, which may be negative since
// version 15.
func (s *shape) numeric(mod int) {
	s.form = formNumeric
	if mod < 4 {
		s.typ = record.Type{Kind: record.Decimal, Precision: record.PrecisionMax, Scale: anyDigits}
		return
	}
	const scaleBits, scaleSign = 0x7ff, 1024
	mod -= 4
	s.digits, s.scale = mod>>16&0xffff, (mod&scaleBits^scaleSign)-scaleSign
	scale := min(max(s.scale, 0), record.PrecisionMax)
	whole := max(s.digits-s.scale, 0)
	s.typ = record.Type{Kind: record.Decimal, Precision: max(min(whole+scale, record.PrecisionMax), 1), Scale: scale}
}

func enumShape(t *pgType) (*shape, error) {
	s := &shape{name: t.name, form: formEnum, typ: record.Type{Kind: record.Enum}, labels: map[string]bool{}}
	if len(t.labels) == 0 {
		return nil, errNoValues
	}
	const numbers = 1 << 15
	for i, label := range t.labels {
		s.labels[label] = true
		if i < numbers {
			s.typ.Values = append(s.typ.Values, record.EnumValue{Name: label, Number: int16(i)})
		}
	}
	if len(t.labels) > numbers {
		s.typ = record.Type{Kind: record.String}
	}
	return s, nil
}

// array is a list for each declared dimension. An element may always be null. The elements' own dimensions come from the values:
// the server does not check the declared ones.
func (p pgTypes) array(t *pgType, mod, dims int) (*shape, error) {
	base, mod := p.base(t.elem, mod)
	if base == nil {
		return nil, fmt.Errorf("the unknown element type %s", t.elem)
	}
	elem, err := p.shape(base, mod, 0)
	if err != nil {
		return nil, err
	}
	if elem.form == formText || elem.form == formArray {
		return &shape{name: t.name, typ: record.Type{Kind: record.String}}, nil
	}
	oid, err := strconv.ParseUint(t.elem, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("element type: %w", err)
	}
	elem.typ.Nullable = true
	typ := elem.typ
	for range max(dims, 1) {
		inner := typ
		typ = record.Type{Kind: record.Array, Elem: &inner}
	}
	return &shape{name: elem.name + "[]", typ: typ, form: formArray, elem: elem, elemOID: uint32(oid)}, nil
}
