package config

import "slices"

// The keys that select a plugin, and the store that is used when none is named.
const (
	typeKey      = "type"
	storeKey     = "store"
	storeDefault = "file"
)

// sections makes the sections of one pipeline.
type sections struct {
	file   *File
	reg    Registry
	parent *node
	path   string
}

// required makes the section of a role that every pipeline has.
func (b *sections) required(role string) *Section {
	if b.parent.get(role) == nil {
		if !b.file.damaged {
			b.file.report(b.parent.key, Error{
				Key: b.path + "." + role, Message: "the table is missing",
				Hint: "add [" + b.path + "." + role + "] with type = one of " + quoteAll(b.reg.types(role)),
			})
		}
		return nil
	}
	return b.table(role, &Spec{}, nil)
}

// sinks makes the sections of [pipeline.NAME.sink], or of [[pipeline.NAME.sink]] for several.
func (b *sections) sinks() []Sink {
	path := b.path + "." + RoleSink
	n := b.parent.get(RoleSink)
	if n == nil {
		b.required(RoleSink)
		return nil
	}
	if n.form != formArray {
		n = &node{form: formArray, items: []*node{n}, key: n.key, at: n.at}
	} else if len(n.items) == 0 {
		b.file.report(n.key, Error{Key: path, Message: "there is no sink in it", Expected: "at least one table"})
	}
	var list []Sink
	for i, item := range n.items {
		at := path
		if n == b.parent.get(RoleSink) {
			at = indexed(path, i)
		}
		if s, ok := b.sink(item, at, list, len(n.items)); ok {
			list = append(list, s)
		}
	}
	return list
}

// sink makes the section of one of so many sinks, behind others.
func (b *sections) sink(n *node, path string, before []Sink, of int) (Sink, bool) {
	var s Sink
	common := sinkSpec()
	if s.Section = b.plugin(n, path, RoleSink, &common, &s); s.Section == nil {
		return s, false
	}
	if when := n.get("when"); when != nil && when.form == formString && s.When == "" {
		b.file.report(when.at, Error{Key: path + ".when", Message: "the condition is empty", Hint: "leave it out: all rows go to the sink then"})
	}
	if n.get("id") == nil {
		if s.ID = SinkID; of > 1 {
			b.file.report(n.key, Error{
				Key: path + ".id", Message: "the key is missing", Expected: "an id for each of several sinks, which stays as it is",
				Hint: "the one that was the only sink before was called " + quote(SinkID) + ": with that id it goes on where it was",
			})
		}
		return s, true
	}
	problem := Error{Key: path + ".id"}
	other := slices.IndexFunc(before, func(o Sink) bool { return o.ID == s.ID })
	switch problem.Message = nameProblem(s.ID); {
	case problem.Message != "":
		problem.Expected = nameExpected
	case s.ID == RoleDeadLetter:
		problem.Message = quote(s.ID) + " is the id of the dead letters' sink"
	case other >= 0:
		problem.Message = "the id " + quote(s.ID) + " is that of " + before[other].Path()
	default:
		return s, true
	}
	b.file.report(n.get("id").at, problem)
	return s, true
}

// table makes the section of an optional role. common are the keys of the table that are not the plugin's; they go to into.
func (b *sections) table(role string, common *Spec, into any) *Section {
	n := b.parent.get(role)
	if n == nil {
		b.common(newTable(originValue, b.parent.key), b.path+"."+role, common, into)
		return nil
	}
	return b.plugin(n, b.path+"."+role, role, common, into)
}

// steps makes the sections of [[pipeline.NAME.step]].
func (b *sections) steps() []*Section {
	n := b.parent.get(RoleStep)
	if n == nil {
		return nil
	}
	d := decoding{file: b.file, ok: true}
	path := b.path + "." + RoleStep
	if !d.form(n, path, &Key{Kind: KindTables}, formArray) {
		return nil
	}
	var list []*Section
	for i, item := range n.items {
		if s := b.plugin(item, indexed(path, i), RoleStep, &Spec{}, nil); s != nil {
			list = append(list, s)
		}
	}
	return list
}

// store makes the section of the checkpoint store: the same table as the checkpoint settings, whose keys go to into.
func (b *sections) store(common *Spec, into any) *Section {
	n := b.parent.get("checkpoint")
	if n == nil {
		n = newTable(originValue, b.parent.key)
	}
	return b.plugin(n, b.path+".checkpoint", RoleStore, common, into)
}

// plain decodes an optional table that has no plugin; nil if it is absent.
func (b *sections) plain(name string, spec *Spec, into any) *Section {
	n := b.parent.get(name)
	if n == nil {
		b.common(newTable(originValue, b.parent.key), join(b.path, name), spec, into)
		return nil
	}
	d := decoding{file: b.file, ok: true}
	if !d.form(n, join(b.path, name), &Key{Kind: KindTable}, formTable) {
		return nil
	}
	s := &Section{file: b.file, node: n, path: join(b.path, name)}
	s.Decode(*spec, into)
	return s
}

// plugin makes the section of one plugin and checks it; nil if it is not known which plugin it is for.
func (b *sections) plugin(n *node, path, role string, common *Spec, into any) *Section {
	d := decoding{file: b.file, ok: true}
	if !d.form(n, path, &Key{Kind: KindTable}, formTable) {
		return nil
	}
	b.common(n, path, common, into)
	selector := typeKey
	if role == RoleStore {
		selector = storeKey
	}
	typ, ok := b.selected(n, path, role, selector)
	if !ok {
		return nil
	}
	s := &Section{file: b.file, node: n, path: path, typ: typ, also: append(common.names(), selector)}
	s.Decode(*b.reg.spec(role, typ), nil)
	return s
}

// common decodes the keys of a plugin's table that are not the plugin's; the plugin's spec judges all others.
func (b *sections) common(n *node, path string, spec *Spec, into any) {
	others := make([]string, len(n.fields))
	for i := range n.fields {
		others[i] = n.fields[i].name
	}
	s := Section{file: b.file, node: n, path: path, also: others}
	s.Decode(*spec, into)
}

// selected returns the plugin that the table n names; false after an error.
func (b *sections) selected(n *node, path, role, selector string) (string, bool) {
	k := Key{Kind: KindEnum, Enum: b.reg.types(role)}
	if len(k.Enum) == 0 {
		b.file.report(n.key, Error{Key: path, Message: "this daemon has no " + roleName(role) + " built in"})
		return "", false
	}
	value := n.get(selector)
	switch {
	case value == nil && role == RoleStore:
		value = &node{form: formString, text: storeDefault, key: n.key, at: n.at}
	case value == nil && b.file.damaged:
		return "", false
	case value == nil:
		b.file.report(n.key, Error{Key: join(path, selector), Message: "the key is missing", Expected: k.expected()})
		return "", false
	}
	if value.form != formString {
		b.file.report(value.at, Error{Key: join(path, selector), Message: k.found(value), Expected: k.expected(), Hint: k.remedy(value)})
		return "", false
	}
	value.plain = true
	if b.reg.spec(role, value.text) != nil {
		return value.text, true
	}
	b.file.report(value.at, Error{
		Key: join(path, selector), Message: "unknown " + roleName(role) + " " + value.shown(), Hint: guess(value.text, k.Enum),
		Expected: k.expected(),
	})
	return "", false
}

// roleName is what a role's plugin is called in a sentence.
func roleName(role string) string {
	switch role {
	case RoleDecode:
		return "decoder"
	case RoleDeadLetter:
		return "dead-letter sink"
	case RoleStore:
		return "checkpoint store"
	}
	return role
}
