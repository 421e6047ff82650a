package text

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

// EncoderFactory makes text encoders. It is immutable.
type EncoderFactory struct {
	settings EncoderSettings
	parts    []part
}

// part is a piece of a template: a text as it is, or a column.
type part struct{ text, column string }

var (
	_ codec.FileEncoder = (*EncoderFactory)(nil)
	_ codec.Encoder     = (*Encoder)(nil)
)

// NewEncoder returns a factory of encoders; zero fields of the settings mean the defaults. The error is fault.Misconfigured.
func NewEncoder(s EncoderSettings) (*EncoderFactory, error) {
	const op = "codec/text.NewEncoder"
	f := &EncoderFactory{settings: s}
	switch {
	case s.Template != "" && s.Column != "":
		return nil, fault.E(op, fault.Misconfigured, errors.New("column and template exclude each other"))
	case s.Template != "":
		var err error
		if f.parts, err = parseTemplate(s.Template); err != nil {
			return nil, fault.E(op, fault.Misconfigured, fmt.Errorf("template: %w", err))
		}
	case s.Column != "":
		f.parts = []part{{column: s.Column}}
	default:
		f.parts = []part{{column: "value"}}
	}
	return f, nil
}

// parseTemplate splits a template at its columns.
func parseTemplate(template string) ([]part, error) {
	var parts []part
	var text strings.Builder
	flush := func() {
		if text.Len() > 0 {
			parts = append(parts, part{text: text.String()})
			text.Reset()
		}
	}
	for rest := template; rest != ""; {
		n := strings.IndexAny(rest, "{}")
		if n < 0 {
			text.WriteString(rest)
			break
		}
		text.WriteString(rest[:n])
		brace := rest[n]
		rest = rest[n+1:]
		if rest != "" && rest[0] == brace {
			text.WriteByte(brace)
			rest = rest[1:]
			continue
		}
		name, behind, ok := strings.Cut(rest, "}")
		if brace == '}' || !ok || name == "" || strings.Contains(name, "{") {
			return nil, fmt.Errorf("a brace without its counterpart, or nothing between them, before %q; {{ and }} are braces", rest)
		}
		flush()
		parts = append(parts, part{column: name})
		rest = behind
	}
	flush()
	return parts, nil
}

// New returns an encoder for rows of a schema.
func (f *EncoderFactory) New(schema *record.Schema) (codec.Encoder, error) {
	e := &Encoder{fields: schema.Fields}
	var columns []int
	for _, p := range f.parts {
		if p.column == "" {
			e.pieces = append(e.pieces, piece{text: p.text, column: -1})
			continue
		}
		picked, err := codec.Pick(schema, []string{p.column})
		if err != nil {
			return nil, fault.E("codec/text.New", fault.Misconfigured, err)
		}
		e.pieces = append(e.pieces, piece{column: picked[0]})
		columns = append(columns, picked[0])
	}
	if f.settings.Null != nil {
		e.null, e.nulls = *f.settings.Null, true
	}
	e.utf8 = codec.NewUTF8(schema, append([]int{}, columns...))
	return e, nil
}

// FileFormat is lines.
func (f *EncoderFactory) FileFormat() (codec.FileFormat, error) {
	null := "none"
	if f.settings.Null != nil {
		null = strconv.Quote(*f.settings.Null)
	}
	identity := strings.Join([]string{"text", strconv.Quote(f.settings.Column), strconv.Quote(f.settings.Template), null}, " ")
	return codec.FileFormat{Extension: ".txt", End: "\n", Identity: identity}, nil
}

// FileHeader returns nil.
func (f *EncoderFactory) FileHeader(*record.Schema) []byte { return nil }

// Encoder encodes rows of one schema.
type Encoder struct {
	fields []record.Field
	pieces []piece
	utf8   *codec.UTF8
	null   string
	nulls  bool // null has a text
}

// piece is a text as it is, or the value of a column.
type piece struct {
	text   string
	column int // -1: text
}

// Encode appends the row's text, without a line end.
func (e *Encoder) Encode(dst []byte, b *record.Batch, row int) ([]byte, record.Refusal, bool) {
	if refusal, ok := e.utf8.Check(b, row); !ok {
		return dst, refusal, false
	}
	start := len(dst)
	for i := range e.pieces {
		p := &e.pieces[i]
		if p.column < 0 {
			dst = append(dst, p.text...)
			continue
		}
		c := &b.Cols[p.column]
		switch {
		case c.IsNull(row) && e.nulls:
			dst = append(dst, e.null...)
		case c.IsNull(row):
			return dst[:start], record.Refusal{Row: row, Reason: "null has no text here: set null", Column: e.fields[p.column].Name, Byte: -1}, false
		case c.Type.Kind == record.Array || c.Type.Kind == record.Map:
			dst = codec.AppendJSONValue(dst, c, row)
		default:
			dst = codec.AppendValue(dst, c, row)
		}
	}
	return dst, record.Refusal{}, true
}
