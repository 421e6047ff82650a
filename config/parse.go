package config

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2/unstable"
)

// Limits of a file: a config is written by people, and what is beyond these is not a config. They bound the memory and the
// stack that a file can cost.
const (
	fileBytesMax = 1 << 20
	depthMax     = 32
)

// builder makes the tree of one document from the parser's expressions. Errors go to the file's list and the work goes on.
type builder struct {
	file *File
	doc  []byte
	// base is the offset in doc at which the parser's input begins.
	base int
	root *node
	// table receives key-values; nil while the current header is broken. path is its full name.
	table *node
	path  string
}

// build parses the file's document. Whatever is wrong with it, the tree holds what could be understood.
func (f *File) build(doc []byte) {
	f.root = newTable(originHeader, 0)
	if !f.readable(doc) {
		f.damaged = true
		return
	}
	b := builder{file: f, doc: doc, root: f.root, table: f.root}
	var parser unstable.Parser
	parser.Reset(doc)
	end := 0 // where the last good expression ends
	for {
		for parser.NextExpression() {
			end = max(end, b.expression(parser.Expression()))
		}
		var broken *unstable.ParserError
		if !errors.As(parser.Error(), &broken) {
			return
		}
		start := b.nextStart(end)
		at := cap(doc) - cap(broken.Highlight)
		b.syntax(start, at, broken.Message)
		b.base = b.resume(start, at, broken.Message)
		end = b.base
		parser.Reset(doc[b.base:])
	}
}

// readable refuses what can't be TOML as a whole.
func (f *File) readable(doc []byte) bool {
	if len(doc) > fileBytesMax {
		f.report(0, Error{
			Message: fmt.Sprintf("the file has %d bytes", len(doc)), Expected: "at most " + Bytes(fileBytesMax).String(),
		})
		return false
	}
	for i := 0; i < len(doc); {
		r, size := utf8.DecodeRune(doc[i:])
		if r == utf8.RuneError && size == 1 {
			f.report(i, Error{Message: fmt.Sprintf("byte 0x%02x is not UTF-8", doc[i]), Hint: "save the file as UTF-8"})
			return false
		}
		i += size
	}
	return true
}

// expression adds one top-level expression to the tree and returns the offset where it ends.
func (b *builder) expression(n *unstable.Node) int {
	var path []part
	for it := n.Key(); it.Next(); {
		path = append(path, b.part(it.Node()))
	}
	last := path[len(path)-1]
	if len(path) > depthMax {
		b.file.report(path[0].at, Error{Message: "the key is nested too deeply", Expected: fmt.Sprintf("at most %d parts", depthMax)})
		if n.Kind != unstable.KeyValue {
			b.table = nil
		}
		return last.end
	}
	switch n.Kind { //nolint:exhaustive // the parser gives no other top-level expressions
	case unstable.Table:
		b.table, b.path = b.header(path)
	case unstable.ArrayTable:
		b.table, b.path = b.arrayHeader(path)
	default:
		end := b.base + int(n.Raw.Offset+n.Raw.Length)
		if b.table != nil {
			b.keyValue(b.table, b.path, path, n.Value(), 1)
		}
		return end
	}
	return last.end
}

// part is one part of a dotted key.
type part struct {
	name    string
	at, end int
}

func (b *builder) part(n *unstable.Node) part {
	at := b.base + int(n.Raw.Offset)
	return part{name: string(n.Data), at: at, end: at + int(n.Raw.Length)}
}

// header finds or makes the table of a [header], and its full name; nil if the name is taken.
func (b *builder) header(path []part) (*node, string) {
	parent, name := b.ancestors(path)
	if parent == nil {
		return nil, ""
	}
	last := path[len(path)-1]
	name = join(name, last.name)
	table := parent.get(last.name)
	if table == nil {
		table = newTable(originHeader, last.at)
		parent.set(last.name, table)
		return table, name
	}
	if table.form == formTable && table.origin == originImplicit {
		table.origin, table.key, table.at = originHeader, last.at, last.at
		return table, name
	}
	b.taken(last, name, table)
	if table.form == formTable && table.origin == originHeader {
		return table, name // so that the keys below the second header are checked too
	}
	return nil, ""
}

// arrayHeader appends a table to the array of a [[header]] and gives its full name; nil if the name is taken.
func (b *builder) arrayHeader(path []part) (*node, string) {
	parent, name := b.ancestors(path)
	if parent == nil {
		return nil, ""
	}
	last := path[len(path)-1]
	name = join(name, last.name)
	array := parent.get(last.name)
	if array == nil {
		array = &node{form: formArray, origin: originTables, key: last.at, at: last.at}
		parent.set(last.name, array)
	}
	if array.origin != originTables {
		b.taken(last, name, array)
		return nil, ""
	}
	table := newTable(originHeader, last.at)
	array.items = append(array.items, table)
	return table, indexed(name, len(array.items)-1)
}

