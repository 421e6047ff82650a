package file

import "bytes"

// line is a line in a buffer, without its end.
type line struct {
	start, end int
	next       int // where the next line begins
}

// nextLine finds the line that begins at from. With last, what is left without a line feed is a line, too, unless it is empty.
func nextLine(buf []byte, from int, last bool) (line, bool) {
	n := bytes.IndexByte(buf[from:], '\n')
	switch {
	case n >= 0:
		return line{from, from + n, from + n + 1}, true
	case last && from < len(buf):
		return line{from, len(buf), len(buf)}, true
	}
	return line{}, false
}

// trim drops a carriage return before the line feed.
func (l line) trim(buf []byte) line {
	if l.next > l.end && l.end > l.start && buf[l.end-1] == '\r' {
		l.end--
	}
	return l
}
