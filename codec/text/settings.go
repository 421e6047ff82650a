package text

import (
	"github.com/ingestd/ingestd/config"
)

// Tombstone says what happens to a record without a value.
type Tombstone string

const (
	// Refuse refuses the record; it is the default.
	Refuse Tombstone = "refuse"
	// Null stores null.
	Null Tombstone = "null"
)

// recordBytesMax is the default of record_bytes_max.
const recordBytesMax = 16 << 20

// Settings is what the decode section of a config says.
type Settings struct {
	Column         string       `config:"column"`           // empty: "value"
	Type           string       `config:"type_of_column"`   // empty: the sink's, or string
	Tombstones     Tombstone    `config:"tombstone"`        // empty: refuse
	RecordBytesMax config.Bytes `config:"record_bytes_max"` // 0: 16 MiB
}

// EncoderSettings is what the encode section of a config says: a column or a template.
type EncoderSettings struct {
	Column   string  `config:"column"` // empty: "value", if there is no template
	Template string  `config:"template"`
	Null     *string `config:"null"` // nil: a row with null is refused
}

// Spec describes the decode section of type text.
func Spec() config.Spec {
	return config.Spec{
		Type: "text",
		Doc: "Each record is a text in UTF-8, a line of a file for instance, that becomes one column. A record that the column does not\n" +
			"hold exactly, or that is not valid UTF-8, becomes a dead letter.",
		Keys: []config.Key{
			{Name: "column", Kind: config.KindString, Default: "value", Min: "1", Doc: "The column's name."},
			{
				Name: "type_of_column", Kind: config.KindString, Example: "int64",
				Doc: "The column's type, as in `columns` of a json decoder, but no array and no map. By default the type of the sink's column,\n" +
					"or string.",
			},
			{
				Name: "tombstone", Kind: config.KindEnum, Enum: []string{string(Refuse), string(Null)}, Default: string(Refuse),
				Doc: "What happens to a record without a value: it becomes a dead letter, or null is stored, and the sink's column must take it.",
			},
			{
				Name: "record_bytes_max", Kind: config.KindBytes, Default: "16MiB", Min: "1B", Max: "1GiB", Doc: "A longer record becomes a dead letter.",
			},
		},
	}
}

// EncoderSpec describes the encode section of type text.
func EncoderSpec() config.Spec {
	return config.Spec{
		Type: "text",
		Doc: "Each row becomes a text in UTF-8: one column, or a template with columns in it. Arrays and maps are written as JSON. A file\n" +
			"takes one line for each row; a row whose text has a line end becomes a dead letter there.",
		Keys: []config.Key{
			{Name: "column", Kind: config.KindString, Example: "value", Doc: "The column's name; \"value\" if neither this nor a template is given."},
			{
				Name: "template", Kind: config.KindString, Example: "{at} {level}: {message}",
				Doc: "A text with columns' names in braces. {{ and }} are braces. Not together with column.",
			},
			{Name: "null", Kind: config.KindString, Example: "-", Doc: "The text for null. By default a row with null in one of the columns becomes a dead letter."},
		},
	}
}