// ancestors finds or makes the table that a header's leading parts name, and its full name; nil if one of them is something
// else.
func (b *builder) ancestors(path []part) (*node, string) {
	table, name := b.root, ""
	for _, p := range path[:len(path)-1] {
		next := table.get(p.name)
		name = join(name, p.name)
		switch {
		case next == nil:
			next = newTable(originImplicit, p.at)
			table.set(p.name, next)
		case next.origin == originTables:
			last := len(next.items) - 1
			next, name = next.items[last], indexed(name, last)
		case next.form != formTable || next.origin == originValue:
			b.taken(p, name, next)
			return nil, ""
		}
		table = next
	}
	return table, name
}

// keyValue sets a key of the table called name. depth counts the tables and arrays around it.
func (b *builder) keyValue(table *node, name string, path []part, value *unstable.Node, depth int) {
	last := path[len(path)-1]
	for _, p := range path[:len(path)-1] {
		next := table.get(p.name)
		name = join(name, p.name)
		if next == nil {
			next = newTable(originDotted, p.at)
			table.set(p.name, next)
		}
		if next.origin != originDotted {
			b.taken(p, name, next)
			return
		}
		table = next
	}
	name = join(name, last.name)
	if first := table.get(last.name); first != nil {
		b.taken(last, name, first)
		return
	}
	n := b.value(value, name, b.afterEquals(last.end), depth+len(path))
	n.key = last.at
	table.set(last.name, n)
}

// afterEquals returns the offset of the value of a key that ends at end.
func (b *builder) afterEquals(end int) int {
	rest := bytes.TrimLeft(b.doc[end:], " \t")
	rest = bytes.TrimLeft(bytes.TrimPrefix(rest, []byte("=")), " \t")
	return len(b.doc) - len(rest)
}

// value makes the node of the value called name. The parser gives no place for an array: at is used, or a value within.
func (b *builder) value(v *unstable.Node, name string, at, depth int) *node {
	if v.Raw.Length > 0 {
		at = b.base + int(v.Raw.Offset)
	}
	n := &node{form: formOf(v.Kind), text: string(v.Data), key: at, at: at}
	if n.form != formTable && n.form != formArray {
		return n
	}
	n.text = ""
	if depth > depthMax {
		b.file.report(at, Error{Message: "the value is nested too deeply", Expected: fmt.Sprintf("at most %d levels", depthMax)})
		return n
	}
	for it := v.Children(); it.Next(); {
		child := it.Node()
		if n.form == formArray {
			item := b.value(child, indexed(name, len(n.items)), b.within(child, at), depth+1)
			n.items = append(n.items, item)
			continue
		}
		var path []part
		for keys := child.Key(); keys.Next(); {
			path = append(path, b.part(keys.Node()))
		}
		if len(path) > depthMax {
			b.file.report(path[0].at, Error{Message: "the key is nested too deeply", Expected: fmt.Sprintf("at most %d parts", depthMax)})
			continue
		}
		b.keyValue(n, name, path, child.Value(), depth)
	}
	return n
}

func formOf(kind unstable.Kind) form {
	switch kind {
	case unstable.InlineTable, unstable.Table, unstable.ArrayTable, unstable.KeyValue:
		return formTable
	case unstable.Array:
		return formArray
	case unstable.String, unstable.Key, unstable.Comment, unstable.Invalid:
		return formString
	case unstable.Integer:
		return formInteger
	case unstable.Float:
		return formFloat
	case unstable.Bool:
		return formBool
	case unstable.DateTime:
		return formTime
	case unstable.LocalDate, unstable.LocalTime, unstable.LocalDateTime:
		return formLocalTime
	}
	return formString
}

// within returns the place of the first value in an array, or other if it has none.
func (b *builder) within(v *unstable.Node, other int) int {
	for ; v.Valid(); v = v.Child() {
		if v.Raw.Length > 0 {
			return b.base + int(v.Raw.Offset)
		}
	}
	return other
}

// taken reports that the key called name can't be set, because it was set before.
func (b *builder) taken(last part, name string, first *node) {
	line := strconv.Itoa(b.file.place(first.key).Line)
	message := "the key is already set in line " + line
	if first.form == formTable || first.origin == originTables {
		message = "the table is already defined in line " + line
	}
	b.file.report(last.at, Error{Key: name, Message: message})
}
