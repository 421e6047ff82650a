package step

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/state"
)

// bank holds one aggregate's accumulators of the entries (a key, or a key in a window) that are worked on, by number. It is filled
// from state, and its accumulators go back there. What lies in states of its own (lists, sets) the bank reads and writes at once: then
// the entry's key is the task's current one. A returned error is the state's, never the row's.
type bank interface {
	// grow adds an entry of no rows, in the state's namespace `space`.
	grow(space int64)
	// clear forgets all entries.
	clear()
	// add adds a row, whose argument is not null.
	add(entry int, at argument) error
	// merge adds what entry `from` holds to `into`. `from` is not used any more.
	merge(into, from int) error
	// emit appends the result.
	emit(dst *record.Column, entry int) error
	stored
}

// stored is how accumulators are written into state.
type stored interface {
	save(dst []byte, entry int) []byte
	// load reads the entry that was added last.
	load(b []byte) (rest []byte, err error)
}

// refusing is implemented by banks that can't take every row.
type refusing interface {
	// check returns why a row can't be added to what the entries hold together, or "".
	check(entries []int, at argument) (reason string, err error)
}

// backed is implemented by banks with states of their own.
type backed interface {
	// dropNamespace deletes what all keys of a group have in a namespace.
	dropNamespace(group state.Group, space int64)
	// drop deletes what the current key has in a namespace.
	drop(space int64) error
}

// argument is a value that an aggregate takes. Aggregates without an argument get one without columns.
type argument struct {
	b   *record.Batch
	at  []int // the column's place, for [state.AppendKey]
	row int
}

func (a argument) column() *record.Column { return &a.b.Cols[a.at[0]] }

func (a argument) null() bool { return len(a.at) > 0 && a.column().IsNull(a.row) }

// key returns the value so that equal ones have equal bytes.
func (a argument) key(dst []byte) []byte { return state.AppendKey(dst, a.b, a.at, a.row) }

// entries is a list of accumulators whose memory is used again.
type entries[A any] struct {
	list []A
}

// add appends an accumulator, which may hold what an earlier one held.
func (e *entries[A]) add() *A {
	if len(e.list) < cap(e.list) {
		e.list = e.list[:len(e.list)+1]
	} else {
		var zero A
		e.list = append(e.list, zero)
	}
	return e.last()
}

func (e *entries[A]) last() *A { return &e.list[len(e.list)-1] }

func (e *entries[A]) clear() { e.list = e.list[:0] }

// countBank is count() and count(x).
type countBank struct{ entries[int64] }

func (k *countBank) grow(int64) { *k.entries.add() = 0 }

func (k *countBank) add(entry int, _ argument) error {
	k.list[entry]++
	return nil
}

func (k *countBank) merge(into, from int) error {
	k.list[into] += k.list[from]
	return nil
}

func (k *countBank) emit(dst *record.Column, entry int) error {
	dst.AppendInt(k.list[entry])
	return nil
}

func (k *countBank) save(dst []byte, entry int) []byte {
	return binary.AppendUvarint(dst, uint64(k.list[entry]))
}

func (k *countBank) load(b []byte) ([]byte, error) {
	n, rest, err := readCount(b)
	*k.last() = n
	return rest, err
}

// readCount reads a number that is not negative.
func readCount(b []byte) (n int64, rest []byte, err error) {
	v, size := binary.Uvarint(b)
	if size <= 0 || int64(v) < 0 {
		return 0, nil, errShort
	}
	return int64(v), b[size:], nil
}

// readBytes reads bytes with their length in front.
func readBytes(b []byte) (value, rest []byte, err error) {
	n, rest, err := readCount(b)
	if err != nil || n > int64(len(rest)) {
		return nil, nil, errShort
	}
	return rest[:n:n], rest[n:], nil
}

// wideSum is the exact sum of some integers or decimals.
type wideSum struct {
	sum wide
	n   int64
}

// sumBank is sum(x) and avg(x) of integers and decimals.
type sumBank struct {
	entries[wideSum]
	typ    string // of the sum
	bounds bounds
	result func(dst *record.Column, s *wideSum) error
}

func (k *sumBank) grow(int64) { *k.entries.add() = wideSum{} }

