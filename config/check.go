package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// CheckSpec says what is wrong between a spec and the settings struct that into points to; nil: nothing. Every plugin calls
// it in a test. It checks that each key has a documented, well-formed entry and a field that can hold it, that each tagged
// field has a key, and that defaults, limits, choices and examples are values that the key itself accepts.
func CheckSpec(spec Spec, into any) error {
	t, err := targetOf(into)
	if err != nil {
		return err
	}
	if !t.value.IsValid() {
		return errors.New("there is no settings struct")
	}
	c := checking{}
	c.spec(&spec, t.value.Type(), "")
	if spec.Doc == "" {
		c.add("", "the spec has no Doc")
	}
	return errors.Join(c.errs...)
}

// checking collects what is wrong with a spec.
type checking struct {
	errs []error
}

func (c *checking) add(path, format string, args ...any) {
	err := fmt.Errorf(format, args...)
	if path != "" {
		err = fmt.Errorf("%s: %w", path, err)
	}
	c.errs = append(c.errs, err)
}

func (c *checking) spec(spec *Spec, row reflect.Type, path string) {
	seen := make(map[string]bool)
	for i := range spec.Keys {
		k := &spec.Keys[i]
		where := join(path, k.Name)
		if seen[k.Name] {
			c.add(where, "the key is there twice")
		}
		seen[k.Name] = true
		if path == "" && spec.Type != "" && (k.Name == typeKey || k.Name == storeKey) {
			c.add(where, "the key is taken: it selects the plugin")
		}
		c.form(k, where)
		c.values(k, where)
		c.field(k, row, where)
	}
	c.tags(spec, row, path)
}

// form checks what does not depend on values.
func (c *checking) form(k *Key, path string) {
	if k.Name == "" || strings.Trim(k.Name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" || k.Name[0] < 'a' {
		c.add(path, "the name is not in lower snake case")
	}
	if k.Kind < KindString || k.Kind > KindSection {
		c.add(path, "the kind %d is unknown", k.Kind)
	}
	if k.Doc == "" {
		c.add(path, "the key has no Doc")
	}
	if (len(k.Enum) > 0) != (k.Kind == KindEnum) {
		c.add(path, "Enum belongs to KindEnum and must not be empty there")
	}
	if (k.Table != nil) != (k.Kind == KindTable || k.Kind == KindTables || k.Kind == KindTableMap) {
		c.add(path, "Table belongs to KindTable, KindTables and KindTableMap and must be set there")
	}
	if k.Short != "" && (k.Kind != KindTableMap || !k.hasScalar(k.Short)) {
		c.add(path, "Short belongs to KindTableMap and names a key of its Table that is no table or array")
	}
	if k.Required && k.Default != "" {
		c.add(path, "a required key has no default")
	}
}

// hasScalar reports whether the table of k has a key of that name whose value is no table or array.
func (k *Key) hasScalar(name string) bool {
	return k.Table != nil && slices.ContainsFunc(k.Table.Keys, func(in Key) bool {
		return in.Name == name && in.Table == nil && in.Kind != KindStrings && in.Kind != KindStringMap && in.Kind != KindIntMap
	})
}

// values checks Min, Max, Default, Enum and what the example shows.
func (c *checking) values(k *Key, path string) {
	unbounded := *k
	unbounded.Min, unbounded.Max = "", ""
	for _, bound := range []string{k.Min, k.Max} {
		if bound == "" {
			continue
		}
		if err := c.bound(&unbounded, bound); err != nil {
			c.add(path, "the limit %s: %w", bound, err)
		}
	}
	if k.Default != "" {
		if err := accepts(k, k.Default); err != nil {
			c.add(path, "the default %s: %w", k.Default, err)
		}
	}
	if k.Table == nil {
		if err := accepts(k, k.literal(k.shownValue())); err != nil {
			c.add(path, "what the example shows, %s (set Example to another value): %w", k.literal(k.shownValue()), err)
		}
	}
}

// bound checks that a limit is a value of the kind, or a number where it limits a length.
func (*checking) bound(k *Key, text string) error {
	length := *k
	switch k.Kind {
	case KindString, KindStrings, KindSecret, KindStringMap:
		length.Kind = KindInt
	case KindIntMap:
		length.Kind = KindInt
	case KindInt, KindFloat, KindDuration, KindBytes, KindTime:
	case KindBool, KindEnum, KindTable, KindTables, KindTableMap, KindSection:
		return fmt.Errorf("the kind %s has no limits", k.Kind)
	}
	return accepts(&length, text)
}

// accepts decodes a value as the spec writes it.
func accepts(k *Key, text string) error {
	n, err := parseLiteral(k, text)
	if err != nil {
		return err
	}
	f := Parse("spec", nil, Env{Lookup: func(string) (string, bool) { return "x", true }})
	d := decoding{file: f, ok: true}
	d.value(n, k.Name, k, target{})
	return f.Err()
}

// field checks the field that holds the key.
func (c *checking) field(k *Key, row reflect.Type, path string) {
	index := fieldIndex(row, k.Name)
	if index == nil {
		c.add(path, "no exported field of %s has the tag `%s:%q`", row, tagName, k.Name)
		return
	}
	t := row.FieldByIndex(index).Type
	if why := k.fits(t); why != "" {
		c.add(path, "%s", why)
		return
	}
	if k.Table != nil && (k.Kind == KindTable || k.Kind == KindTables || k.Kind == KindTableMap) {
		c.spec(k.Table, rowOf(t), path)
	}
	for _, text := range k.Enum {
		if k.Kind != KindEnum {
			break // reported already; the field may hold no string at all
		}
		if err := (target{value: reflect.New(t).Elem()}).store(text); err != nil {
			c.add(path, "the field refuses %q: %w", text, err)
		}
	}
}

// rowOf returns the struct within a slice, map or pointer.
func rowOf(t reflect.Type) reflect.Type {
	for t.Kind() != reflect.Struct {
		t = t.Elem()
	}
	return t
}

// tags checks that each tagged field has a key.
func (c *checking) tags(spec *Spec, row reflect.Type, path string) {
	for f := range row.Fields() {
		tag, tagged := f.Tag.Lookup(tagName)
		switch {
		case !tagged && f.Anonymous && f.Type.Kind() == reflect.Struct:
			c.tags(spec, f.Type, path)
		case !tagged || tag == keyTag:
		case spec.key(tag) == nil:
			c.add(join(path, tag), "the field %s.%s has this tag, but the spec has no such key", row, f.Name)
		}
	}
}
