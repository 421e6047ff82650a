package avro

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/ingestd/ingestd/record"
)

// avroName is what names may be.
const avroName = `^[A-Za-z_][A-Za-z0-9_]*$`

// jsonSchema is a schema, or a field of one, in the order in which it is written.
type jsonSchema struct {
	Name        string       `json:"name,omitempty"`
	Type        any          `json:"type"`
	Default     *any         `json:"default,omitempty"`
	Namespace   string       `json:"namespace,omitempty"`
	LogicalType string       `json:"logicalType,omitempty"`
	Precision   int          `json:"precision,omitempty"`
	Scale       int          `json:"scale,omitempty"`
	Symbols     []string     `json:"symbols,omitempty"`
	Items       any          `json:"items,omitempty"`
	Values      any          `json:"values,omitempty"`
	Fields      []jsonSchema `json:"fields,omitempty"`
}

// deriver makes a schema of columns.
type deriver struct {
	valid *regexp.Regexp
	names map[string]bool // of enums
}

// deriveSchema returns the schema of a record with a field for each column.
func deriveSchema(s *record.Schema, columns []int, name, namespace string) (string, error) {
	d := &deriver{valid: regexp.MustCompile(avroName), names: map[string]bool{name: true}}
	for _, part := range append(strings.Split(namespace, "."), name) {
		if namespace == "" && part == "" {
			continue
		}
		if !d.valid.MatchString(part) {
			return "", fmt.Errorf("name: %q is no name of Avro: letters, digits and _, the first no digit", part)
		}
	}
	root := jsonSchema{Name: name, Type: "record", Namespace: namespace}
	for _, at := range columns {
		f := &s.Fields[at]
		if !d.valid.MatchString(f.Name) {
			return "", fmt.Errorf("column %q is no name of Avro (letters, digits and _, the first no digit): rename it in a step", f.Name)
		}
		field := jsonSchema{Name: f.Name, Type: d.column(&f.Type, f.Name)}
		if f.Type.Nullable {
			var null any
			field.Default = &null
		}
		root.Fields = append(root.Fields, field)
	}
	text, err := json.Marshal(root)
	return string(text), err
}

// column returns the schema of a type; name is for the types within that need one.
func (d *deriver) column(t *record.Type, name string) any {
	s := d.plain(t, name)
	if t.Nullable {
		return []any{"null", s}
	}
	return s
}

func (d *deriver) plain(t *record.Type, name string) any {
	switch t.Kind {
	case record.Bool:
		return "boolean"
	case record.Int8, record.Int16, record.Int32, record.Uint8, record.Uint16:
		return "int"
	case record.Int64, record.Uint32:
		return "long"
	case record.Uint64, record.Int128, record.Uint128, record.Int256, record.Uint256, record.Decimal:
		return jsonSchema{Type: "bytes", LogicalType: logicalDecimal, Precision: digitsOf(t), Scale: t.Scale}
	case record.Float32:
		return "float"
	case record.Float64:
		return "double"
	case record.Date:
		return jsonSchema{Type: "int", LogicalType: logicalDate}
	case record.Timestamp:
		return jsonSchema{Type: "long", LogicalType: timestampName(t.Precision)}
	case record.UUID:
		return jsonSchema{Type: "string", LogicalType: logicalUUID}
	case record.Enum:
		return d.enum(t, name)
	case record.Array:
		return jsonSchema{Type: "array", Items: d.column(t.Elem, name)}
	case record.Map:
		return jsonSchema{Type: "map", Values: d.column(t.Elem, name)}
	case record.String, record.FixedString, record.IPv4, record.IPv6, record.Invalid:
	}
	return "string"
}

func timestampName(digits int) string {
	switch {
	case digits <= digitsMS:
		return logicalMS
	case digits <= digitsUS:
		return logicalUS
	}
	return logicalNS
}

// digitsOf is how many digits the values of an integer or Decimal have at most.
func digitsOf(t *record.Type) int {
	switch t.Kind { //nolint:exhaustive // the others are no numbers
	case record.Decimal:
		return t.Precision
	case record.Int8, record.Uint8:
		return 3
	case record.Int16, record.Uint16:
		return 5
	case record.Int32, record.Uint32:
		return 10
	case record.Int64:
		return 19
	case record.Uint64:
		return 20
	case record.Int128, record.Uint128:
		return 39
	case record.Int256:
		return 77
	case record.Uint256:
		return 78
	}
	return 0
}

func (d *deriver) enum(t *record.Type, name string) any {
	var symbols []string
	for _, v := range t.Values {
		if !d.valid.MatchString(v.Name) {
			return "string"
		}
		symbols = append(symbols, v.Name)
	}
	unique := name + "_enum"
	for d.names[unique] {
		unique += "_"
	}
	d.names[unique] = true
	return jsonSchema{Name: unique, Type: "enum", Symbols: symbols}
}