func (k *sumBank) add(entry int, at argument) error {
	s := &k.list[entry]
	v := wideAt(at.column(), at.row)
	s.sum, _ = s.sum.plus(&v) // check was asked
	s.n++
	return nil
}

func (k *sumBank) check(entries []int, at argument) (string, error) {
	sum := wideAt(at.column(), at.row)
	ok := true
	for _, e := range entries {
		var fits bool
		sum, fits = sum.plus(&k.list[e].sum)
		ok = ok && fits
	}
	if !ok || !k.bounds.hold(&sum) {
		return "the sum with this value does not fit " + k.typ, nil
	}
	return "", nil
}

func (k *sumBank) merge(into, from int) error {
	a, b := &k.list[into], &k.list[from]
	a.sum, _ = a.sum.plus(&b.sum)
	a.n += b.n
	return nil
}

func (k *sumBank) emit(dst *record.Column, entry int) error {
	if s := &k.list[entry]; s.n > 0 {
		return k.result(dst, s)
	}
	appendNothing(dst)
	return nil
}

// appendNothing appends the result over no value.
func appendNothing(dst *record.Column) {
	if dst.Type.Nullable {
		dst.AppendNull()
		return
	}
	dst.AppendZero()
}

func (k *sumBank) save(dst []byte, entry int) []byte {
	s := &k.list[entry]
	return s.sum.save(binary.AppendUvarint(dst, uint64(s.n)))
}

func (k *sumBank) load(b []byte) (rest []byte, err error) {
	s := k.last()
	if s.n, rest, err = readCount(b); err != nil {
		return nil, err
	}
	rest, err = s.sum.load(rest)
	if err == nil && (!k.bounds.hold(&s.sum) || s.n == 0 && s.sum != wide{}) {
		err = errSum
	}
	return rest, err
}

var errSum = errors.New("the stored sum is out of range")

// floatSum is a sum of floats, with what rounding lost of it so far (Neumaier).
type floatSum struct {
	sum, lost float64
	n         int64
}

func (s *floatSum) plus(v float64) {
	sum := s.sum + v
	if abs(s.sum) >= abs(v) {
		s.lost += s.sum - sum + v
	} else {
		s.lost += v - sum + s.sum
	}
	s.sum = sum
}

func abs(v float64) float64 {
	if v < 0 {
		return -v
	}
	return v
}

// value returns the sum. What is lost of one that is not finite says nothing.
func (s *floatSum) value() float64 {
	if s.sum-s.sum != 0 {
		return s.sum
	}
	return s.sum + s.lost
}

// floatBank is sum(x) and avg(x) of floats.
type floatBank struct {
	entries[floatSum]
	result func(s *floatSum) float64
}

func (k *floatBank) grow(int64) { *k.entries.add() = floatSum{} }

func (k *floatBank) add(entry int, at argument) error {
	k.list[entry].plus(at.column().Float(at.row))
	k.list[entry].n++
	return nil
}

func (k *floatBank) merge(into, from int) error {
	a, b := &k.list[into], &k.list[from]
	a.plus(b.sum)
	a.lost += b.lost
	a.n += b.n
	return nil
}

func (k *floatBank) emit(dst *record.Column, entry int) error {
	if s := &k.list[entry]; s.n > 0 {
		dst.AppendFloat(k.result(s))
		return nil
	}
	appendNothing(dst)
	return nil
}

func (k *floatBank) save(dst []byte, entry int) []byte {
	s := &k.list[entry]
	dst = binary.AppendUvarint(dst, uint64(s.n))
	dst = state.Float64{}.Append(dst, s.sum)
	return state.Float64{}.Append(dst, s.lost)
}

func (k *floatBank) load(b []byte) (rest []byte, err error) {
	const size = 8
	s := k.last()
	if s.n, rest, err = readCount(b); err != nil || len(rest) < 2*size {
		return nil, errShort
	}
	s.sum, s.lost = floatAt(rest), floatAt(rest[size:])
	return rest[2*size:], nil
}

func wrongArgument(fn string, t *record.Type, expected string) error {
	return fmt.Errorf("%s: %s is expected, the argument is %s", fn, expected, t)
}
