package avro

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hamba/avro/v2"
)

// meaning is what a value is to its reader, apart from its binary form.
type meaning uint8

const (
	meansPlain meaning = iota // what the wire says
	meansFloat                // an int or long read as float
	meansDouble
	meansDecimal
	meansDate
	meansTime
	meansTimestamp
	meansLocal
	meansUUID
	meansDuration
)

// node is a value of the writer's schema as the reader's schema sees it. Nodes of recursive schemas form cycles.
type node struct {
	wire     wire
	meaning  meaning
	name     string // of the type, for messages
	size     int    // of a fixed
	scale    int    // of a decimal
	digits   int    // of a time or timestamp behind the second
	text     bool   // bytes that the reader takes for a string, or a string
	symbols  []string
	item     *node   // array, map
	members  []*node // of a union, in the writer's order
	fields   []nodeField
	absent   []defaultField
	least    int // bytes of a value, set by measure
	measured bool
	// refused is why no value of the writer's type can be read; its bytes are well known all the same.
	refused string
}

// nodeField is a field that the writer has written. Without a name the reader does not know it.
type nodeField struct {
	name string
	node *node
}

// defaultField is a field that only the reader has.
type defaultField struct {
	name  string
	node  *node
	value []byte // as the reader's schema writes it
}

// resolver makes nodes of pairs of schemas.
type resolver struct {
	seen  map[[2]avro.Schema]*node
	depth int
}

// schemaDepthMax bounds how deep schemas nest.
const schemaDepthMax = 256

var errDeep = fmt.Errorf("schemas nest deeper than %d", schemaDepthMax)

// resolve returns the node of a pair of schemas.
func resolve(writer, reads avro.Schema) (*node, error) {
	r := &resolver{seen: map[[2]avro.Schema]*node{}}
	n, err := r.pair(writer, reads)
	if err == nil {
		measure(n)
	}
	return n, err
}

func deref(s avro.Schema) avro.Schema {
	if ref, ok := s.(*avro.RefSchema); ok {
		return ref.Schema()
	}
	return s
}

// pair resolves a writer's schema for a reader's.
func (r *resolver) pair(w, s avro.Schema) (*node, error) {
	w, s = deref(w), deref(s)
	key := [2]avro.Schema{w, s}
	if n := r.seen[key]; n != nil {
		return n, nil
	}
	if r.depth++; r.depth > schemaDepthMax {
		return nil, errDeep
	}
	defer func() { r.depth-- }()
	n := &node{name: typeName(w)}
	r.seen[key] = n
	if u, ok := w.(*avro.UnionSchema); ok {
		n.wire = wireUnion
		for _, t := range u.Types() {
			member, err := r.pair(t, s)
			if err != nil {
				return nil, err
			}
			n.members = append(n.members, member)
		}
		return n, nil
	}
	if u, ok := s.(*avro.UnionSchema); ok {
		if s = branchFor(w, u); s == nil {
			return n, r.refuse(n, w, u)
		}
		s = deref(s)
	}
	return n, r.fill(n, w, s)
}

// refuse makes a node of a type that the reader does not take. It is still known how to pass over it.
func (r *resolver) refuse(n *node, w, s avro.Schema) error {
	reason := typeName(w) + " can't be read as " + typeName(s)
	if err := r.fill(n, w, w); err != nil {
		return err
	}
	n.refused = reason
	return nil
}

// branchFor finds the branch of a reader's union for a writer's type: the same type, and name, if there is one, else the first
// that it can be promoted to.
func branchFor(w avro.Schema, u *avro.UnionSchema) avro.Schema {
	for _, t := range u.Types() {
		if t := deref(t); t.Type() == w.Type() && sameName(w, t) {
			return t
		}
	}
	for _, t := range u.Types() {
		if promotes(w.Type(), deref(t).Type()) {
			return t
		}
	}
	return nil
}

// promotes reports whether a writer's primitive type is read as another one.
func promotes(w, s avro.Type) bool {
	switch w { //nolint:exhaustive // the other types are read as themselves only
	case avro.Int:
		return s == avro.Long || s == avro.Float || s == avro.Double
	case avro.Long:
		return s == avro.Float || s == avro.Double
	case avro.Float:
		return s == avro.Double
	case avro.String:
		return s == avro.Bytes
	case avro.Bytes:
		return s == avro.String
	}
	return false
}

// sameName reports whether two types of the same kind match: named ones by their name without the namespace, or by an alias of
// the reader's.
func sameName(w, s avro.Schema) bool {
	from, ok := w.(avro.NamedSchema)
	if !ok {
		return true
	}
	to, ok := s.(avro.NamedSchema)
	if !ok {
		return false
	}
	if from.Name() == to.Name() || slices.Contains(to.Aliases(), from.FullName()) {
		return true
	}
	return slices.ContainsFunc(to.Aliases(), func(alias string) bool { return unqualified(alias) == from.Name() })
}

func unqualified(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }

