package step

import (
	"bytes"
	"cmp"
	"math"
	"math/big"

	"github.com/expr-lang/expr/ast"

	"github.com/ingestd/ingestd/record"
)

// truth is what a kernel knows about a row.
type truth uint8

const (
	unsure truth = iota // null is involved: only the expression itself knows
	no
	yes
)

func truthOf(v bool) truth { //nolint:revive // the flag is the value
	if v {
		return yes
	}
	return no
}

// kernel tells whether a condition holds for a row, straight from the columns. Where it is sure it agrees with the expression
// that it was made from.
type kernel func(b *record.Batch, row int) truth

// newKernel makes the kernel of a condition, or nil if there is a part that only the expression can evaluate. The parts are
// &&, ||, !, and comparisons of a column with a literal.
func newKernel(node ast.Node, s *record.Schema) kernel {
	switch n := node.(type) {
	case *ast.BinaryNode:
		switch n.Operator {
		case "&&", "and":
			return both(newKernel(n.Left, s), newKernel(n.Right, s))
		case "||", "or":
			return either(newKernel(n.Left, s), newKernel(n.Right, s))
		}
		return newComparison(n.Operator, n.Left, n.Right, s)
	case *ast.UnaryNode:
		if n.Operator == "!" || n.Operator == "not" {
			return opposite(newKernel(n.Node, s))
		}
	case *ast.CallNode:
		if callee, ok := n.Callee.(*ast.IdentifierNode); ok && len(n.Arguments) == 2 {
			return newComparison(numberOperator(callee.Value), n.Arguments[0], n.Arguments[1], s)
		}
	case *ast.IdentifierNode:
		if i := s.Index(n.Value); i >= 0 && s.Fields[i].Type.Kind == record.Bool {
			return onColumn(i, func(c *record.Column, row int) bool { return c.Bool(row) })
		}
	}
	return nil
}

// numberOperator returns the comparison that a function on Numbers stands for, or "".
func numberOperator(function string) string {
	return map[string]string{
		"_number_less": "<", "_number_less_equal": "<=", "_number_more": ">", "_number_more_equal": ">=",
		"_number_equal": "==", "_number_not_equal": "!=",
	}[function]
}

func both(left, right kernel) kernel {
	if left == nil || right == nil {
		return nil
	}
	return func(b *record.Batch, row int) truth {
		if v := left(b, row); v != yes {
			return v
		}
		return right(b, row)
	}
}

func either(left, right kernel) kernel {
	if left == nil || right == nil {
		return nil
	}
	return func(b *record.Batch, row int) truth {
		if v := left(b, row); v != no {
			return v
		}
		return right(b, row)
	}
}

func opposite(k kernel) kernel {
	if k == nil {
		return nil
	}
	return func(b *record.Batch, row int) truth {
		switch k(b, row) {
		case yes:
			return no
		case no:
			return yes
		case unsure:
		}
		return unsure
	}
}

// onColumn makes the kernel of a test of one column's values; of null it is not sure.
func onColumn(column int, test func(c *record.Column, row int) bool) kernel {
	return func(b *record.Batch, row int) truth {
		c := &b.Cols[column]
		if c.IsNull(row) {
			return unsure
		}
		return truthOf(test(c, row))
	}
}

