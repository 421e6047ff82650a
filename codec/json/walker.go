package json

import "bytes"

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
	end := start + 1 + bytes.IndexByte(w.data[start+1:], '"')
	if bytes.IndexByte(w.data[start+1:end], '\\') < 0 {
		w.at = end + 1
		return w.data[start:w.at], false
	}
	for end = start + 1; w.data[end] != '"'; end++ {
		if w.data[end] == '\\' {
			end++
		}
	}
	w.at = end + 1
	return w.data[start:w.at], true
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
