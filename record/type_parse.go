package record

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ParseType reads a type as a config writes it; it is the inverse of [Type.String]:
//
//	bool, int8 … int256, uint8 … uint256, float32, float64, string, date, uuid, ipv4, ipv6
//	decimal(PRECISION, SCALE)
//	fixed_string(BYTES)
//	timestamp(PRECISION) or timestamp(PRECISION, "ZONE")
//	enum("NAME" = NUMBER, …)
//	array(TYPE), map(KEY, TYPE), nullable(TYPE)
//
// Names are in lower case, texts are quoted as in Go, spaces may stand between words. The zone is not looked up.
func ParseType(text string) (Type, error) {
	p := &typeParser{rest: text}
	t, err := p.typ(1)
	if err == nil && p.space() != "" {
		err = fmt.Errorf("unexpected %q after the type", p.rest)
	}
	if err == nil {
		err = t.Check()
	}
	if err != nil {
		return Type{}, fmt.Errorf("type %q: %w", text, err)
	}
	return t, nil
}

type typeParser struct{ rest string }

// space skips spaces and returns what is left.
func (p *typeParser) space() string {
	p.rest = strings.TrimLeft(p.rest, " \t")
	return p.rest
}

// accept skips a punctuation mark if it is next.
func (p *typeParser) accept(mark string) bool {
	rest, ok := strings.CutPrefix(p.space(), mark)
	if ok {
		p.rest = rest
	}
	return ok
}

func (p *typeParser) expect(mark string) error {
	if p.accept(mark) {
		return nil
	}
	if p.rest == "" {
		return fmt.Errorf("it ends where %q is expected", mark)
	}
	return fmt.Errorf("%q is expected before %q", mark, p.rest)
}

func (p *typeParser) word() string {
	rest := strings.TrimLeft(p.space(), "abcdefghijklmnopqrstuvwxyz0123456789_")
	word := p.rest[:len(p.rest)-len(rest)]
	p.rest = rest
	return word
}

func (p *typeParser) number() (int, error) {
	rest := p.space()
	digits := strings.TrimLeft(strings.TrimPrefix(rest, "-"), "0123456789")
	text := rest[:len(rest)-len(digits)]
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("a number is expected, found %q", rest)
	}
	p.rest = digits
	return int(n), nil
}

func (p *typeParser) quoted() (string, error) {
	prefix, err := strconv.QuotedPrefix(p.space())
	if err != nil || prefix[0] == '\'' {
		return "", fmt.Errorf("a text in quotes is expected, found %q", p.rest)
	}
	p.rest = p.rest[len(prefix):]
	return strconv.Unquote(prefix)
}

func (p *typeParser) typ(depth int) (Type, error) {
	if depth > 2*DepthMax { // nullable() is no level of its own; Check counts exactly
		return Type{}, errTooDeep
	}
	word := p.word()
	if word == "nullable" {
		return p.nullable(depth)
	}
	kind := kindNamed(word)
	if kind == Invalid {
		return Type{}, unknownType(word, p.rest)
	}
	t := Type{Kind: kind}
	if err := p.parameters(&t, depth); err != nil {
		return Type{}, err
	}
	return t, nil
}

func (p *typeParser) nullable(depth int) (Type, error) {
	if err := p.expect("("); err != nil {
		return Type{}, err
	}
	t, err := p.typ(depth + 1)
	if err != nil {
		return Type{}, err
	}
	if t.Nullable {
		return Type{}, errors.New("nullable in nullable")
	}
	t.Nullable = true
	return t, p.expect(")")
}

// parameters reads what stands in parentheses behind a kind's name.
func (p *typeParser) parameters(t *Type, depth int) error {
	var read func() error
	switch t.Kind { //nolint:exhaustive // the other kinds have no parameters
	case Decimal:
		read = func() error { return p.decimal(t) }
	case FixedString:
		read = func() (err error) {
			t.Size, err = p.number()
			return err
		}
	case Timestamp:
		read = func() error { return p.timestamp(t) }
	case Enum:
		read = func() error { return p.enum(t) }
	case Array:
		read = func() (err error) {
			t.Elem, err = p.nested(depth)
			return err
		}
	case Map:
		read = func() error { return p.pair(t, depth) }
	default:
		return nil
	}
	if err := p.expect("("); err != nil {
		return fmt.Errorf("%s: %w", t.Kind, err)
	}
	if err := read(); err != nil {
		return fmt.Errorf("%s: %w", t.Kind, err)
	}
	return p.expect(")")
}

func (p *typeParser) decimal(t *Type) (err error) {
	if t.Precision, err = p.number(); err != nil {
		return err
	}
	if err = p.expect(","); err != nil {
		return err
	}
	t.Scale, err = p.number()
	return err
}

func (p *typeParser) timestamp(t *Type) (err error) {
	if t.Precision, err = p.number(); err != nil || !p.accept(",") {
		return err
	}
	t.Zone, err = p.quoted()
	return err
}

func (p *typeParser) enum(t *Type) error {
	for {
		name, err := p.quoted()
		if err != nil {
			return err
		}
		if err = p.expect("="); err != nil {
			return err
		}
		number, err := p.number()
		if err != nil {
			return err
		}
		if number != int(int16(number)) {
			return fmt.Errorf("the number %d of %q does not fit 16 bits", number, name)
		}
		t.Values = append(t.Values, EnumValue{Name: name, Number: int16(number)})
		if !p.accept(",") {
			return nil
		}
	}
}

func (p *typeParser) nested(depth int) (*Type, error) {
	t, err := p.typ(depth + 1)
	return &t, err
}

func (p *typeParser) pair(t *Type, depth int) (err error) {
	if t.Key, err = p.nested(depth); err != nil {
		return err
	}
	if err = p.expect(","); err != nil {
		return err
	}
	t.Elem, err = p.nested(depth)
	return err
}

// kindNamed returns the kind with a name, or Invalid.
func kindNamed(name string) Kind {
	for k := Bool; k <= Map; k++ {
		if k.String() == name {
			return k
		}
	}
	return Invalid
}

func unknownType(word, rest string) error {
	if word == "" {
		return fmt.Errorf("a type is expected, found %q", rest)
	}
	meant := map[string]string{
		"int": "int64", "integer": "int64", "bigint": "int64", "long": "int64", "uint": "uint64", "float": "float64",
		"double": "float64", "text": "string", "varchar": "string", "bytes": "string", "boolean": "bool",
		"datetime": "timestamp(0)", "datetime64": "timestamp(3)", "numeric": "decimal(38, 9)", "list": "array(string)",
	}
	if known, ok := meant[word]; ok {
		return fmt.Errorf("unknown type %q, did you mean %s?", word, known)
	}
	return fmt.Errorf("unknown type %q", word)
}