// typeName names a type in messages.
func typeName(s avro.Schema) string {
	if named, ok := s.(avro.NamedSchema); ok {
		return string(s.Type()) + " " + named.FullName()
	}
	if logical := logicalOf(s); logical != "" {
		return logical
	}
	if u, ok := s.(*avro.UnionSchema); ok {
		names := make([]string, len(u.Types()))
		for i, t := range u.Types() {
			names[i] = typeName(deref(t))
		}
		return "a union of " + strings.Join(names, ", ")
	}
	return string(s.Type())
}

// fill sets a node for types of which neither is a union.
func (r *resolver) fill(n *node, w, s avro.Schema) error {
	if w.Type() != s.Type() && !promotes(w.Type(), s.Type()) || w.Type() == s.Type() && !sameName(w, s) {
		return r.refuse(n, w, s)
	}
	switch w := w.(type) {
	case *avro.NullSchema:
		n.wire = wireNull
	case *avro.PrimitiveSchema:
		n.wire = primitiveWire(w.Type())
		return r.primitive(n, w, s)
	case *avro.FixedSchema:
		n.wire, n.size = wireFixed, w.Size()
		if fixed, ok := s.(*avro.FixedSchema); ok && fixed.Size() != w.Size() {
			n.refused = fmt.Sprintf("%s of %d bytes can't be read as %d", n.name, w.Size(), fixed.Size())
			return nil
		}
		return r.logical(n, w, s)
	case *avro.EnumSchema:
		return r.enum(n, w, s)
	case *avro.ArraySchema:
		n.wire = wireArray
		return r.item(n, w.Items(), s)
	case *avro.MapSchema:
		n.wire = wireMap
		return r.item(n, w.Values(), s)
	case *avro.RecordSchema:
		return r.record(n, w, s)
	default:
		return fmt.Errorf("a schema of type %q is not known", w.Type())
	}
	return nil
}

func primitiveWire(t avro.Type) wire {
	switch t { //nolint:exhaustive // the other types are not primitive
	case avro.Boolean:
		return wireBool
	case avro.Int:
		return wireInt
	case avro.Long:
		return wireLong
	case avro.Float:
		return wireFloat
	case avro.Double:
		return wireDouble
	case avro.Bytes:
		return wireBytes
	case avro.String:
		return wireString
	}
	return wireNull
}

func (r *resolver) primitive(n *node, w, s avro.Schema) error {
	n.text = s.Type() == avro.String
	switch {
	case s.Type() == avro.Float && n.wire != wireFloat:
		n.meaning = meansFloat
		return nil
	case s.Type() == avro.Double && n.wire != wireDouble:
		n.meaning = meansDouble
		return nil
	}
	return r.logical(n, w, s)
}

func (r *resolver) enum(n *node, w *avro.EnumSchema, s avro.Schema) error {
	n.wire = wireEnum
	to, ok := s.(*avro.EnumSchema)
	if !ok {
		return errors.New("an enum's reader is no enum")
	}
	for _, symbol := range w.Symbols() {
		if !slices.Contains(to.Symbols(), symbol) {
			symbol = to.Default() // "" is none: no symbol is empty
		}
		n.symbols = append(n.symbols, symbol)
	}
	return nil
}

func (r *resolver) item(n *node, w, s avro.Schema) (err error) {
	switch s := s.(type) {
	case *avro.ArraySchema:
		n.item, err = r.pair(w, s.Items())
	case *avro.MapSchema:
		n.item, err = r.pair(w, s.Values())
	}
	return err
}

func (r *resolver) record(n *node, w *avro.RecordSchema, s avro.Schema) error {
	n.wire = wireRecord
	to, ok := s.(*avro.RecordSchema)
	if !ok {
		return errors.New("a record's reader is no record")
	}
	taken := map[*avro.Field]bool{}
	for _, from := range w.Fields() {
		field := fieldFor(from, to, taken)
		f := nodeField{}
		target := from.Type()
		if field != nil {
			taken[field] = true
			f.name, target = field.Name(), field.Type()
		}
		var err error
		if f.node, err = r.pair(from.Type(), target); err != nil {
			return err
		}
		n.fields = append(n.fields, f)
	}
	for _, field := range to.Fields() {
		if taken[field] {
			continue
		}
		if err := r.absent(n, field); err != nil {
			return err
		}
	}
	return nil
}

// fieldFor finds the reader's field for a writer's: by its name, else by an alias.
func fieldFor(from *avro.Field, to *avro.RecordSchema, taken map[*avro.Field]bool) *avro.Field {
	for _, f := range to.Fields() {
		if f.Name() == from.Name() {
			return f
		}
	}
	for _, f := range to.Fields() {
		if !taken[f] && slices.Contains(f.Aliases(), from.Name()) {
			return f
		}
	}
	return nil
}

// absent adds a field that the writer does not have.
func (r *resolver) absent(n *node, field *avro.Field) error {
	if !field.HasDefault() {
		n.refused = fmt.Sprintf("the writer's %s has no field %q, and the reader's no default for it", n.name, field.Name())
		return nil
	}
	value, err := appendDefault(nil, field.Type(), field.Default())
	if err != nil {
		return fmt.Errorf("the default of %q: %w", field.Name(), err)
	}
	d := defaultField{name: field.Name(), value: value}
	d.node, err = r.pair(field.Type(), field.Type())
	n.absent = append(n.absent, d)
	return err
}
