package step

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"time"
)

// Number is an exact number in an expression: the value of a decimal column, or of an integer column that an int can't hold.
// +, -, *, / and the comparisons take Numbers, ints and floats in any mix; a float counts as the number that it is written
// as, so 9.99 is exactly 9.99. The result is exact.
type Number struct{ rat *big.Rat }

// String returns the number with all its digits, or as a fraction if it has no end.
func (n Number) String() string {
	if digits, exact := n.rat.FloatPrec(); exact {
		return n.rat.FloatString(digits)
	}
	return n.rat.RatString()
}

var errOverflow = errors.New("integer overflow")

// numberOf makes an exact number of any number.
func numberOf(v any) (*big.Rat, error) {
	switch v := v.(type) {
	case Number:
		return v.rat, nil
	case int:
		return new(big.Rat).SetInt64(int64(v)), nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("%v is not a finite number", v)
		}
		r, ok := new(big.Rat).SetString(strconv.FormatFloat(v, 'g', -1, 64))
		if !ok {
			return nil, fmt.Errorf("%v is not a number", v)
		}
		return r, nil
	case nil:
		return nil, errors.New("null is not a number")
	}
	return nil, fmt.Errorf("%v is not a number", v)
}

func twoNumbers(args []any) (a, b *big.Rat, err error) {
	if a, err = numberOf(args[0]); err != nil {
		return nil, nil, err
	}
	b, err = numberOf(args[1])
	return a, b, err
}

// arithmetic makes the function of an operator on Numbers.
func arithmetic(operate func(z, a, b *big.Rat) *big.Rat) func(args ...any) (any, error) {
	return func(args ...any) (any, error) {
		a, b, err := twoNumbers(args)
		if err != nil {
			return nil, err
		}
		return Number{operate(new(big.Rat), a, b)}, nil
	}
}

func divide(args ...any) (any, error) {
	a, b, err := twoNumbers(args)
	if err != nil {
		return nil, err
	}
	if b.Sign() == 0 {
		return nil, errors.New("division by zero")
	}
	return Number{new(big.Rat).Quo(a, b)}, nil
}

// ordering makes the function of a comparison on Numbers.
func ordering(holds func(sign int) bool) func(args ...any) (any, error) {
	return func(args ...any) (any, error) {
		a, b, err := twoNumbers(args)
		if err != nil {
			return nil, err
		}
		return holds(a.Cmp(b)), nil
	}
}

// equality is == on Numbers. What is no number is not equal to one.
func equality(args ...any) (any, error) {
	a, b, err := twoNumbers(args)
	return err == nil && a.Cmp(b) == 0, nil
}

func inequality(args ...any) (any, error) {
	equal, err := equality(args...)
	return equal == false, err
}

// among is `in` for a Number and an array.
func among(args ...any) (any, error) {
	list, ok := args[1].([]any)
	if !ok {
		return nil, errors.New("in: an array is expected on the right")
	}
	for _, v := range list {
		if equal, err := equality(args[0], v); err == nil && equal == true {
			return true, nil
		}
	}
	return false, nil
}

func negateNumber(args ...any) (any, error) {
	a, err := numberOf(args[0])
	if err != nil {
		return nil, err
	}
	return Number{new(big.Rat).Neg(a)}, nil
}

// integers makes the function of an operator on ints that never wraps around.
func integers(operate func(a, b int) (int, bool)) func(args ...any) (any, error) {
	return func(args ...any) (any, error) {
		a, aIsInt := args[0].(int)
		b, bIsInt := args[1].(int)
		if !aIsInt || !bIsInt {
			return nil, fmt.Errorf("integers are expected, found %v and %v", shown(args[0]), shown(args[1]))
		}
		v, ok := operate(a, b)
		if !ok {
			return nil, errOverflow
		}
		return v, nil
	}
}

func addInts(a, b int) (int, bool) {
	c := a + b
	return c, (c > a) == (b > 0)
}

func subtractInts(a, b int) (int, bool) {
	c := a - b
	return c, (c < a) == (b > 0)
}

func multiplyInts(a, b int) (int, bool) {
	if a == 0 || b == 0 {
		return 0, true
	}
	if a == -1 && b == math.MinInt || b == -1 && a == math.MinInt {
		return 0, false // the division below would wrap around too
	}
	c := a * b
	return c, c/b == a
}

func negateInt(args ...any) (any, error) {
	a, ok := args[0].(int)
	if !ok {
		return nil, fmt.Errorf("an integer is expected, found %v", shown(args[0]))
	}
	if a == math.MinInt {
		return nil, errOverflow
	}
	return -a, nil
}

// toInt is int(x): the fraction is cut off.
func toInt(args ...any) (any, error) {
	switch v := args[0].(type) {
	case int:
		return v, nil
	case string:
		n, err := strconv.Atoi(v)
		if err != nil {
			return nil, fmt.Errorf("int(%q): not a whole number in range", v)
		}
		return n, nil
	case float64:
		const bound = 1 << 63 // the floats below it are ints
		if !(v >= -bound && v < bound) {
			return nil, errOverflow
		}
		return int(v), nil
	case Number:
		whole := new(big.Int).Quo(v.rat.Num(), v.rat.Denom())
		if !whole.IsInt64() {
			return nil, errOverflow
		}
		return int(whole.Int64()), nil
	}
	return nil, fmt.Errorf("int(%v): not a number", shown(args[0]))
}

// toFloat is float(x): the nearest float.
func toFloat(args ...any) (any, error) {
	switch v := args[0].(type) {
	case string:
		f, err := strconv.ParseFloat(v, 64)
		if err != nil {
			return nil, fmt.Errorf("float(%q): not a number in range", v)
		}
		return f, nil
	case float64:
		return v, nil
	case int:
		return float64(v), nil
	case Number:
		f, _ := v.rat.Float64()
		if math.IsInf(f, 0) {
			return nil, errors.New("float: out of range")
		}
		return f, nil
	}
	return nil, fmt.Errorf("float(%v): not a number", shown(args[0]))
}

// toText is string(x).
func toText(args ...any) (any, error) {
	switch v := args[0].(type) {
	case nil:
		return nil, errors.New("string(null)")
	case string:
		return v, nil
	case time.Time:
		return v.Format(time.RFC3339Nano), nil
	default:
		return fmt.Sprint(v), nil
	}
}

// roundTo is round(x) and round(x, digits): half away from zero, exact for Numbers.
func roundTo(args ...any) (any, error) {
	digits := 0
	if len(args) > 1 {
		n, ok := args[1].(int)
		const digitsMax = 76
		if !ok || n < 0 || n > digitsMax {
			return nil, fmt.Errorf("round: the number of digits must be from 0 to %d", digitsMax)
		}
		digits = n
	}
	if f, ok := args[0].(float64); ok && digits == 0 {
		return math.Round(f), nil
	}
	a, err := numberOf(args[0])
	if err != nil {
		return nil, fmt.Errorf("round: %w", err)
	}
	rounded, ok := new(big.Rat).SetString(a.FloatString(digits))
	if !ok {
		return nil, errors.New("round: not a number")
	}
	switch args[0].(type) {
	case int:
		return args[0], nil
	case float64:
		f, _ := rounded.Float64()
		return f, nil
	}
	return Number{rounded}, nil
}

// shown is a value in a message.
func shown(v any) any {
	if v == nil {
		return "null"
	}
	return v
}
