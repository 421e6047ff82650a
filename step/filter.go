package step

import (
	"fmt"
	"reflect"

	"github.com/ingestd/ingestd/record"
)

// Filter keeps the records for which an expression is true.
type Filter struct {
	ID    string // its name
	Where string // an expression whose result is true or false
}

var _ Step = (*Filter)(nil)

// Name returns the id.
func (f *Filter) Name() string { return f.ID }

// Bind checks the expression.
func (f *Filter) Bind(in *record.Schema) (*record.Schema, Apply, error) {
	c, err := NewCondition(f.Where, in)
	if err != nil {
		return nil, nil, misconfigured(f.ID, err)
	}
	r := refuser{step: f.ID}
	return in, func(b *record.Batch, res *Result) {
		r.begin(b)
		for row := range b.Rows {
			keep, err := c.Holds(b, row)
			switch {
			case err != nil:
				r.refuse(row, "", err.Error())
			case !keep:
				r.drop(row)
			}
		}
		r.end(b, res)
	}, nil
}

func wrongResult(text string, t reflect.Type) error {
	if t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Bool {
		return fmt.Errorf("expression %q: its result may be null, true or false is expected: write (…) ?? false", text)
	}
	return fmt.Errorf("expression %q: true or false is expected, its result is %s", text, typeName(t))
}

// typeName is the name of a result's type for people.
func typeName(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.String() {
	case "int":
		return "an integer"
	case "float64":
		return "a float"
	case "string":
		return "a string"
	case "bool":
		return "true or false"
	case "time.Time":
		return "a time"
	case "step.Number":
		return "a number"
	}
	switch t.Kind() { //nolint:exhaustive // the other kinds have no better name
	case reflect.Slice:
		return "an array"
	case reflect.Map:
		return "a map"
	}
	return t.String()
}
