package step

import (
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"time"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/checker/nature"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/types"
	"github.com/expr-lang/expr/vm"

	"github.com/ingestd/ingestd/record"
)

// expression is an expression that was checked against a schema. It is used by one goroutine at a time.
type expression struct {
	text    string
	program *vm.Program
	result  reflect.Type // nil when it is only known at run time
	reads   []variable
	machine vm.VM
	env     map[string]any
}

// variable is a name that an expression reads, and how its value is got from a row.
type variable struct {
	name string
	read func(b *record.Batch, row int) any
}

// compile checks an expression against the schema of the batches that it will get. The error says what is wrong and where.
func compile(text string, s *record.Schema) (*expression, error) {
	variables := variablesOf(s)
	env := make(types.Map, len(variables))
	for name, v := range variables {
		env[name] = v.typ
	}
	used := &names{seen: make(map[string]bool)}
	options := append(functions(), expr.Env(env), expr.Patch(used), expr.Patch(&exact{}), expr.Patch(forget{}))
	program, err := expr.Compile(text, options...)
	if err != nil {
		return nil, describe(text, err, s)
	}
	e := &expression{text: text, program: program, env: make(map[string]any), result: program.Node().Type()}
	if e.result != nil && e.result.Kind() == reflect.Interface {
		e.result = nil
	}
	for _, name := range used.list {
		if v, ok := variables[name]; ok {
			e.reads = append(e.reads, variable{name: name, read: v.read})
		}
	}
	if used.all {
		e.reads = nil
		for _, name := range sorted(variables) {
			e.reads = append(e.reads, variable{name: name, read: variables[name].read})
		}
	}
	return e, nil
}

// eval returns the value for a row.
func (e *expression) eval(b *record.Batch, row int) (any, error) {
	for i := range e.reads {
		e.env[e.reads[i].name] = e.reads[i].read(b, row)
	}
	v, err := e.machine.Run(e.program, e.env)
	if err != nil {
		return nil, fmt.Errorf("expression %q: %s", e.text, firstLine(err))
	}
	return v, nil
}

// reads reports whether an expression reads a name. One that is not an expression reads nothing.
func reads(text, name string) bool {
	tree, err := parser.Parse(text)
	if err != nil {
		return false
	}
	used := &names{seen: make(map[string]bool)}
	ast.Walk(&tree.Node, used)
	return used.all || used.seen[name]
}

// describe turns an error of the compiler into one that a person can act on.
func describe(text string, err error, s *record.Schema) error {
	message, place := err.Error(), ""
	if at, ok := errors.AsType[*file.Error](err); ok {
		message, place = at.Message, fmt.Sprintf(" at line %d, column %d", at.Line, at.Column+1)
	}
	if strings.HasPrefix(message, "unknown name") {
		message += "; known are " + columnNames(s) + " (decode.columns declares more) and " + strings.Join(MetadataNames(), ", ")
	}
	return fmt.Errorf("expression %q%s: %s", text, place, message)
}

// firstLine is an error's text without the drawing of its place.
func firstLine(err error) string {
	if at, ok := errors.AsType[*file.Error](err); ok {
		return at.Message
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	return text
}

func columnNames(s *record.Schema) string {
	list := make([]string, len(s.Fields))
	for i := range s.Fields {
		list[i] = s.Fields[i].Name
	}
	return strings.Join(list, ", ")
}

// names collects the variables of an expression.
type names struct {
	seen map[string]bool
	list []string
	all  bool // $env is used in a way that may read any of them
}

// Visit notes an identifier.
func (n *names) Visit(node *ast.Node) {
	switch v := (*node).(type) {
	case *ast.MemberNode:
		if base, ok := v.Node.(*ast.IdentifierNode); !ok || base.Value != "$env" {
			return
		}
		if name, ok := v.Property.(*ast.StringNode); ok {
			n.add(name.Value)
			return
		}
		n.all = true
	case *ast.IdentifierNode:
		if v.Value != "$env" {
			n.add(v.Value)
		}
	}
}

func (n *names) add(name string) {
	if !n.seen[name] {
		n.seen[name] = true
		n.list = append(n.list, name)
	}
}

// exact replaces the operators whose built-in form would wrap around or does not know Numbers. It is applied until nothing
// changes, because the type of an outer expression is known only after the inner one was replaced.
type exact struct{ changed bool }

// Reset begins a walk.
func (x *exact) Reset() { x.changed = false }

// ShouldRepeat reports whether the last walk replaced something.
func (x *exact) ShouldRepeat() bool { return x.changed }

// Visit replaces an operator.
func (x *exact) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.BinaryNode:
		if fn := exactBinary(n); fn != "" {
			x.replace(node, fn, n.Left, n.Right)
		}
	case *ast.UnaryNode:
		if n.Operator != "-" {
			return
		}
		if _, literal := n.Node.(*ast.IntegerNode); literal {
			return
		}
		switch {
		case isNumber(n.Node):
			x.replace(node, "_number_negate", n.Node)
		case isInt(n.Node):
			x.replace(node, "_int_negate", n.Node)
		}
	}
}

func (x *exact) replace(node *ast.Node, fn string, args ...ast.Node) {
	ast.Patch(node, &ast.CallNode{Callee: &ast.IdentifierNode{Value: fn}, Arguments: args})
	x.changed = true
}

