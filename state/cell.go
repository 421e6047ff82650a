package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/ingestd/ingestd/fault"
)

// Clock is the time by which a state expires or a timer fires.
type Clock uint8

const (
	// EventTime is the watermark. Nothing expires before the first one.
	EventTime Clock = iota
	// ProcessingTime is the clock of the machine.
	ProcessingTime
)

// String returns the clock's name in a config.
func (c Clock) String() string {
	if c == ProcessingTime {
		return "processing"
	}
	return "event"
}

// TTL says how long what was written is kept. The time of writing is stored with the value, so it holds over a restore, and a
// change of For applies to what was written before. What was written before the time was known is kept until it is written again.
type TTL struct {
	For time.Duration // 0: for ever; rounded up to milliseconds
	By  Clock
}

func (t TTL) millis() int64 { return int64((t.For + time.Millisecond - 1) / time.Millisecond) }

// ErrStop ends a visit of keys or elements early when the visiting function returns it; the visit returns nil then.
var ErrStop = errors.New("stop the visit")

func visited(err error) error {
	if errors.Is(err, ErrStop) {
		return nil
	}
	return err
}

// cell is where one state keeps what belongs to the current key: the part that all kinds share.
type cell struct {
	t     *Task
	own   *owned
	space int64
	kind  byte // with scoped when it has a namespace
}

// owned is what one state has once in a task, whatever key and namespace.
type owned struct {
	d    Descriptor
	slot uint16
	ttl  TTL
	// least holds for each key group a bound below which it has no namespace; NoTime: not known. It keeps visits of groups
	// in which nothing is due from asking the Reader.
	least []int64
}

func newCell(t *Task, d *Descriptor, kind string, ttl TTL) (cell, error) {
	slot, err := t.o.Registry.find(d)
	if err != nil {
		return cell{}, err
	}
	if d.Kind != kind {
		return cell{}, fault.E("state.New", fault.Misconfigured,
			fmt.Errorf("state %q of step %q is a %s and opened as a %s", d.Name, d.Step, d.Kind, kind))
	}
	own := &owned{d: *d, slot: slot, ttl: ttl, least: make([]int64, t.o.Groups)}
	for i := range own.least {
		own.least[i] = NoTime
	}
	return cell{t: t, own: own, kind: kindByte(kind)}, nil
}

func checkType(d *Descriptor, text string, version int) error {
	if d.Type == text && d.Version == version {
		return nil
	}
	return fault.E("state.New", fault.Misconfigured,
		fmt.Errorf("state %q of step %q is declared as %s and opened with values of %s, encoding version %d", d.Name, d.Step, d, text, version))
}

// in returns the cell in a namespace.
func (c cell) in(space int64) cell {
	c.space, c.kind = space, c.kind|scoped
	return c
}

// is tells whether the cell is in a namespace.
func (c cell) is(space int64) bool { return c.kind&scoped != 0 && c.space == space }

// key returns the stored key of the current key, without a sub key. It is valid until the next call.
func (c cell) key() []byte {
	c.t.keyBuf = append(c.spacePrefix(c.t.keyBuf[:0], c.t.group), c.t.user...)
	return c.t.keyBuf
}

func (c cell) spacePrefix(dst []byte, group Group) []byte {
	dst = appendPrefix(dst, group, c.own.slot, c.kind)
	if c.kind&scoped != 0 {
		dst = appendSpace(dst, c.space)
	}
	return dst
}

// below returns the range of all keys that begin with prefix.
func below(prefix []byte) Range {
	return Range{From: prefix, To: after(prefix)}
}

// wrote notes that the current group has something in the cell's namespace.
func (c cell) wrote() {
	if c.kind&scoped != 0 && c.space < c.own.least[c.t.group] {
		c.own.least[c.t.group] = c.space
	}
}

// A stored value begins with a byte that says what follows.
const (
	headPlain = 0x00 // the value
	headTimed = 0x01 // the time of writing, milliseconds since 1970 as 8 bytes, big endian, then the value

	timedBytes = 9
)

// appendHead appends what stands in front of a value that is written now.
func (c cell) appendHead(dst []byte) []byte {
	if c.own.ttl.For == 0 {
		return append(dst, headPlain)
	}
	now := c.t.now(c.own.ttl.By)
	if now == NoTime {
		return append(dst, headPlain)
	}
	return binary.BigEndian.AppendUint64(append(dst, headTimed), uint64(now))
}

