package csv

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/config"
)

// recordBytesMax is the default of record_bytes_max.
const recordBytesMax = 16 << 20

// Settings is what the decode section of a config says.
type Settings struct {
	Columns        []codec.Column `config:"columns"`
	Fields         []string       `config:"fields"`    // empty: the columns, in their order
	Delimiter      string         `config:"delimiter"` // empty: ","
	Quote          string         `config:"quote"`     // empty: `"`
	Null           string         `config:"null"`
	RecordBytesMax config.Bytes   `config:"record_bytes_max"` // 0: 16 MiB
}

// EncoderSettings is what the encode section of a config says.
type EncoderSettings struct {
	Columns   []string `config:"columns"`   // empty: all
	Delimiter string   `config:"delimiter"` // empty: ","
	Quote     string   `config:"quote"`     // empty: `"`
	Null      string   `config:"null"`
	Quoting   Quoting  `config:"quoting"`  // empty: minimal
	Header    bool     `config:"header"`   // of each file
	LineEnd   LineEnd  `config:"line_end"` // empty: lf
}

// Quoting says which fields are quoted.
type Quoting string

const (
	// Minimal quotes the fields that need it; it is the default.
	Minimal Quoting = "minimal"
	// Everything quotes all fields but nulls.
	Everything Quoting = "all"
)

// LineEnd is what follows each record in a file.
type LineEnd string

const (
	// LF is a line feed; it is the default.
	LF LineEnd = "lf"
	// CRLF is a carriage return and a line feed, as RFC 4180 has it.
	CRLF LineEnd = "crlf"
)

// Spec describes the decode section of type csv.
func Spec() config.Spec {
	keys := []config.Key{
		codec.ColumnsKey(),
		{
			Name: "fields", Kind: config.KindStrings, Example: `["id", "at", "amount"]`,
			Doc: "The names of a record's fields, in their order. A column is filled from the field that its path, or its name, names;\n" +
				"other fields are skipped. By default the fields are the columns, in their order.",
		},
	}
	return config.Spec{
		Type: "csv",
		Doc: "Each record is one line of comma-separated values (RFC 4180), without a header. A record with another number of fields,\n" +
			"or with a field that its column does not hold exactly, becomes a dead letter.",
		Keys: append(append(keys, commonKeys()...), config.Key{
			Name: "record_bytes_max", Kind: config.KindBytes, Default: "16MiB", Min: "1B", Max: "1GiB", Doc: "A longer record becomes a dead letter.",
		}),
	}
}

// EncoderSpec describes the encode section of type csv.
func EncoderSpec() config.Spec {
	keys := []config.Key{{
		Name: "columns", Kind: config.KindStrings, Example: `["id", "amount"]`,
		Doc: "The columns that are written, in this order. By default all, in the order of the rows.",
	}}
	return config.Spec{
		Type: "csv",
		Doc:  "Each row becomes one record of comma-separated values (RFC 4180). Arrays and maps are written as JSON.",
		Keys: append(append(keys, commonKeys()...), []config.Key{
			{
				Name: "quoting", Kind: config.KindEnum, Enum: []string{string(Minimal), string(Everything)}, Default: string(Minimal),
				Doc: "Which fields are quoted: those that need it, or all but nulls.",
			},
			{
				Name: "header", Kind: config.KindBool, Default: "false",
				Doc: "Begin each file with a record of the columns' names. It has no effect in sinks that write no files.",
			},
			{
				Name: "line_end", Kind: config.KindEnum, Enum: []string{string(LF), string(CRLF)}, Default: string(LF),
				Doc: "What follows each record in a file.",
			},
		}...),
	}
}

func commonKeys() []config.Key {
	return []config.Key{
		{
			Name: "delimiter", Kind: config.KindString, Default: ",", Min: "1", Max: "1",
			Doc: "What stands between fields: one ASCII character, \"\\t\" for tabs.",
		},
		{Name: "quote", Kind: config.KindString, Default: `"\""`, Min: "1", Max: "1", Doc: "What stands around a quoted field; in it, it is doubled."},
		{
			Name: "null", Kind: config.KindString,
			Doc: "The text that stands for null where it is not quoted and the column is nullable; absent: nothing between two delimiters.",
		},
	}
}

// dialect is what settings of both directions say about the form of records.
type dialect struct {
	delimiter, quote byte
	null             string
}

func newDialect(delimiter, quote, null string) (dialect, error) {
	if delimiter == "" {
		delimiter = ","
	}
	if quote == "" {
		quote = `"`
	}
	for _, c := range []struct{ key, text string }{{"delimiter", delimiter}, {"quote", quote}} {
		if len(c.text) != 1 || c.text[0] >= 0x80 || strings.ContainsAny(c.text, "\r\n\x00") {
			return dialect{}, fmt.Errorf("%s %q is not one ASCII character that ends no line", c.key, c.text)
		}
	}
	switch {
	case delimiter == quote:
		return dialect{}, fmt.Errorf("delimiter and quote are the same character %q", quote)
	case strings.ContainsAny(null, delimiter+quote+"\r\n"):
		return dialect{}, fmt.Errorf("null %q holds the delimiter, the quote or a line end", null)
	}
	return dialect{delimiter: delimiter[0], quote: quote[0], null: null}, nil
}

func checkFields(fields []string) error {
	for i, name := range fields {
		if name != "" && slices.Contains(fields[:i], name) {
			return fmt.Errorf("the field %q is there twice", name)
		}
	}
	if len(fields) > 0 && strings.Join(fields, "") == "" {
		return errors.New("fields without a name")
	}
	return nil
}
