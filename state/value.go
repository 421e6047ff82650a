package state

// Describe returns the descriptor of a state of a kind whose values a codec writes; see the functions Describe… for maps, timers and
// others with more to say.
func Describe[T any](step, name, kind string, c Codec[T]) Descriptor {
	return Descriptor{Step: step, Name: name, Kind: kind, Type: c.Type(), Version: c.Version()}
}

// Value holds one value for each key, or for each key and namespace. Copies are the same state.
type Value[T any] struct {
	cell  cell
	codec Codec[T]
}

// NewValue opens the state that d declares, which is of [KindValue].
func NewValue[T any](t *Task, d Descriptor, c Codec[T], ttl TTL) (Value[T], error) {
	return newValue(t, &d, KindValue, c, ttl)
}

func newValue[T any](t *Task, d *Descriptor, kind string, c Codec[T], ttl TTL) (Value[T], error) {
	if err := checkType(d, c.Type(), c.Version()); err != nil {
		return Value[T]{}, err
	}
	cell, err := newCell(t, d, kind, ttl)
	if err != nil {
		return Value[T]{}, err
	}
	t.sweepLater(cell)
	return Value[T]{cell, c}, nil
}

// In returns the value in a namespace, such as the end of a window. The one without namespace is another.
func (v Value[T]) In(space int64) Value[T] {
	v.cell = v.cell.in(space)
	return v
}

// Get returns the current key's value; ok is false when it has none or it has expired.
func (v Value[T]) Get() (value T, ok bool, err error) {
	b, ok, err := v.cell.get()
	if err != nil || !ok {
		return value, false, err
	}
	value, err = v.codec.Decode(b)
	if err != nil {
		return value, false, v.cell.corrupt(err)
	}
	return value, true, nil
}

// Set sets the current key's value.
func (v Value[T]) Set(value T) {
	t := v.cell.t
	t.valueBuf = v.codec.Append(v.cell.appendHead(t.valueBuf[:0]), value)
	t.set(v.cell.key(), t.valueBuf)
	v.cell.wrote()
}

// Clear deletes the current key's value.
func (v Value[T]) Clear() { v.cell.t.remove(v.cell.key()) }

// Each calls f with each key of a group that has a value, and the value, in order of the stored keys. During the call the key is
// the current one. It visits the namespace of v, or what has none. f may change state.
func (v Value[T]) Each(group Group, f func(key []byte, value T) error) error {
	return v.cell.eachKey(group, func(key, stored []byte) error {
		b, ok, err := v.cell.open(stored)
		if err != nil || !ok {
			return err
		}
		value, err := v.codec.Decode(b)
		if err != nil {
			return v.cell.corrupt(err)
		}
		return f(key, value)
	})
}

// Namespaces calls f with each namespace up to and including upTo in which a key of the group may have something, in order. f may
// change state and drop the namespace. It costs next to nothing while nothing is due.
func (v Value[T]) Namespaces(group Group, upTo int64, f func(space int64) error) error {
	return v.cell.namespaces(group, upTo, f)
}

// DropNamespace deletes all that a group has in a namespace, as one range.
func (v Value[T]) DropNamespace(group Group, space int64) { v.cell.dropNamespace(group, space) }

// Reducing holds one value for each key, into which others are folded.
type Reducing[T any] struct {
	Value[T]
	reduce func(a, b T) T
}

// NewReducing opens the state that d declares, which is of [KindReducing]. reduce must be associative; a is what is held.
func NewReducing[T any](t *Task, d Descriptor, c Codec[T], ttl TTL, reduce func(a, b T) T) (Reducing[T], error) {
	v, err := newValue(t, &d, KindReducing, c, ttl)
	return Reducing[T]{v, reduce}, err
}

// In returns the state in a namespace.
func (r Reducing[T]) In(space int64) Reducing[T] {
	r.Value = r.Value.In(space)
	return r
}

// Add folds a value into the current key's.
func (r Reducing[T]) Add(value T) error {
	held, ok, err := r.Get()
	if err != nil {
		return err
	}
	if ok {
		value = r.reduce(held, value)
	}
	r.Set(value)
	return nil
}

