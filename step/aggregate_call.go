package step

import (
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/state"
)

// call is an aggregate as it is written: sum(amount), top_k(lower(word), 10).
type call struct {
	fn       *aggregateFunc
	argument string // a column or an expression; "" for none
	param    int64
}

// aggregateFunc is one of the aggregates.
type aggregateFunc struct {
	name string
	// param is the name of the second argument, "" for none, with its default, least and greatest value. A default of 0 means
	// that it must be given.
	param              string
	usual, least, most int64
	bare               bool // there may be no argument
	bind               func(c *call, t *record.Type) (aggregateType, error)
}

// aggregateType is an aggregate over values of one type.
type aggregateType struct {
	result record.Type
	// describe returns the aggregate's own state, beside the accumulators; nil: it has none.
	describe func(step, name string) state.Descriptor
	// open makes the bank of a task; d is what describe returned.
	open func(t *state.Task, d state.Descriptor) (bank, error)
}

// plainBank is open for an aggregate without a state of its own.
func plainBank(open func() bank) func(*state.Task, state.Descriptor) (bank, error) {
	return func(*state.Task, state.Descriptor) (bank, error) { return open(), nil }
}

const (
	listLimit, listLimitMax = 1000, 1_000_000
	setLimit, setLimitMax   = 100_000, 100_000_000
)

func aggregateFuncs() []aggregateFunc {
	return []aggregateFunc{
		{name: "count", bare: true, bind: bindCount},
		{name: "sum", bind: bindSum},
		{name: "avg", bind: bindAvg},
		{name: "min", bind: bindMin},
		{name: "max", bind: bindMax},
		{name: "first", bind: bindFirst},
		{name: "last", bind: bindLast},
		{name: "collect", param: "limit", usual: listLimit, least: 1, most: listLimitMax, bind: bindCollect},
		{name: "count_distinct", param: "limit", usual: setLimit, least: 1, most: setLimitMax, bind: bindDistinct},
		{
			name: "approx_count_distinct", param: "precision", usual: sketchPrecision, least: sketchPrecisionMin, most: sketchPrecisionMax,
			bind: bindSketch,
		},
		{name: "top_k", param: "k", least: 1, most: topMax, bind: bindTop},
	}
}

func aggregateNames() string {
	funcs := aggregateFuncs()
	names := make([]string, len(funcs))
	for i := range funcs {
		names[i] = funcs[i].name
	}
	return strings.Join(names, ", ")
}

// parseCall reads an aggregate.
func parseCall(text string) (*call, error) {
	name, rest, ok := strings.Cut(strings.TrimSpace(text), "(")
	name = strings.TrimSpace(name)
	if !ok || !strings.HasSuffix(rest, ")") {
		return nil, fmt.Errorf("%q is not an aggregate such as sum(amount)", text)
	}
	var fn *aggregateFunc
	funcs := aggregateFuncs()
	for i := range funcs {
		if funcs[i].name == name {
			fn = &funcs[i]
		}
	}
	if fn == nil {
		return nil, fmt.Errorf("there is no aggregate %q; there are %s", name, aggregateNames())
	}
	args, err := splitArguments(strings.TrimSuffix(rest, ")"))
	if err != nil {
		return nil, fmt.Errorf("%q: %w", text, err)
	}
	c := &call{fn: fn, param: fn.usual}
	switch {
	case len(args) == 0 && fn.bare:
		return c, nil
	case len(args) == 0:
		return nil, fmt.Errorf("%s needs an argument: a column or an expression", name)
	case len(args) > 2 || len(args) == 2 && fn.param == "":
		return nil, fmt.Errorf("%q: too many arguments", text)
	}
	c.argument = args[0]
	if len(args) == 2 {
		if c.param, err = strconv.ParseInt(strings.ReplaceAll(args[1], "_", ""), 10, 64); err != nil || c.param < fn.least || c.param > fn.most {
			return nil, fmt.Errorf("%s: %s must be a whole number from %d to %d, found %s", name, fn.param, fn.least, fn.most, args[1])
		}
	}
	if c.param == 0 && fn.param != "" {
		return nil, fmt.Errorf("%s needs %s as a second argument, from %d to %d", name, fn.param, fn.least, fn.most)
	}
	return c, nil
}

