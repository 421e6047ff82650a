package codec

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/record"
)

// Column is what a decode section says about one column.
type Column struct {
	Name     string `config:",key"`
	Type     string `config:"type"`     // as record.ParseType reads it; empty: the sink's
	Path     string `config:"path"`     // empty: the name
	Optional *bool  `config:"optional"` // nil: as the sink says, and nullable columns are
}

// ColumnsKey describes the key `columns` of a decode section, a list of [Column].
func ColumnsKey() config.Key {
	column := config.Spec{
		Doc: "A column and where its value is found in the record.",
		Keys: []config.Key{
			{
				Name: "type", Kind: config.KindString, Example: "timestamp(3)",
				Doc: "The type: bool, int8 to int256, uint8 to uint256, float32, float64, decimal(PRECISION, SCALE), string,\n" +
					"fixed_string(BYTES), date, timestamp(DIGITS), timestamp(DIGITS, \"ZONE\"), uuid, ipv4, ipv6,\n" +
					"enum(\"NAME\" = NUMBER, ...), array(TYPE), map(KEY, TYPE), nullable(TYPE). By default the type of the sink's\n" +
					"column; if both are known they must agree.",
			},
			{
				Name: "path", Kind: config.KindString, Example: "user.id",
				Doc: "The member that holds the value; a.b is b inside a. A point that belongs to a name is written \\.\n" +
					"By default the column's name, read in the same way.",
			},
			{
				Name: "optional", Kind: config.KindBool, Example: "true",
				Doc: "Whether a record may lack the member: null is stored then, or the type's zero if it is not nullable.\n" +
					"By default only nullable columns, and those for which the sink has a default, are optional.",
			},
		},
	}
	return config.Key{
		Name: "columns", Kind: config.KindTableMap, Table: &column, Short: "type",
		Doc: "The columns, by name. By default those of the sink. NAME = \"TYPE\" is short for NAME = { type = \"TYPE\" }.",
	}
}

// Columns are configured columns after their types were read.
type Columns struct{ list []typedColumn }

type typedColumn struct {
	Column
	typ   record.Type
	typed bool
}

// NewColumns reads the types of columns.
func NewColumns(columns []Column) (Columns, error) {
	var c Columns
	var errs []error
	for _, column := range columns {
		col := typedColumn{Column: column, typed: column.Type != ""}
		if col.typed {
			t, err := record.ParseType(column.Type)
			if err != nil {
				errs = append(errs, fmt.Errorf("column %q: %w", column.Name, err))
			}
			col.typ = t
		}
		c.list = append(c.list, col)
	}
	return c, errors.Join(errs...)
}

// ReportColumns reports types that can't be read at their places in a section.
func ReportColumns(section *config.Section, columns []Column) {
	for _, c := range columns {
		if c.Type == "" {
			continue
		}
		if _, err := record.ParseType(c.Type); err != nil {
			section.Errorf("columns."+c.Name, "%v", err)
		}
	}
}

// Len returns how many columns are configured.
func (c Columns) Len() int { return len(c.list) }

// Complete completes a schema: the wanted columns in their order, with what the config says about them, then the columns that
// only the config has, for steps; these need a type. A configured type must be stored in the same way as the wanted one, and be
// nullable only if that is; it may name another zone. A column is optional if the config says so, or, where the config says
// nothing, if the wanted one is or is nullable; one that the config makes less nullable is not.
func (c Columns) Complete(wanted *record.Schema) (*record.Schema, error) {
	s := &record.Schema{}
	if wanted != nil {
		s.Fields = slices.Clone(wanted.Fields)
	}
	configured := make(map[string]bool, len(c.list))
	var errs []error
	for i := range c.list {
		col := &c.list[i]
		configured[col.Name] = true
		at := s.Index(col.Name)
		if at < 0 {
			if !col.typed {
				errs = append(errs, fmt.Errorf("column %q needs a type: %s", col.Name, lacks(wanted)))
				continue
			}
			s.Fields, at = append(s.Fields, record.Field{Name: col.Name, Type: col.typ}), len(s.Fields)
		}
		if err := col.apply(&s.Fields[at]); err != nil {
			errs = append(errs, fmt.Errorf("column %q: %w", col.Name, err))
		}
	}
	for i := range s.Fields {
		if field := &s.Fields[i]; !configured[field.Name] {
			field.Optional = field.Optional || field.Type.Nullable
		}
	}
	return s, errors.Join(errs...)
}

// apply changes a field to what the config says.
func (c *typedColumn) apply(f *record.Field) error {
	switch {
	case c.typed && !c.typ.SameLayout(&f.Type):
		return fmt.Errorf("the config says %s, the sink takes %s", &c.typ, &f.Type)
	case c.typed && c.typ.Nullable && !f.Type.Nullable:
		return fmt.Errorf("the config says %s, the sink takes no null: %s", &c.typ, &f.Type)
	}
	if c.Path != "" {
		f.Path = c.Path
	}
	f.Optional = f.Optional || f.Type.Nullable
	if c.typed {
		t := c.typ
		t.Min, t.Max = f.Type.Min, f.Type.Max
		f.Optional = t.Nullable || f.Optional && !f.Type.Nullable // without null there is nothing to store for a missing value
		f.Type = t
	}
	if c.Optional != nil {
		f.Optional = *c.Optional
	}
	return nil
}

// lacks says why the sink gives no type.
func lacks(s *record.Schema) string {
	if s == nil {
		return "the sink takes any columns"
	}
	list := make([]string, len(s.Fields))
	for i := range s.Fields {
		list[i] = s.Fields[i].Name
	}
	return "the columns that the sink and the steps want are " + strings.Join(list, ", ")
}

// SplitPath splits a path at its points; \. is a point in a name, \\ a backslash.
func SplitPath(path string) ([]string, error) {
	var steps []string
	var step strings.Builder
	for i := 0; i < len(path); i++ {
		switch c := path[i]; c {
		case '.':
			steps = append(steps, step.String())
			step.Reset()
		case '\\':
			i++
			if i == len(path) || path[i] != '.' && path[i] != '\\' {
				return nil, fmt.Errorf(`path %q: a backslash must stand before a point or a backslash`, path)
			}
			step.WriteByte(path[i])
		default:
			step.WriteByte(c)
		}
	}
	steps = append(steps, step.String())
	if slices.Contains(steps, "") {
		return nil, fmt.Errorf("path %q has an empty step", path)
	}
	const stepsMax = 64
	if len(steps) > stepsMax {
		return nil, fmt.Errorf("path %q has more than %d steps", path, stepsMax)
	}
	return steps, nil
}

// Excerpt shows the beginning of a value in a refusal: what is no UTF-8 is left out.
func Excerpt(raw []byte) string {
	const bytesMax = 64
	if len(raw) <= bytesMax {
		return strings.ToValidUTF8(string(raw), "\uFFFD")
	}
	return strings.ToValidUTF8(string(raw[:bytesMax]), "") + "…"
}
