package config

import (
	"fmt"
	"reflect"
	"slices"
)

// decoding checks one section against specs and stores what it finds.
type decoding struct {
	file *File
	ok   bool
}

// fail reports an error of the key at path.
func (d *decoding) fail(offset int, path string, e *Error) {
	d.ok = false
	e.Key = path
	d.file.report(offset, *e)
}

// table checks every key of the table n, which stands at path, and stores the values in into. also names keys that are
// known to somebody else.
func (d *decoding) table(n *node, path string, spec *Spec, into target, also []string) {
	n.plain = true
	for _, f := range n.fields {
		if spec.key(f.name) == nil && !slices.Contains(also, f.name) {
			known := append(spec.names(), also...)
			d.fail(f.value.key, join(path, f.name), &Error{Message: "unknown key", Hint: didYouMean(f.name, known)})
		}
	}
	for i := range spec.Keys {
		k := &spec.Keys[i]
		dst := into.field(k.Name)
		if dst.value.IsValid() {
			if why := k.fits(dst.value.Type()); why != "" {
				d.fail(n.key, join(path, k.Name), &Error{Message: "defect in the plugin: " + why})
				dst = target{}
			}
		}
		d.key(n, join(path, k.Name), k, dst)
	}
}

// key checks and stores one key of the table n, or its default.
func (d *decoding) key(n *node, path string, k *Key, into target) {
	value := n.get(k.Name)
	switch {
	case value != nil:
		d.value(value, path, k, into)
	case k.Required && n.origin == originAbsent: // only a table that is there must have its keys
	case k.Required && !d.file.damaged:
		d.fail(n.key, path, &Error{Message: "the key is missing", Expected: k.expected()})
	case k.Default != "":
		d.fallback(n, path, k, into)
	case k.Kind == KindTable:
		d.table(newTable(originAbsent, n.key), path, k.table(), into, nil)
	}
}

// fallback stores the default. A spec whose default does not parse is a defect of the plugin that CheckSpec finds; here it
// is reported as one.
func (d *decoding) fallback(n *node, path string, k *Key, into target) {
	value, err := parseLiteral(k, k.Default)
	if err != nil {
		d.fail(n.key, path, &Error{Message: "defect in the plugin: its default does not parse: " + err.Error()})
		return
	}
	value.key, value.at = n.key, n.at
	d.value(value, path, k, into)
}

// value checks and stores one value.
func (d *decoding) value(n *node, path string, k *Key, into target) {
	switch k.Kind {
	case KindStrings:
		d.strings(n, path, k, into)
	case KindTable:
		if d.form(n, path, k, formTable) {
			d.table(n, path, k.table(), into.present(), nil)
		}
	case KindTables:
		d.tables(n, path, k, into)
	case KindStringMap, KindIntMap:
		d.scalarMap(n, path, k, into)
	case KindTableMap:
		d.tableMap(n, path, k, into)
	case KindSection:
		d.section(n, path, k, into)
	case KindString, KindInt, KindFloat, KindBool, KindDuration, KindBytes, KindTime, KindSecret, KindEnum:
		value, err := d.file.scalar(k, n)
		if err != nil {
			d.fail(n.at, path, err)
			return
		}
		d.store(n, path, into, value)
	}
}

// store puts a value into the field.
func (d *decoding) store(n *node, path string, into target, value any) {
	if err := into.store(value); err != nil {
		d.fail(n.at, path, &Error{Message: err.Error()})
	}
}

// form reports whether n has the form that k takes, after an error if not.
func (d *decoding) form(n *node, path string, k *Key, want form) bool {
	if n.form != want {
		d.fail(n.at, path, &Error{Message: k.found(n), Expected: k.expected(), Hint: k.remedy(n)})
		return false
	}
	n.plain = true
	return true
}

func (d *decoding) strings(n *node, path string, k *Key, into target) {
	if !d.form(n, path, k, formArray) {
		return
	}
	element := Key{Kind: KindString, Required: k.Required}
	list, good := make([]string, 0, len(n.items)), true
	for i, item := range n.items {
		value, err := d.file.scalar(&element, item)
		if err != nil {
			d.fail(item.at, indexed(path, i), err)
			good = false
			continue
		}
		text, isString := value.(string)
		good = good && isString
		list = append(list, text)
	}
	if !good {
		return
	}
	if k.Required && len(list) == 0 {
		d.fail(n.at, path, &Error{Message: "the array is empty", Expected: k.expected()})
		return
	}
	if err := k.limit(list); err != nil {
		d.fail(n.at, path, err)
		return
	}
	d.store(n, path, into, list)
}