// splitArguments splits at commas outside of quotes and brackets.
func splitArguments(text string) ([]string, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var args []string
	depth, from := 0, 0
	for i := 0; i < len(text); i++ {
		switch b := text[i]; b {
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			if depth--; depth < 0 {
				return nil, errors.New("a bracket is closed that was not opened")
			}
		case ',':
			if depth == 0 {
				args = append(args, strings.TrimSpace(text[from:i]))
				from = i + 1
			}
		case '"', '\'', '`':
			end := quoteEnd(text, i)
			if end < 0 {
				return nil, errors.New("a quote is not closed")
			}
			i = end
		}
	}
	if depth > 0 {
		return nil, errors.New("a bracket is not closed")
	}
	args = append(args, strings.TrimSpace(text[from:]))
	if slices.Contains(args, "") {
		return nil, errors.New("an argument is missing")
	}
	return args, nil
}

// quoteEnd returns where the quote ends that begins at a place, or -1.
func quoteEnd(text string, at int) int {
	for i := at + 1; i < len(text); i++ {
		switch {
		case text[i] == text[at]:
			return i
		case text[i] == '\\' && text[at] != '`':
			i++
		}
	}
	return -1
}

func bindCount(*call, *record.Type) (aggregateType, error) {
	return aggregateType{
		result: record.Type{Kind: record.Int64},
		open:   plainBank(func() bank { return &countBank{} }),
	}, nil
}

const (
	sumDigits    = 38
	sumDigitsMax = record.PrecisionMax
)

// sumType returns the type of a sum of exact numbers.
func sumType(fn string, t *record.Type) (record.Type, error) {
	result := record.Type{Nullable: t.Nullable}
	switch t.Kind { //nolint:exhaustive // the others have no sum
	case record.Int8, record.Int16, record.Int32, record.Int64:
		result.Kind = record.Int64
	case record.Uint8, record.Uint16, record.Uint32, record.Uint64:
		result.Kind = record.Uint64
	case record.Int128, record.Int256, record.Uint128:
		result.Kind = t.Kind
	case record.Decimal:
		result.Kind, result.Scale, result.Precision = t.Kind, t.Scale, sumDigits
		if t.Precision > sumDigits {
			result.Precision = sumDigitsMax
		}
	default:
		return result, wrongArgument(fn, t, "a number (for a uint256: cast it to decimal(76, 0))")
	}
	return result, nil
}

func isFloat(t *record.Type) bool { return t.Kind == record.Float32 || t.Kind == record.Float64 }

func bindSum(c *call, t *record.Type) (aggregateType, error) {
	if isFloat(t) {
		return floatSumType(t, (*floatSum).value), nil
	}
	result, err := sumType(c.fn.name, t)
	return exactSumType(result, &result, func(dst *record.Column, s *wideSum) error {
		s.sum.appendTo(dst)
		return nil
	}), err
}

func floatSumType(t *record.Type, result func(s *floatSum) float64) aggregateType {
	return aggregateType{
		result: record.Type{Kind: record.Float64, Nullable: t.Nullable},
		open:   plainBank(func() bank { return &floatBank{result: result} }),
	}
}

func exactSumType(result record.Type, sum *record.Type, emit func(dst *record.Column, s *wideSum) error) aggregateType {
	return aggregateType{result: result, open: plainBank(func() bank {
		plain := *sum
		plain.Nullable = false
		return &sumBank{typ: plain.String(), bounds: boundsOf(sum), result: emit}
	})}
}

// avgDigits is how many digits behind the point the average of decimals has more than they have.
const avgDigits = 4

