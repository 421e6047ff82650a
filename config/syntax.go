package config

import (
	"bytes"
	"strings"
)

// syntax reports a broken expression that begins at start and breaks at offset at.
func (b *builder) syntax(start, at int, message string) {
	b.file.damaged = true
	at = min(max(at, start), len(b.doc))
	e := Error{Message: "TOML syntax: " + message}
	switch {
	case unfinished(message):
		at = start // the place where it begins helps more than the end of the file
	case strings.HasPrefix(message, "unexpected character"):
		e.Hint = "a string needs quotes; true and false are lower case"
	case message == "strings must be quoted":
		e.Hint = `write it in quotes, such as "10s" or "64MiB"`
	}
	if start < len(b.doc) && b.doc[start] == '[' {
		b.table = nil // the keys below a broken header belong to no table that is known
	}
	b.file.report(at, e)
}

// unfinished reports whether the parser met the end of the file inside a value of several lines.
func unfinished(message string) bool {
	return strings.HasSuffix(message, "is incomplete") || strings.HasPrefix(message, "multiline") && strings.Contains(message, "terminated")
}

// nextStart returns where the expression after offset end begins, beyond the rest of its line, empty lines and comments.
func (b *builder) nextStart(end int) int {
	if end > b.base {
		end = b.lineEnd(end)
	}
	for end < len(b.doc) {
		line := b.doc[end:b.lineEnd(end)]
		text := bytes.TrimLeft(line, " \t\r\n")
		if len(text) > 0 && text[0] != '#' {
			return end + len(line) - len(text)
		}
		end += len(line)
	}
	return len(b.doc)
}

// lineEnd returns the offset after the end of the line that holds offset.
func (b *builder) lineEnd(offset int) int {
	if i := bytes.IndexByte(b.doc[offset:], '\n'); i >= 0 {
		return offset + i + 1
	}
	return len(b.doc)
}

// resume returns where parsing goes on after the expression at start broke at offset at: the next line if the expression had
// only one, else the first line, from the broken one on, that looks like a header or a key with a value. It is always beyond
// start.
func (b *builder) resume(start, at int, message string) int {
	if unfinished(message) {
		return len(b.doc)
	}
	at = min(max(at, start), len(b.doc))
	line := bytes.LastIndexByte(b.doc[:at], '\n') + 1
	if line <= start {
		line = b.lineEnd(start)
		_, value, _ := bytes.Cut(b.doc[start:line], []byte("="))
		if !bytes.ContainsAny(value, "[{") && !bytes.Contains(value, []byte(`"""`)) && !bytes.Contains(value, []byte("'''")) {
			return line
		}
	}
	for line < len(b.doc) {
		end := b.lineEnd(line)
		if beginsExpression(b.doc[line:end]) {
			return line
		}
		line = end
	}
	return len(b.doc)
}

// beginsExpression reports whether a line looks like [header], [[header]] or key = value.
func beginsExpression(line []byte) bool {
	text := bytes.TrimLeft(line, " \t")
	brackets := 0
	for brackets < 2 && brackets < len(text) && text[brackets] == '[' {
		brackets++
	}
	text, ok := skipDottedKey(text[brackets:])
	if !ok {
		return false
	}
	if brackets == 0 {
		return bytes.HasPrefix(text, []byte("="))
	}
	rest, closed := bytes.CutPrefix(text, []byte("]]")[:brackets])
	rest = bytes.TrimSpace(rest)
	return closed && (len(rest) == 0 || rest[0] == '#')
}

// skipDottedKey skips a dotted key and the space after it.
func skipDottedKey(text []byte) ([]byte, bool) {
	for {
		text = bytes.TrimLeft(text, " \t")
		rest := bytes.TrimLeft(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
		if len(rest) == len(text) {
			rest = skipQuoted(text)
		}
		if len(rest) == len(text) {
			return nil, false
		}
		text = bytes.TrimLeft(rest, " \t")
		if len(text) == 0 || text[0] != '.' {
			return text, true
		}
		text = text[1:]
	}
}

// skipQuoted skips a string in quotes, without regard to escapes: it only has to be a good guess.
func skipQuoted(text []byte) []byte {
	if len(text) == 0 || (text[0] != '"' && text[0] != '\'') {
		return text
	}
	if end := bytes.IndexByte(text[1:], text[0]); end >= 0 {
		return text[end+2:]
	}
	return text
}
