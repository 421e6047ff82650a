package config

import (
	"bytes"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"
)

// File is one parsed config file with everything that was found wrong with it so far. It must be used by one goroutine at a
// time, with its sections.
type File struct {
	name     string
	env      Env
	root     *node
	lines    []int // offsets at which the lines begin
	doc      []byte
	problems problems
	// damaged is set by an error of syntax: what is missing may stand in the broken part, so it is not called missing.
	damaged bool
}

// Parse reads a document. It copies data. name stands in the errors; relative paths in ${file:PATH} are relative to its
// folder. The result is never nil; errors, of syntax too, are in [File.Err].
func Parse(name string, data []byte, env Env) *File {
	doc := bytes.Clone(bytes.TrimPrefix(data, []byte("\ufeff")))
	f := &File{name: name, env: env, doc: doc, lines: []int{0}}
	for i, c := range doc {
		if c == '\n' {
			f.lines = append(f.lines, i+1)
		}
	}
	f.build(doc)
	return f
}

// Load reads the file at path with env.ReadFile and parses it. The error is an [*Error] and says that the file can't be read;
// what is wrong inside is in [File.Err].
func Load(path string, env Env) (*File, error) {
	data, err := env.read(path)
	if err != nil {
		return nil, &Error{File: path, Message: "the file can't be read: " + reason(err), Hint: "check the path and the permissions"}
	}
	return Parse(path, data, env), nil
}

// Err returns all errors found so far as [Errors], sorted by place, or nil. It is complete when [File.Daemon],
// [File.Pipelines] and the plugins' own checks have run.
func (f *File) Err() error {
	if errs := f.problems.sorted("", f.place); len(errs) > 0 {
		return errs
	}
	return nil
}

// report adds an error at an offset; a negative offset is no place.
func (f *File) report(offset int, e Error) {
	e.File = f.name
	f.problems.add(offset, e)
}

// place turns an offset into a line and a column in characters.
func (f *File) place(offset int) Pos {
	line := max(sort.SearchInts(f.lines, offset+1), 1)
	begin := f.lines[line-1]
	return Pos{Line: line, Column: utf8.RuneCount(f.doc[begin:max(begin, min(offset, len(f.doc)))]) + 1}
}

// keyText writes a key as TOML does: bare if it can be.
func keyText(name string) string {
	if name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == "" {
		return name
	}
	return quote(name)
}

// indexed appends an index to a path.
func indexed(path string, index int) string {
	return path + "[" + strconv.Itoa(index) + "]"
}

// join appends a key to a path.
func join(path, name string) string {
	if path == "" {
		return keyText(name)
	}
	return path + "." + keyText(name)
}
