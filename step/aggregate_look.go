package step

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/state"
)

// AccumulatorsState is the name of the state in which an aggregate step keeps its accumulators.
const AccumulatorsState = "accumulators"

// Accumulator is one aggregate of a key, or of a key in a window, as it is stored.
type Accumulator struct {
	Text   string // "sum(int64)"
	Result record.Column
	// Backed says that the values lie in a state of their own, and Result is their number.
	Backed bool
}

// ReadAccumulators reads a stored value of [AccumulatorsState], for tools that show state: typ is the type of the state, which tells
// the windows and the aggregates. Result has one row, what the step would emit now; of top_k it has all values that are held.
// emitted tells whether the result was emitted at the end of a bounded input and has not changed since. Errors are fault.Corrupt.
func ReadAccumulators(typ string, value []byte) (list []Accumulator, emitted bool, err error) {
	const op = "step.ReadAccumulators"
	_, texts, ok := strings.Cut(typ, ": ")
	calls, err := splitArguments(texts)
	if !ok || err != nil || len(value) == 0 {
		return nil, false, fault.E(op, fault.Corrupt, errors.Join(fmt.Errorf("no accumulators of %q", typ), err))
	}
	emitted, value = value[0]&emittedFlag != 0, value[1:]
	for _, text := range calls {
		a := Accumulator{Text: text}
		if value, err = a.read(value); err != nil {
			return nil, false, fault.E(op, fault.Corrupt, fmt.Errorf("%s: %w", text, err))
		}
		list = append(list, a)
	}
	if len(value) > 0 {
		return nil, false, fault.E(op, fault.Corrupt, fmt.Errorf("%d bytes follow the accumulators", len(value)))
	}
	return list, emitted, nil
}

func (a *Accumulator) read(value []byte) (rest []byte, err error) {
	typ, err := accumulatorType(a.Text)
	if err != nil {
		return nil, err
	}
	if a.Backed = typ.describe != nil; a.Backed {
		n, rest, err := readCount(value)
		a.Result = record.NewColumn(record.Type{Kind: record.Int64})
		a.Result.AppendInt(n)
		return rest, err
	}
	b, err := typ.open(nil, state.Descriptor{})
	if err != nil {
		return nil, err
	}
	b.grow(0)
	if rest, err = b.load(value); err != nil {
		return nil, err
	}
	a.Result = record.NewColumn(typ.result)
	return rest, b.emit(&a.Result, 0)
}

// accumulatorType finds the aggregate again that bindColumn described: its name, the type of its argument, and for some a number.
func accumulatorType(text string) (aggregateType, error) {
	name, rest, _ := strings.Cut(text, "(")
	args, err := splitArguments(strings.TrimSuffix(rest, ")"))
	if err != nil {
		return aggregateType{}, err
	}
	funcs := aggregateFuncs()
	for i := range funcs {
		if funcs[i].name != name {
			continue
		}
		c := &call{fn: &funcs[i], param: funcs[i].usual}
		if c.param == 0 {
			c.param = funcs[i].most
		}
		var t record.Type
		if len(args) > 0 {
			c.argument = args[0]
			if t, err = record.ParseType(args[0]); err != nil {
				return aggregateType{}, err
			}
			t.Nullable = true // a sum of nothing is null
		}
		if len(args) > 1 {
			if _, err := fmt.Sscan(args[1], &c.param); err != nil {
				return aggregateType{}, fmt.Errorf("%q is no number: %w", args[1], err)
			}
		}
		return c.fn.bind(c, &t)
	}
	return aggregateType{}, fmt.Errorf("no aggregate %q is known", name)
}

// SessionsState is the name of the state in which an aggregate step keeps the sessions of a key that have not ended.
const SessionsState = "sessions"

// SessionSpan is a session from its first row to the end of its gap, in milliseconds since 1970. ID is the namespace of its
// accumulators.
type SessionSpan struct {
	ID, Start, End int64
}

// ReadSessions reads a stored value of [SessionsState], for tools that show state. Errors are fault.Corrupt.
func ReadSessions(value []byte) ([]SessionSpan, error) {
	s, err := readSessions(value)
	if err != nil {
		return nil, fault.E("step.ReadSessions", fault.Corrupt, err)
	}
	var out []SessionSpan
	for _, span := range s.spans {
		out = append(out, SessionSpan{ID: span.id, Start: span.start, End: span.end})
	}
	return out, nil
}
