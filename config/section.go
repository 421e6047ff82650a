package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Section is one table of a file that is checked but not yet typed: what a plugin gets to make its settings from. Like its
// file it must be used by one goroutine at a time.
type Section struct {
	file *File
	node *node
	path string
	typ  string
	// also names the keys that the pipeline, not the plugin, reads from this table.
	also []string
}

// ParseSection parses a document whose top-level keys are the section: for tests and for programs that embed a plugin.
// name stands in the errors and in the paths of keys.
func ParseSection(name string, data []byte, env Env) *Section {
	f := Parse(name, data, env)
	selector := typeKey
	if f.root.get(storeKey) != nil && f.root.get(typeKey) == nil {
		selector = storeKey
	}
	return &Section{file: f, node: f.root, also: []string{selector}, typ: f.root.get(selector).textOr("")}
}

// Type is the plugin that the section is for: the value of its key type, or store.
func (s *Section) Type() string { return s.typ }

// Path is the full name of the section, such as pipeline.orders.source; empty for a whole document.
func (s *Section) Path() string { return s.path }

// Decode checks the section against spec and stores its values and the defaults of absent keys in the struct that into
// points to, by the tags `config:"name"`. A nil into only checks. All errors go to the file's list (see [Section.Err]);
// Decode returns whether it found none, in which case the struct is complete. It may be called again: the same errors are
// not listed twice.
func (s *Section) Decode(spec Spec, into any) bool {
	d := decoding{file: s.file, ok: true}
	t, err := targetOf(into)
	if err != nil {
		d.fail(s.node.key, s.path, &Error{Message: err.Error()})
		return false
	}
	d.table(s.node, s.path, &spec, t, s.also)
	return d.ok
}

// Errorf reports an error at a key, for what a spec can't say: keys that exclude each other, a pattern that does not
// compile. key is a name in this section, a dotted path with indexes below it ("tls.key_file", "topics[2]", and for a free key
// with dots "columns.user.id" or columns."user.id"), or "" for the section itself; if it is absent the place is that of the
// table which lacks it. The text must not hold a secret.
func (s *Section) Errorf(key, format string, args ...any) {
	n, _ := s.find(key)
	path := s.path
	if key != "" && path != "" {
		path += "."
	}
	s.file.report(n.key, Error{Key: path + key, Message: fmt.Sprintf(format, args...)})
}

// Pos returns the place of a key, given as in [Section.Errorf]; of the table that lacks it, if it is absent.
func (s *Section) Pos(key string) Pos {
	n, _ := s.find(key)
	return s.file.place(n.key)
}

// Has reports whether the file has a key, given as in [Section.Errorf].
func (s *Section) Has(key string) bool {
	_, found := s.find(key)
	return found
}

// Err returns the errors found so far in this section as [Errors], or nil.
func (s *Section) Err() error {
	if errs := s.file.problems.sorted(s.path, s.file.place); len(errs) > 0 {
		return errs
	}
	return nil
}

// find follows a path of keys and indexes. It returns the deepest node that exists and whether it is the end of the path.
func (s *Section) find(key string) (*node, bool) {
	return s.node.find(key)
}

func (n *node) find(path string) (*node, bool) {
	path = strings.TrimPrefix(path, ".")
	if path == "" {
		return n, true
	}
	if index, rest, ok := strings.Cut(path, "]"); ok && strings.HasPrefix(index, "[") {
		if i, err := strconv.Atoi(index[1:]); err == nil && i >= 0 && i < len(n.items) {
			return n.items[i].find(rest)
		}
		return n, false
	}
	// A key may hold dots itself, so the longest that exists counts.
	for end := len(path); end > 0; end = strings.LastIndexAny(path[:end], ".[") {
		if next := n.get(unquote(path[:end])); next != nil {
			return next.find(path[end:])
		}
	}
	return n, false
}

// textOr returns the content of a string node, or other if n is none.
func (n *node) textOr(other string) string {
	if n == nil || n.form != formString {
		return other
	}
	return n.text
}