// open returns the value in a stored value; ok is false when it has expired.
func (c cell) open(stored []byte) (value []byte, ok bool, err error) {
	switch {
	case len(stored) > 0 && stored[0] == headPlain:
		return stored[1:], true, nil
	case len(stored) >= timedBytes && stored[0] == headTimed:
		written := int64(binary.BigEndian.Uint64(stored[1:]))
		return stored[timedBytes:], !c.own.ttl.over(written, c.t.now(c.own.ttl.By)), nil
	}
	return nil, false, c.corrupt(errors.New("unknown head of a value"))
}

// over tells whether what was written at a time has expired.
func (t TTL) over(written, now int64) bool {
	return t.For != 0 && now != NoTime && written <= now && addTime(written, t.millis()) <= now
}

// addTime adds without overflow.
func addTime(at, d int64) int64 {
	if d > 0 && at > math.MaxInt64-d {
		return math.MaxInt64
	}
	return at + d
}

func (c cell) corrupt(err error) error {
	return fault.E("state", fault.Corrupt, fmt.Errorf("state %q of step %q, key group %d: %w", c.own.d.Name, c.own.d.Step, c.t.group, err))
}

// get returns the stored value of the current key.
func (c cell) get() (value []byte, ok bool, err error) {
	stored, ok, err := c.t.get(c.key())
	if err != nil || !ok {
		return nil, false, err
	}
	return c.open(stored)
}

// namespaces calls f with each namespace up to upTo in which a key group has something, in order.
func (c cell) namespaces(group Group, upTo int64, f func(space int64) error) error {
	c.kind |= scoped
	if c.own.least[group] > upTo {
		return nil
	}
	from := appendSpace(appendPrefix(nil, group, c.own.slot, c.kind), c.own.least[group])
	end := after(from[:prefixBytes])
	key, ok, err := c.t.first(nil, Range{From: from, To: end})
	if err != nil {
		return err
	}
	if !ok {
		c.own.least[group] = math.MaxInt64
		return nil
	}
	space := spaceOf(key[prefixBytes:])
	c.own.least[group] = space
	if space > upTo {
		return nil
	}
	return visited(c.visitSpaces(Range{From: key, To: end}, space, upTo, f))
}

// visitSpaces goes from the first namespace of a range to the next, without looking at the keys within.
func (c cell) visitSpaces(r Range, space, upTo int64, f func(space int64) error) error {
	for {
		if err := f(space); err != nil || space == math.MaxInt64 {
			return err
		}
		from := appendSpace(append([]byte(nil), r.From[:prefixBytes]...), space+1)
		key, ok, err := c.t.first(nil, Range{From: from, To: r.To})
		if err != nil || !ok {
			return err
		}
		if space = spaceOf(key[prefixBytes:]); space > upTo {
			return nil
		}
	}
}

// dropNamespace empties a namespace of a key group.
func (c cell) dropNamespace(group Group, space int64) {
	r := below(c.in(space).spacePrefix(nil, group))
	c.t.drop(r.From, r.To)
}

// eachKey calls f with each key that has something in a namespace of a key group, or without namespace, and with the first thing
// stored of it. The key is the current one during the call. It goes from key to key, so the parts of one key are not read.
func (c cell) eachKey(group Group, f func(key, value []byte) error) error {
	r := below(c.spacePrefix(nil, group))
	single := c.kind&^scoped != kindList && c.kind&^scoped != kindMap
	visit := func(key, value []byte) error {
		p, err := SplitKey(key)
		if err != nil {
			return c.corrupt(err)
		}
		c.t.For(p.User, group)
		return f(p.User, value)
	}
	if single {
		return visited(c.t.scan(r, visit))
	}
	from := r.From
	for {
		key, ok, err := c.t.first(nil, Range{From: from, To: r.To})
		if err != nil || !ok {
			return err
		}
		p, err := SplitKey(key)
		if err != nil {
			return c.corrupt(err)
		}
		if err := visit(key, nil); err != nil {
			return visited(err)
		}
		from = after(key[:len(key)-len(p.Sub)])
	}
}
