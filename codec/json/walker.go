package json

import (
	"encoding/binary"
	"math/bits"
)

// walker goes through a text that is known to be one valid JSON value. It checks nothing.
type walker struct {
	data []byte
	at   int
}

// peek goes to the next token that says something, over spaces, commas and colons, and returns its first byte.
func (w *walker) peek() byte {
	for {
		switch c := w.data[w.at]; c {
		case ' ', '\t', '\r', '\n', ',', ':':
			w.at++
		default:
			return c
		}
	}
}

// text takes the string at which the walker stands, with its quotes, and tells whether it has escapes.
func (w *walker) text() (quoted []byte, escaped bool) {
	start := w.at
	for end := start + 1; ; end += 2 {
		end = quoteOrBackslash(w.data, end)
		if w.data[end] == '"' {
			w.at = end + 1
			return w.data[start:w.at], escaped
		}
		escaped = true // and the byte behind the backslash is no end
	}
}

// quoteOrBackslash returns the place of the first quote or backslash from a place on. There must be one.
func quoteOrBackslash(data []byte, at int) int {
	const (
		ones        = 0x0101010101010101
		tops        = 0x8080808080808080
		quotes      = '"' * ones
		backslashes = '\\' * ones
	)
	for ; at+8 <= len(data); at += 8 {
		word := binary.LittleEndian.Uint64(data[at:])
		// A byte is 0 where the word has what is looked for; the lowest top bit that is set marks the first such byte.
		q, b := word^quotes, word^backslashes
		if found := ((q-ones)&^q | (b-ones)&^b) & tops; found != 0 {
			return at + bits.TrailingZeros64(found)/8
		}
	}
	for data[at] != '"' && data[at] != '\\' {
		at++
	}
	return at
}

// plain takes the number, true, false or null at which the walker stands.
func (w *walker) plain() []byte {
	start := w.at
	for w.at < len(w.data) {
		switch w.data[w.at] {
		case ' ', '\t', '\r', '\n', ',', '}', ']':
			return w.data[start:w.at]
		}
		w.at++
	}
	return w.data[start:]
}

// skip goes over a value. If objects and arrays nest deeper in it than room it stops at the bracket that goes too far.
func (w *walker) skip(room int) bool {
	switch w.peek() {
	case '"':
		w.text()
		return true
	case '{', '[':
	default:
		w.plain()
		return true
	}
	depth := 0
	for {
		switch c := w.data[w.at]; c {
		case '"':
			w.text()
			continue
		case '{', '[':
			if depth++; depth > room {
				return false
			}
		case '}', ']':
			depth--
		}
		w.at++
		if depth == 0 {
			return true
		}
	}
}