func bindAvg(c *call, t *record.Type) (aggregateType, error) {
	if isFloat(t) {
		return floatSumType(t, func(s *floatSum) float64 { return s.value() / float64(s.n) }), nil
	}
	sum, err := sumType(c.fn.name, t)
	if err != nil {
		return aggregateType{}, err
	}
	if t.Kind != record.Decimal {
		result := record.Type{Kind: record.Float64, Nullable: t.Nullable}
		return exactSumType(result, &sum, func(dst *record.Column, s *wideSum) error {
			f, _ := new(big.Rat).SetFrac(s.sum.big(), big.NewInt(s.n)).Float64()
			dst.AppendFloat(f)
			return nil
		}), nil
	}
	result := sum
	result.Scale = min(sum.Scale+avgDigits, sum.Precision)
	// The digits that the scale takes must not be missing in front of the point.
	if result.Precision-result.Scale < t.Precision-t.Scale {
		result.Precision = sumDigitsMax
	}
	result.Scale = min(result.Scale, result.Precision-(t.Precision-t.Scale))
	shift := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(result.Scale-t.Scale)), nil)
	held := boundsOf(&result)
	return exactSumType(result, &sum, func(dst *record.Column, s *wideSum) error {
		quotient := roundedQuotient(new(big.Int).Mul(s.sum.big(), shift), s.n)
		if quotient.BitLen() >= 8*wideBytes {
			return errSum
		}
		avg := wideFrom(quotient)
		if !held.hold(&avg) {
			return errSum
		}
		avg.appendTo(dst)
		return nil
	}), nil
}

// roundedQuotient divides, half away from zero.
func roundedQuotient(v *big.Int, n int64) *big.Int {
	half := big.NewInt(n)
	twice := new(big.Int).Lsh(new(big.Int).Abs(v), 1)
	q := new(big.Int).Quo(twice.Add(twice, half), half.Lsh(half, 1))
	if v.Sign() < 0 {
		q.Neg(q)
	}
	return q
}

func bindMin(c *call, t *record.Type) (aggregateType, error) {
	return orderType(c.fn.name, t, func(order int) bool { return order < 0 })
}

func bindMax(c *call, t *record.Type) (aggregateType, error) {
	return orderType(c.fn.name, t, func(order int) bool { return order > 0 })
}

func orderType(fn string, t *record.Type, replaces func(order int) bool) (aggregateType, error) {
	order := storedOrder(t)
	if order == nil {
		return aggregateType{}, wrongArgument(fn, t, "a type with an order")
	}
	return heldType(t, func(held, value []byte) bool { return replaces(order(value, held)) }), nil
}

func heldType(t *record.Type, replaces func(held, value []byte) bool) aggregateType {
	return aggregateType{
		result: *t,
		open:   plainBank(func() bank { return &valueBank{replaces: replaces} }),
	}
}

func bindFirst(_ *call, t *record.Type) (aggregateType, error) {
	return heldType(t, func(_, _ []byte) bool { return false }), nil
}

func bindLast(_ *call, t *record.Type) (aggregateType, error) {
	return heldType(t, func(_, _ []byte) bool { return true }), nil
}

// elements returns the type of an array of values that are not null.
func elements(t *record.Type) record.Type {
	elem := *t
	elem.Nullable = false
	return record.Type{Kind: record.Array, Elem: &elem}
}

func bindCollect(c *call, t *record.Type) (aggregateType, error) {
	list := elements(t)
	values := state.Tuple{Types: []record.Type{*list.Elem}}
	return aggregateType{
		result: list,
		describe: func(step, name string) state.Descriptor {
			return state.Describe(step, name, state.KindList, state.Codec[[]byte](values))
		},
		open: func(task *state.Task, d state.Descriptor) (bank, error) {
			held, err := state.NewList(task, d, state.Codec[[]byte](values), state.TTL{})
			return &listBank{values: held, codec: values, limit: c.param}, err
		},
	}, nil
}

func bindDistinct(c *call, t *record.Type) (aggregateType, error) {
	o := state.MapOptions[[]byte, struct{}]{Key: setKeysOf(t), Value: nothing()}
	return aggregateType{
		result: record.Type{Kind: record.Int64},
		describe: func(step, name string) state.Descriptor {
			return state.DescribeMap(step, name, o.Key, o.Value)
		},
		open: func(task *state.Task, d state.Descriptor) (bank, error) {
			values, err := state.NewMap(task, d, o)
			return &setBank{values: values, limit: c.param}, err
		},
	}, state.CheckKeyType(t)
}

func bindSketch(c *call, t *record.Type) (aggregateType, error) {
	return aggregateType{
		result: record.Type{Kind: record.Int64},
		open:   plainBank(func() bank { return &sketchBank{precision: int(c.param)} }),
	}, state.CheckKeyType(t)
}

func bindTop(c *call, t *record.Type) (aggregateType, error) {
	return aggregateType{
		result: elements(t),
		open:   plainBank(func() bank { return &topBank{k: int(c.param)} }),
	}, state.CheckKeyType(t)
}
