package csv

import (
	"strconv"
	"strings"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

// EncoderFactory makes CSV encoders. It is immutable.
type EncoderFactory struct {
	settings EncoderSettings
	dialect  dialect
}

var (
	_ codec.FileEncoder = (*EncoderFactory)(nil)
	_ codec.Encoder     = (*Encoder)(nil)
)

// NewEncoder returns a factory of encoders; zero fields of the settings mean the defaults. The error is fault.Misconfigured.
func NewEncoder(s EncoderSettings) (*EncoderFactory, error) {
	d, err := newDialect(s.Delimiter, s.Quote, s.Null)
	if err != nil {
		return nil, fault.E("codec/csv.NewEncoder", fault.Misconfigured, err)
	}
	return &EncoderFactory{settings: s, dialect: d}, nil
}

// New returns an encoder for rows of a schema.
func (f *EncoderFactory) New(schema *record.Schema) (codec.Encoder, error) {
	e, err := f.encoder(schema)
	if err != nil {
		return nil, fault.E("codec/csv.New", fault.Misconfigured, err)
	}
	return e, nil
}

func (f *EncoderFactory) encoder(schema *record.Schema) (*Encoder, error) {
	picked, err := codec.Pick(schema, f.settings.Columns)
	if err != nil {
		return nil, err
	}
	return &Encoder{dialect: f.dialect, columns: picked, all: f.settings.Quoting == Everything, utf8: codec.NewUTF8(schema, picked)}, nil
}

// FileFormat is lines, in which a quoted field may hold line ends.
func (f *EncoderFactory) FileFormat() (codec.FileFormat, error) {
	end := "\n"
	if f.settings.LineEnd == CRLF {
		end = "\r\n"
	}
	d := f.dialect
	identity := []string{
		"csv", strconv.QuoteRune(rune(d.delimiter)), strconv.QuoteRune(rune(d.quote)), strconv.Quote(d.null), strconv.Quote(end),
		string(f.settings.Quoting), strconv.FormatBool(f.settings.Header), strings.Join(f.settings.Columns, ","),
	}
	return codec.FileFormat{Extension: ".csv", End: end, Quoted: true, Identity: strings.Join(identity, " ")}, nil
}

// FileHeader is the record of the columns' names, if the settings ask for it.
func (f *EncoderFactory) FileHeader(schema *record.Schema) []byte {
	e, err := f.encoder(schema)
	if err != nil || !f.settings.Header {
		return nil
	}
	var header []byte
	for i, at := range e.columns {
		if i > 0 {
			header = append(header, e.delimiter)
		}
		start := len(header)
		header = e.close(append(header, schema.Fields[at].Name...), start)
	}
	if f.settings.LineEnd == CRLF {
		header = append(header, '\r')
	}
	return append(header, '\n')
}

// Encoder encodes rows of one schema.
type Encoder struct {
	dialect
	columns []int
	all     bool // quote every field but nulls
	utf8    *codec.UTF8
}

// Encode appends the row as one record, without a line end.
func (e *Encoder) Encode(dst []byte, b *record.Batch, row int) ([]byte, record.Refusal, bool) {
	if refusal, ok := e.utf8.Check(b, row); !ok {
		return dst, refusal, false
	}
	for i, at := range e.columns {
		if i > 0 {
			dst = append(dst, e.delimiter)
		}
		c := &b.Cols[at]
		if c.IsNull(row) {
			dst = append(dst, e.null...)
			continue
		}
		start := len(dst)
		if c.Type.Kind == record.Array || c.Type.Kind == record.Map {
			dst = codec.AppendJSONValue(dst, c, row)
		} else {
			dst = codec.AppendValue(dst, c, row)
		}
		dst = e.close(dst, start)
	}
	return dst, record.Refusal{}, true
}

// close quotes the field that was appended from start on, if it must be.
func (e *Encoder) close(dst []byte, start int) []byte {
	text := dst[start:]
	quotes, plain := 0, !e.all && string(text) != e.null
	for _, c := range text {
		if c == e.quote {
			quotes++
		}
		plain = plain && c != e.quote && c != e.delimiter && c != '\r' && c != '\n'
	}
	if plain {
		return dst
	}
	from := len(dst) - 1
	for range quotes + 2 {
		dst = append(dst, e.quote)
	}
	to := len(dst) - 2 // the last byte is the closing quote
	for ; from >= start; from-- {
		dst[to] = dst[from]
		to--
		if dst[from] == e.quote {
			dst[to] = e.quote
			to--
		}
	}
	dst[start] = e.quote
	return dst
}
