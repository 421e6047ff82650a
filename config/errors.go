package config

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Pos is a place in a file: the line and the column, both counted from 1, the column in characters. The zero Pos is no place.
type Pos struct {
	Line, Column int
}

// Error is one thing that is wrong in a file. A person must act; starting again does not help.
type Error struct {
	// File is the name of the file as it was given to Parse or Load.
	File string `json:"file"`
	// Line and Column tell the place, both from 1; zero when there is none (the file can't be read).
	Line   int `json:"line"`
	Column int `json:"column"`
	// Key is the full path of the key, such as pipeline.orders.source.brokers; empty for an error of syntax.
	Key string `json:"key,omitempty"`
	// Message says what is wrong. It never holds a secret, nor what a ${env:NAME} or ${file:PATH} stands for.
	Message string `json:"message"`
	// Expected says what would be right; it may be empty.
	Expected string `json:"expected,omitempty"`
	// Hint says what to do; it may be empty.
	Hint string `json:"hint,omitempty"`
}

// Error gives the error in one line: my.toml:12:3: pipeline.orders.source.brokrs: unknown key; did you mean "brokers"?
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		b.WriteString(":" + strconv.Itoa(e.Line) + ":" + strconv.Itoa(e.Column))
	}
	b.WriteString(": ")
	if e.Key != "" {
		b.WriteString(e.Key + ": ")
	}
	b.WriteString(e.Message)
	if e.Expected != "" {
		b.WriteString("; expected " + e.Expected)
	}
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	return b.String()
}

// Errors are all errors of one file, sorted by place. It is never empty where it is returned as an error.
type Errors []*Error

// Error gives one error per line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the single errors, so that errors.As finds an *Error.
func (e Errors) Unwrap() []error {
	list := make([]error, len(e))
	for i := range e {
		list[i] = e[i]
	}
	return list
}

// problemsMax bounds the list of a hopeless file (a megabyte of nonsense has hundreds of thousands of errors); a person does
// not read further.
const problemsMax = 500

// problem is an Error with the offset that it is sorted by; its place is computed from it.
type problem struct {
	offset int
	err    Error
}

// problems collects what is wrong with a file. Each finding counts once, however often a section is decoded.
type problems struct {
	list []problem
	seen map[problem]struct{}
	more bool // there were more than problemsMax
}

func (p *problems) add(offset int, e Error) {
	found := problem{offset: offset, err: e}
	if _, again := p.seen[found]; again {
		return
	}
	if len(p.list) >= problemsMax {
		p.more = true
		return
	}
	if p.seen == nil {
		p.seen = make(map[problem]struct{})
	}
	p.seen[found] = struct{}{}
	p.list = append(p.list, found)
}

// sorted returns the errors whose key lies within path (all, if path is empty), by place, and in the order in which they
// were found where two have the same place.
func (p *problems) sorted(path string, place func(offset int) Pos) Errors {
	list := slices.Clone(p.list)
	slices.SortStableFunc(list, func(a, b problem) int { return cmp.Compare(a.offset, b.offset) })
	var errs Errors
	for i := range list {
		e := list[i].err
		if path != "" && !within(e.Key, path) {
			continue
		}
		if list[i].offset >= 0 {
			pos := place(list[i].offset)
			e.Line, e.Column = pos.Line, pos.Column
		}
		errs = append(errs, &e)
	}
	if p.more && len(errs) > 0 {
		last := *errs[len(errs)-1]
		last.Key, last.Expected, last.Hint = "", "", ""
		last.Message = "too many errors: there are more than the " + strconv.Itoa(problemsMax) + " that are shown"
		errs = append(errs, &last)
	}
	return errs
}

// within reports whether key is path or lies below it.
func within(key, path string) bool {
	rest, ok := strings.CutPrefix(key, path)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}
