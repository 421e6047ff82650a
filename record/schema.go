package record

import (
	"fmt"
	"strings"
)

// Kind is the logical type of a column.
type Kind uint8

// The kinds. The list is append-only: the numbers stand in segments.
const (
	Invalid     Kind = iota
	Bool             // 1 byte, 0 or 1
	Int8             // little endian two's complement, as all integers here
	Int16            //
	Int32            //
	Int64            //
	Int128           //
	Int256           //
	Uint8            //
	Uint16           //
	Uint32           //
	Uint64           //
	Uint128          //
	Uint256          //
	Float32          // IEEE 754, little endian
	Float64          //
	Decimal          // scaled integer of 4, 8, 16 or 32 bytes, by Precision; see [Type]
	String           // bytes in the arena; UTF-8 is not required here
	FixedString      // Size bytes, zero-padded
	Date             // int32 days since 1970-01-01
	Timestamp        // int64 ticks since 1970-01-01T00:00:00Z; a tick is 10^-Precision s
	UUID             // 16 bytes in the order in which they are written
	IPv4             // uint32, little endian
	IPv6             // 16 bytes, network order
	Enum             // int16, one of Values
	Array            // list of Elem
	Map              // list of pairs, Key and Elem
)

// Type is a column's full type.
type Type struct {
	Kind      Kind
	Nullable  bool
	Precision int         // Decimal: digits, 1 to 76; Timestamp: 0 to 9
	Scale     int         // Decimal: digits behind the point
	Size      int         // FixedString: bytes
	Zone      string      // Timestamp: IANA zone by which a text without a zone is read; "" is UTC
	Values    []EnumValue // Enum
	Key       *Type       // Map
	Elem      *Type       // Array, Map
	// Min and Max bound the integer that is stored, where the target's range is narrower than the kind's (Date of 16 bits).
	// Both zero: the kind's own range.
	Min, Max int64
}

// EnumValue is one name of an enumeration and its number.
type EnumValue struct {
	Name   string
	Number int16
}

// Width returns the bytes that one value takes in [Column.Fixed], or 0 for String, Array and Map.
func (t *Type) Width() int {
	switch t.Kind {
	case Bool, Int8, Uint8:
		return 1
	case Int16, Uint16, Enum:
		return 2
	case Int32, Uint32, Float32, Date, IPv4:
		return 4
	case Int64, Uint64, Float64, Timestamp:
		return 8
	case Int128, Uint128, UUID, IPv6:
		return 16
	case Int256, Uint256:
		return 32
	case Decimal:
		return decimalWidth(t.Precision)
	case FixedString:
		return t.Size
	case String, Array, Map, Invalid:
		return 0
	}
	return 0
}

// decimalWidth follows ClickHouse and Arrow: 9, 18, 38 and 76 digits fit 4, 8, 16 and 32 bytes.
func decimalWidth(precision int) int {
	switch {
	case precision <= 9:
		return 4
	case precision <= 18:
		return 8
	case precision <= 38:
		return 16
	}
	return 32
}

// String returns the type as it is written in a config: "int64", "nullable(decimal(10, 2))", "array(string)".
func (t *Type) String() string {
	var s string
	switch t.Kind { //nolint:exhaustive // the other kinds have no parameters
	case Decimal:
		s = fmt.Sprintf("decimal(%d, %d)", t.Precision, t.Scale)
	case FixedString:
		s = fmt.Sprintf("fixed_string(%d)", t.Size)
	case Timestamp:
		s = fmt.Sprintf("timestamp(%d)", t.Precision)
		if t.Zone != "" {
			s = fmt.Sprintf("timestamp(%d, %q)", t.Precision, t.Zone)
		}
	case Enum:
		names := make([]string, len(t.Values))
		for i, v := range t.Values {
			names[i] = fmt.Sprintf("%q = %d", v.Name, v.Number)
		}
		s = "enum(" + strings.Join(names, ", ") + ")"
	case Array:
		s = "array(" + t.Elem.String() + ")"
	case Map:
		s = "map(" + t.Key.String() + ", " + t.Elem.String() + ")"
	default:
		s = t.Kind.String()
	}
	if t.Nullable {
		return "nullable(" + s + ")"
	}
	return s
}

// String returns the kind's name in a config.
func (k Kind) String() string {
	names := [...]string{
		"invalid", "bool", "int8", "int16", "int32", "int64", "int128", "int256", "uint8", "uint16", "uint32", "uint64",
		"uint128", "uint256", "float32", "float64", "decimal", "string", "fixed_string", "date", "timestamp", "uuid", "ipv4", "ipv6",
		"enum", "array", "map",
	}
	if int(k) < len(names) {
		return names[k]
	}
	return "invalid"
}

// Field is a named column of a schema.
type Field struct {
	Name string
	Type Type
	// Path is where a decoder finds the value in a nested record: "a.b" is the member b of the member a. Empty: Name.
	Path string
	// Optional says that a record may lack the value: null is stored then where the type is nullable, else the type's zero.
	// A missing value of another field refuses the record.
	Optional bool
}

// Schema is the ordered list of a batch's columns. It is immutable once shared.
type Schema struct {
	Fields []Field
}

// Index returns the place of the field called name, or -1.
func (s *Schema) Index(name string) int {
	for i := range s.Fields {
		if s.Fields[i].Name == name {
			return i
		}
	}
	return -1
}