// forget makes the checker look at calls again: it takes the type that a call has from an earlier pass as given and does not
// look at the arguments any more, so errors inside them would go unnoticed.
type forget struct{}

// Reset begins a walk.
func (forget) Reset() {}

// ShouldRepeat returns false: the walk itself replaces nothing.
func (forget) ShouldRepeat() bool { return false }

// Visit takes the type from a call.
func (forget) Visit(node *ast.Node) {
	if call, ok := (*node).(*ast.CallNode); ok {
		call.SetNature(nature.Nature{})
	}
}

// exactBinary returns the function that replaces an operator, or "".
func exactBinary(n *ast.BinaryNode) string {
	if isInt(n.Left) && isInt(n.Right) {
		return map[string]string{"+": "_int_add", "-": "_int_subtract", "*": "_int_multiply"}[n.Operator]
	}
	left, right := isNumber(n.Left), isNumber(n.Right)
	if !left && !right || isNil(n.Left) || isNil(n.Right) {
		return ""
	}
	if n.Operator == "in" {
		if left {
			return "_number_in"
		}
		return ""
	}
	equality := n.Operator == "==" || n.Operator == "!="
	if !equality && (!numeric(n.Left) || !numeric(n.Right)) {
		return "" // the checker tells what does not go together
	}
	return map[string]string{
		"+": "_number_add", "-": "_number_subtract", "*": "_number_multiply", "/": "_number_divide",
		"<": "_number_less", "<=": "_number_less_equal", ">": "_number_more", ">=": "_number_more_equal",
		"==": "_number_equal", "!=": "_number_not_equal",
	}[n.Operator]
}

// functions returns the functions of the language that are not expr's own.
func functions() []expr.Option {
	binary := new(func(any, any) Number)
	comparison := new(func(any, any) bool)
	integer := new(func(any, any) int)
	sign := func(holds func(int) bool) func(args ...any) (any, error) { return ordering(holds) }
	return []expr.Option{
		expr.Function("_number_add", arithmetic((*big.Rat).Add), binary),
		expr.Function("_number_subtract", arithmetic((*big.Rat).Sub), binary),
		expr.Function("_number_multiply", arithmetic((*big.Rat).Mul), binary),
		expr.Function("_number_divide", divide, binary),
		expr.Function("_number_negate", negateNumber, new(func(any) Number)),
		expr.Function("_number_less", sign(func(s int) bool { return s < 0 }), comparison),
		expr.Function("_number_less_equal", sign(func(s int) bool { return s <= 0 }), comparison),
		expr.Function("_number_more", sign(func(s int) bool { return s > 0 }), comparison),
		expr.Function("_number_more_equal", sign(func(s int) bool { return s >= 0 }), comparison),
		expr.Function("_number_equal", equality, comparison),
		expr.Function("_number_not_equal", inequality, comparison),
		expr.Function("_number_in", among, comparison),
		expr.Function("_int_add", integers(addInts), integer),
		expr.Function("_int_subtract", integers(subtractInts), integer),
		expr.Function("_int_multiply", integers(multiplyInts), integer),
		expr.Function("_int_negate", negateInt, new(func(any) int)),
		expr.Function("int", toInt, new(func(any) int)),
		expr.Function("float", toFloat, new(func(any) float64)),
		expr.Function("string", toText, new(func(any) string)),
		expr.Function("round", roundTo,
			new(func(Number) Number), new(func(float64) float64), new(func(int) int),
			new(func(Number, int) Number), new(func(float64, int) float64), new(func(int, int) int)),
	}
}

// typeOf returns the type of a node's value; nil if it is not known or the value is nil.
func typeOf(n ast.Node) reflect.Type {
	t := n.Type()
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t != nil && t.Kind() == reflect.Interface {
		return nil
	}
	return t
}

func isNil(n ast.Node) bool {
	_, ok := n.(*ast.NilNode)
	return ok
}

func isInt(n ast.Node) bool    { return typeOf(n) == reflect.TypeFor[int]() }
func isNumber(n ast.Node) bool { return typeOf(n) == reflect.TypeFor[Number]() }

// numeric reports whether a node is a number, or may be one.
func numeric(n ast.Node) bool {
	t := typeOf(n)
	return t == nil || t == reflect.TypeFor[int]() || t == reflect.TypeFor[float64]() || t == reflect.TypeFor[Number]()
}

// kindOfResult returns the kind of column that a result of this type needs, and whether there is one.
func kindOfResult(t reflect.Type) (kind record.Type, ok bool) {
	nullable := false
	for t != nil && t.Kind() == reflect.Pointer {
		t, nullable = t.Elem(), true
	}
	switch t {
	case reflect.TypeFor[int]():
		kind.Kind = record.Int64
	case reflect.TypeFor[float64]():
		kind.Kind = record.Float64
	case reflect.TypeFor[string]():
		kind.Kind = record.String
	case reflect.TypeFor[bool]():
		kind.Kind = record.Bool
	case reflect.TypeFor[time.Time]():
		kind = record.Type{Kind: record.Timestamp, Precision: 9}
	default:
		return kind, false
	}
	kind.Nullable = nullable
	return kind, true
}