func (d *decoding) tables(n *node, path string, k *Key, into target) {
	if !d.form(n, path, k, formArray) {
		return
	}
	rows := into.rows(len(n.items))
	for i, item := range n.items {
		where := indexed(path, i)
		if item.form != formTable {
			d.fail(item.at, where, &Error{Message: k.found(item), Expected: "a table"})
			continue
		}
		d.table(item, where, k.table(), rows(i), nil)
	}
}

func (d *decoding) scalarMap(n *node, path string, k *Key, into target) {
	if !d.form(n, path, k, formTable) {
		return
	}
	element := Key{Kind: KindString, Min: k.Min, Max: k.Max}
	if k.Kind == KindIntMap {
		element.Kind = KindInt
	}
	entries := make([]entry, 0, len(n.fields))
	for _, f := range n.fields {
		value, err := d.file.scalar(&element, f.value)
		if err != nil {
			if f.value.form == formTable {
				err.Hint = "a key with dots needs quotes: \"a.b\""
			}
			d.fail(f.value.at, join(path, f.name), err)
			continue
		}
		entries = append(entries, entry{key: f.name, value: value, pos: d.file.place(f.value.key)})
	}
	into.storeMap(entries)
}

// section takes a plugin's table as it is; whoever knows the plugin checks the rest.
func (d *decoding) section(n *node, path string, k *Key, into target) {
	if !d.form(n, path, k, formTable) {
		return
	}
	d.key(n, join(path, typeKey), &Key{Name: typeKey, Kind: KindString, Required: true}, target{})
	if into.value.IsValid() {
		into.value.Set(reflect.ValueOf(&Section{file: d.file, node: n, path: path, typ: n.get(typeKey).textOr(""), also: []string{typeKey}}))
	}
}

// entry is one key of a free table, already read.
type entry struct {
	key   string
	value any
	pos   Pos
}

func (d *decoding) tableMap(n *node, path string, k *Key, into target) {
	if !d.form(n, path, k, formTable) {
		return
	}
	put := into.namedRows(len(n.fields))
	for i, f := range n.fields {
		where := join(path, f.name)
		table, ok := k.long(f.value)
		if !ok {
			d.fail(f.value.at, where, &Error{Message: k.found(f.value), Expected: k.row()})
			continue
		}
		row, done := put(i, f.name)
		d.table(table, where, k.table(), row, nil)
		done()
	}
}

// long returns the table that a value of a KindTableMap stands for; ok is false when it is neither a table nor the short form.
func (k *Key) long(n *node) (table *node, ok bool) {
	if n.form == formTable {
		return n, true
	}
	if k.Short == "" || n.form == formArray {
		return nil, false
	}
	table = newTable(n.origin, n.key)
	table.set(k.Short, n)
	return table, true
}

// row names what a value of a KindTableMap may be.
func (k *Key) row() string {
	if k.Short == "" {
		return "a table"
	}
	return fmt.Sprintf("a table, or its %s alone", k.Short)
}

// parseLiteral reads a value as a spec writes it: TOML, with the quotes around strings, durations and sizes left out or not.
func parseLiteral(k *Key, text string) (*node, error) {
	if k.bare() && (text == "" || text[0] != '"') {
		return &node{form: formString, text: text}, nil
	}
	f := Parse("", []byte("value = "+text), Env{})
	if err := f.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", text, err)
	}
	return f.root.get("value"), nil
}

// bare reports whether a spec may leave out the quotes.
func (k *Key) bare() bool {
	switch k.Kind {
	case KindString, KindDuration, KindBytes, KindTime, KindSecret, KindEnum:
		return true
	case KindStrings, KindInt, KindFloat, KindBool, KindTable, KindTables, KindStringMap, KindIntMap, KindTableMap, KindSection:
	}
	return false
}
