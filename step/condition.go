package step

import (
	"fmt"
	"reflect"

	"github.com/expr-lang/expr/parser"

	"github.com/ingestd/ingestd/record"
)

// Condition is an expression whose result is true or false, checked against the columns of the batches that it gets. It is used
// by one goroutine at a time.
type Condition struct {
	text  string
	from  *expression
	known kernel // nil where only the expression itself can tell
}

// NewCondition checks an expression against a schema. The error says what is wrong and where; it has no kind
// of its own.
func NewCondition(text string, s *record.Schema) (*Condition, error) {
	e, err := compile(text, s)
	if err != nil {
		return nil, err
	}
	if e.result != nil && e.result.Kind() != reflect.Bool {
		return nil, wrongResult(text, e.result)
	}
	return &Condition{text: text, from: e, known: newKernel(e.program.Node(), s)}, nil
}

// Holds tells whether the condition is true for a row. An error says why that can't be told: the row is to be refused.
func (c *Condition) Holds(b *record.Batch, row int) (bool, error) {
	if c.known != nil {
		switch c.known(b, row) {
		case yes:
			return true, nil
		case no:
			return false, nil
		case unsure:
		}
	}
	v, err := c.from.eval(b, row)
	if err != nil {
		return false, err
	}
	holds, ok := v.(bool)
	if !ok {
		return false, fmt.Errorf("expression %q: true or false is expected, found %v", c.text, shown(v))
	}
	return holds, nil
}

// Reads reports whether the condition reads a column.
func (c *Condition) Reads(column string) bool { return reads(c.text, column) }

// CheckSyntax reports what is wrong with an expression whatever the columns are.
func CheckSyntax(text string) error {
	if _, err := parser.Parse(text); err != nil {
		return describe(text, err, &record.Schema{})
	}
	return nil
}
