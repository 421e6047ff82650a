package clickhouse

import (
	"errors"
	"fmt"
	"strings"
)

// typeText is a type as the server writes it, taken apart: a name, and arguments when it has any.
type typeText struct {
	name string
	args []typeArg
}

// typeArg is one argument: a type, a number (in text), a quoted text, or a quoted text with its number.
type typeArg struct {
	typ    *typeText
	text   string // of a quoted text
	quoted bool
	number string // digits with sign; "" when there is none
}

// typeDepthMax bounds the nesting of what is parsed. The server's own limit is higher than any table needs.
const typeDepthMax = 16

// parseTypeText takes a type's text apart, as system.columns and DESCRIBE print it.
func parseTypeText(text string) (*typeText, error) {
	p := typeParser{rest: text}
	t, err := p.typ(1)
	p.skip()
	if err == nil && p.rest != "" {
		err = fmt.Errorf("unexpected %q", p.rest)
	}
	if err != nil {
		return nil, fmt.Errorf("type %q: %w", text, err)
	}
	return t, nil
}

type typeParser struct{ rest string }

func (p *typeParser) skip() { p.rest = strings.TrimLeft(p.rest, " \n\t") }

// take consumes one character if it is next.
func (p *typeParser) take(c byte) bool {
	p.skip()
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *typeParser) word() string {
	p.skip()
	n := 0
	for n < len(p.rest) && isWord(p.rest[n]) {
		n++
	}
	word := p.rest[:n]
	p.rest = p.rest[n:]
	return word
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func (p *typeParser) typ(depth int) (*typeText, error) {
	if depth > typeDepthMax {
		return nil, fmt.Errorf("it is nested more than %d deep", typeDepthMax)
	}
	t := &typeText{name: p.word()}
	if t.name == "" {
		return nil, fmt.Errorf("a name is missing before %q", p.rest)
	}
	if !p.take('(') {
		return t, nil
	}
	if p.take(')') {
		return t, nil
	}
	for {
		arg, err := p.arg(depth)
		if err != nil {
			return nil, err
		}
		t.args = append(t.args, arg)
		if p.take(')') {
			return t, nil
		}
		if !p.take(',') {
			return nil, fmt.Errorf("a comma or a parenthesis is missing before %q", p.rest)
		}
	}
}

func (p *typeParser) arg(depth int) (typeArg, error) {
	p.skip()
	if p.rest == "" {
		return typeArg{}, errors.New("it ends too early")
	}
	switch c := p.rest[0]; {
	case c == '\'':
		text, err := p.quoted()
		if err != nil {
			return typeArg{}, err
		}
		arg := typeArg{text: text, quoted: true}
		if p.take('=') {
			arg.number, err = p.number()
		}
		return arg, err
	case c == '-' || c >= '0' && c <= '9':
		number, err := p.number()
		return typeArg{number: number}, err
	}
	t, err := p.typ(depth + 1)
	return typeArg{typ: t}, err
}

func (p *typeParser) number() (string, error) {
	p.skip()
	sign := ""
	if p.take('-') {
		sign = "-"
	}
	digits := p.word()
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return "", fmt.Errorf("%q is not a number", sign+digits)
	}
	return sign + digits, nil
}

// quoted reads a text in single quotes with the server's escapes.
func (p *typeParser) quoted() (string, error) {
	var b strings.Builder
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; c {
		case '\'':
			p.rest = p.rest[i+1:]
			return b.String(), nil
		case '\\':
			i++
			if i == len(p.rest) {
				return "", errors.New("a quote is not closed")
			}
			b.WriteByte(unescape(p.rest[i]))
		default:
			b.WriteByte(c)
		}
	}
	return "", errors.New("a quote is not closed")
}

func unescape(c byte) byte {
	switch c {
	case '0':
		return 0
	case 'a':
		return '\a'
	case 'b':
		return '\b'
	case 'e':
		return 0x1b
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'v':
		return '\v'
	}
	return c
}

// String writes the type as the server does.
func (t *typeText) String() string {
	if len(t.args) == 0 {
		return t.name
	}
	args := make([]string, len(t.args))
	for i, a := range t.args {
		switch {
		case a.typ != nil:
			args[i] = a.typ.String()
		case a.quoted && a.number != "":
			args[i] = literal(a.text) + " = " + a.number
		case a.quoted:
			args[i] = literal(a.text)
		default:
			args[i] = a.number
		}
	}
	return t.name + "(" + strings.Join(args, ", ") + ")"
}