// newComparison makes the kernel of a column and a literal, in any order.
func newComparison(operator string, left, right ast.Node, s *record.Schema) kernel {
	name, ok := left.(*ast.IdentifierNode)
	if !ok {
		if name, ok = right.(*ast.IdentifierNode); !ok {
			return nil
		}
		mirrored, ok := map[string]string{"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}[operator]
		if !ok {
			return nil
		}
		operator, right = mirrored, left
	}
	i := s.Index(name.Value)
	if i < 0 {
		return nil
	}
	if isNil(right) {
		return nullTest(operator, i, &s.Fields[i].Type)
	}
	if operator == "in" {
		return newMembership(i, right, &s.Fields[i].Type)
	}
	holds := signTest(operator)
	compare := comparer(&s.Fields[i].Type, right)
	if holds == nil || compare == nil {
		return nil
	}
	return onColumn(i, func(c *record.Column, row int) bool { return holds(compare(c, row)) })
}

func nullTest(operator string, column int, t *record.Type) kernel {
	if !t.Nullable || operator != "==" && operator != "!=" {
		return nil
	}
	return func(b *record.Batch, row int) truth {
		return truthOf(b.Cols[column].IsNull(row) == (operator == "=="))
	}
}

// unordered is the sign of a comparison with a float that is not a number.
const unordered = 2

// signTest tells for which signs of value - literal a comparison holds; nil if the operator is none.
func signTest(operator string) func(sign int) bool {
	switch operator {
	case "<":
		return func(sign int) bool { return sign < 0 }
	case "<=":
		return func(sign int) bool { return sign <= 0 }
	case ">":
		return func(sign int) bool { return sign == 1 }
	case ">=":
		return func(sign int) bool { return sign == 0 || sign == 1 }
	case "==":
		return func(sign int) bool { return sign == 0 }
	case "!=":
		return func(sign int) bool { return sign != 0 }
	}
	return nil
}

// comparer returns how a column's value compares with a literal: -1, 0, 1 or unordered; nil if it does not know.
func comparer(t *record.Type, literal ast.Node) func(c *record.Column, row int) int {
	switch t.Kind { //nolint:exhaustive // the other kinds are left to the expression
	case record.Int8, record.Int16, record.Int32, record.Int64, record.Uint8, record.Uint16, record.Uint32:
		return compareInts(literal)
	case record.Float32, record.Float64:
		v, ok := floatLiteral(literal)
		if !ok {
			return nil
		}
		return func(c *record.Column, row int) int { return compareFloats(c.Float(row), v) }
	case record.String:
		if v, ok := literal.(*ast.StringNode); ok {
			text := []byte(v.Value)
			return func(c *record.Column, row int) int { return bytes.Compare(c.BytesAt(row), text) }
		}
	case record.Decimal, record.Uint64:
		if t.Width() <= 8 {
			return compareNumbers(t, literal)
		}
	}
	return nil
}

func compareInts(literal ast.Node) func(c *record.Column, row int) int {
	switch v := literal.(type) {
	case *ast.IntegerNode:
		limit := int64(v.Value)
		return func(c *record.Column, row int) int { return cmp.Compare(c.Int(row), limit) }
	case *ast.FloatNode: // as the expression does: the integer becomes a float
		return func(c *record.Column, row int) int { return compareFloats(float64(c.Int(row)), v.Value) }
	}
	return nil
}

func floatLiteral(literal ast.Node) (float64, bool) {
	switch v := literal.(type) {
	case *ast.FloatNode:
		return v.Value, true
	case *ast.IntegerNode:
		return float64(v.Value), true
	}
	return 0, false
}

func compareFloats(a, b float64) int {
	if math.IsNaN(a) || math.IsNaN(b) {
		return unordered
	}
	return cmp.Compare(a, b)
}

// compareNumbers compares the stored integer with the literal times 10 to the scale: its floor, and whether that is exact.
func compareNumbers(t *record.Type, literal ast.Node) func(c *record.Column, row int) int {
	var v any
	switch n := literal.(type) {
	case *ast.IntegerNode:
		v = n.Value
	case *ast.FloatNode:
		v = n.Value
	}
	exactly, err := numberOf(v)
	if err != nil {
		return nil
	}
	scaled := new(big.Rat).Mul(exactly, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(t.Scale)), nil)))
	floor := new(big.Int).Div(scaled.Num(), scaled.Denom())
	atFloor := 0
	if !scaled.IsInt() {
		atFloor = -1
	}
	if t.Kind == record.Uint64 {
		if !floor.IsUint64() {
			return nil
		}
		limit := floor.Uint64()
		return func(c *record.Column, row int) int { return atOr(cmp.Compare(c.Uint(row), limit), atFloor) }
	}
	if !floor.IsInt64() {
		return nil
	}
	limit := floor.Int64()
	return func(c *record.Column, row int) int { return atOr(cmp.Compare(c.Int(row), limit), atFloor) }
}

// atOr returns the sign of a comparison with a floor, or for equality what that means for the number itself.
func atOr(sign, equal int) int {
	if sign == 0 {
		return equal
	}
	return sign
}

// newMembership makes the kernel of `in` with literals.
func newMembership(column int, literals ast.Node, t *record.Type) kernel {
	list, ok := literals.(*ast.ConstantNode)
	if !ok {
		return nil
	}
	switch set := list.Value.(type) {
	case map[string]struct{}:
		if t.Kind == record.String {
			return onColumn(column, func(c *record.Column, row int) bool {
				_, in := set[string(c.BytesAt(row))]
				return in
			})
		}
	case map[int]struct{}:
		if t.Signed() && t.Width() <= 8 && t.Kind <= record.Int64 {
			return onColumn(column, func(c *record.Column, row int) bool {
				_, in := set[int(c.Int(row))]
				return in
			})
		}
	}
	return nil
}