// Aggregate says how inputs become an accumulator, and an accumulator a result. An error of its methods is that of the input and
// leaves the state as it was; acc may be changed in place and returned.
type Aggregate[I, A, O any] interface {
	// Create returns the accumulator of no input.
	Create() A
	// Add returns the accumulator with one input more.
	Add(acc A, in I) (A, error)
	// Merge returns the accumulator of the inputs of both, a's first.
	Merge(a, b A) (A, error)
	// Result returns what an accumulator says.
	Result(acc A) (O, error)
}

// Aggregating holds one accumulator for each key, or for each key and namespace.
type Aggregating[I, A, O any] struct {
	acc Value[A]
	agg Aggregate[I, A, O]
}

// NewAggregating opens the state that d declares, which is of [KindAggregating]; c is the codec of the accumulator.
func NewAggregating[I, A, O any](t *Task, d Descriptor, c Codec[A], ttl TTL, agg Aggregate[I, A, O]) (Aggregating[I, A, O], error) {
	v, err := newValue(t, &d, KindAggregating, c, ttl)
	return Aggregating[I, A, O]{v, agg}, err
}

// In returns the state in a namespace.
func (a Aggregating[I, A, O]) In(space int64) Aggregating[I, A, O] {
	a.acc = a.acc.In(space)
	return a
}

// Add adds an input to the current key's accumulator.
func (a Aggregating[I, A, O]) Add(in I) error {
	acc, ok, err := a.acc.Get()
	if err != nil {
		return err
	}
	if !ok {
		acc = a.agg.Create()
	}
	if acc, err = a.agg.Add(acc, in); err != nil {
		return err
	}
	a.acc.Set(acc)
	return nil
}

// Get returns the result of the current key's accumulator; ok is false when it has none.
func (a Aggregating[I, A, O]) Get() (out O, ok bool, err error) {
	acc, ok, err := a.acc.Get()
	if err != nil || !ok {
		return out, false, err
	}
	out, err = a.agg.Result(acc)
	return out, err == nil, err
}

// Accumulator returns the accumulators as a [Value], for what Add does not do.
func (a Aggregating[I, A, O]) Accumulator() Value[A] { return a.acc }

// MergeFrom merges the current key's accumulators of other namespaces, in the order given, into its own and clears them, as sessions
// that grow together need it. Its own may be among them.
func (a Aggregating[I, A, O]) MergeFrom(spaces ...int64) error {
	acc, ok, err := a.acc.Get()
	if err != nil {
		return err
	}
	for _, space := range spaces {
		if a.acc.cell.is(space) {
			continue
		}
		other, has, err := a.acc.In(space).Get()
		switch {
		case err != nil:
			return err
		case !has:
			continue
		case !ok:
			acc, ok = other, true
		default:
			if acc, err = a.agg.Merge(acc, other); err != nil {
				return err
			}
		}
	}
	for _, space := range spaces {
		a.acc.In(space).Clear() // its own too: it is set again
	}
	if ok {
		a.acc.Set(acc)
	}
	return nil
}

// Clear deletes the current key's accumulator.
func (a Aggregating[I, A, O]) Clear() { a.acc.Clear() }

// Each is as [Value.Each], with the results.
func (a Aggregating[I, A, O]) Each(group Group, f func(key []byte, out O) error) error {
	return a.acc.Each(group, func(key []byte, acc A) error {
		out, err := a.agg.Result(acc)
		if err != nil {
			return err
		}
		return f(key, out)
	})
}

// Namespaces is as [Value.Namespaces].
func (a Aggregating[I, A, O]) Namespaces(group Group, upTo int64, f func(space int64) error) error {
	return a.acc.Namespaces(group, upTo, f)
}

// DropNamespace is as [Value.DropNamespace].
func (a Aggregating[I, A, O]) DropNamespace(group Group, space int64) {
	a.acc.DropNamespace(group, space)
}
