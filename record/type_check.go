package record

import (
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// The limits of a type.
const (
	// PrecisionMax is the most digits of a Decimal: what 32 bytes hold.
	PrecisionMax = 76
	// TicksMax is the most digits of a Timestamp behind the second: nanoseconds.
	TicksMax = 9
	// FixedSizeMax is the most bytes of a FixedString.
	FixedSizeMax = 1 << 20
	// DepthMax is how deep types nest: a list in a list counts two.
	DepthMax = 16
	// EnumValuesMax is the most names of an Enum: what int16 can number.
	EnumValuesMax = 1 << 16
)

// Check returns what is wrong with a type, or nil. A column of a type that does not pass must not be made.
func (t *Type) Check() error { return t.check(1) }

func (t *Type) check(depth int) error {
	if depth > DepthMax {
		return fmt.Errorf("types nest deeper than %d", DepthMax)
	}
	switch t.Kind { //nolint:exhaustive // the other kinds have no parameters
	case Invalid:
		return errors.New("a type without a kind")
	case Decimal:
		return t.checkDecimal()
	case FixedString:
		if t.Size < 1 || t.Size > FixedSizeMax {
			return fmt.Errorf("fixed_string(%d): the size must be from 1 to %d", t.Size, FixedSizeMax)
		}
	case Timestamp:
		if t.Precision < 0 || t.Precision > TicksMax {
			return fmt.Errorf("timestamp(%d): the precision must be from 0 to %d", t.Precision, TicksMax)
		}
	case Enum:
		return checkEnum(t.Values)
	case Array:
		return checkNested("array", t.Elem, depth)
	case Map:
		if t.Key != nil && (t.Key.Nullable || t.Key.Kind == Array || t.Key.Kind == Map) {
			return fmt.Errorf("a map's key can't be %s", t.Key.Kind)
		}
		return errors.Join(checkNested("map", t.Key, depth), checkNested("map", t.Elem, depth))
	default:
		if t.Kind > Map {
			return fmt.Errorf("kind %d does not exist", t.Kind)
		}
	}
	return nil
}

func (t *Type) checkDecimal() error {
	if t.Precision < 1 || t.Precision > PrecisionMax {
		return fmt.Errorf("decimal(%d, %d): the precision must be from 1 to %d", t.Precision, t.Scale, PrecisionMax)
	}
	if t.Scale < 0 || t.Scale > t.Precision {
		return fmt.Errorf("decimal(%d, %d): the scale must be from 0 to the precision", t.Precision, t.Scale)
	}
	return nil
}

func checkNested(of string, t *Type, depth int) error {
	if t == nil {
		return fmt.Errorf("%s without the type of its elements", of)
	}
	return t.check(depth + 1)
}

func checkEnum(values []EnumValue) error {
	if len(values) == 0 || len(values) > EnumValuesMax {
		return fmt.Errorf("enum with %d values: there must be 1 to %d", len(values), EnumValuesMax)
	}
	names := make(map[string]bool, len(values))
	numbers := make(map[int16]bool, len(values))
	for _, v := range values {
		if !utf8.ValidString(v.Name) {
			return fmt.Errorf("enum has the name %q, which is not valid UTF-8", v.Name)
		}
		if names[v.Name] {
			return fmt.Errorf("enum has the name %q twice", v.Name)
		}
		if numbers[v.Number] {
			return fmt.Errorf("enum has the number %d twice", v.Number)
		}
		names[v.Name], numbers[v.Number] = true, true
	}
	return nil
}

// Equal reports whether two types are the same in everything.
func (t *Type) Equal(u *Type) bool {
	if t == nil || u == nil {
		return t == u
	}
	return t.Kind == u.Kind && t.Nullable == u.Nullable && t.Precision == u.Precision && t.Scale == u.Scale &&
		t.Size == u.Size && t.Zone == u.Zone && t.Min == u.Min && t.Max == u.Max &&
		slices.Equal(t.Values, u.Values) && t.Key.Equal(u.Key) && t.Elem.Equal(u.Elem)
}

// SameLayout reports whether values of two types are stored in the same bytes with the same meaning, apart from nulls: the
// same kind, precision, scale, size and enumeration, and so for what is nested.
func (t *Type) SameLayout(u *Type) bool {
	if t == nil || u == nil {
		return t == u
	}
	return t.Kind == u.Kind && t.Precision == u.Precision && t.Scale == u.Scale && t.Size == u.Size &&
		slices.Equal(t.Values, u.Values) && t.Key.SameLayout(u.Key) && t.Elem.SameLayout(u.Elem)
}

// Signed reports whether the stored integer is two's complement.
func (t *Type) Signed() bool {
	switch t.Kind {
	case Int8, Int16, Int32, Int64, Int128, Int256, Decimal, Date, Timestamp, Enum:
		return true
	case Invalid, Bool, Uint8, Uint16, Uint32, Uint64, Uint128, Uint256, Float32, Float64, String, FixedString, UUID, IPv4,
		IPv6, Array, Map:
		return false
	}
	return false
}

// Check returns what is wrong with a schema, or nil: no fields, a field without a name, a name twice, a type that does not pass.
func (s *Schema) Check() error {
	if len(s.Fields) == 0 {
		return errors.New("a schema without columns")
	}
	names := make(map[string]bool, len(s.Fields))
	for i := range s.Fields {
		f := &s.Fields[i]
		if f.Name == "" || !utf8.ValidString(f.Name) {
			return fmt.Errorf("column %d has no name of valid UTF-8", i+1)
		}
		if names[f.Name] {
			return fmt.Errorf("column %q is there twice", f.Name)
		}
		names[f.Name] = true
		if err := f.Type.Check(); err != nil {
			return fmt.Errorf("column %q: %w", f.Name, err)
		}
	}
	return nil
}
