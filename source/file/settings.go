package file

import (
	"errors"

	"github.com/ingestd/ingestd/config"
)

// The values of line_end.
const (
	endLF   = "lf"
	endCRLF = "crlf"
)

// recordBytesMax is the default of record_bytes_max.
const recordBytesMax = 16 << 20

// Settings is the section of a file source. [Spec] documents every key; zero means its default there.
type Settings struct {
	Paths          []string     `config:"paths"`
	LineEnd        string       `config:"line_end"`
	RecordBytesMax config.Bytes `config:"record_bytes_max"`
}

// Spec describes the section of a file source.
func Spec() config.Spec {
	return config.Spec{
		Type: "file",
		Doc: "Reads lines of local files, each line a record (text, NDJSON), from the beginning of each file to what is its end " +
			"at the pipeline's first start. Then the pipeline ends. The files must not change; lines that are appended later are " +
			"not read.",
		Keys: []config.Key{
			{
				Name: "paths", Kind: config.KindStrings, Required: true, Example: `["/var/data/*.ndjson"]`,
				Doc: "Files, or patterns with *, ? and [ ] as a shell has them. Folders are passed over; a path or a pattern that " +
					"finds no file is an error.",
			},
			{
				Name: "line_end", Kind: config.KindEnum, Default: endLF, Enum: []string{endLF, endCRLF},
				Doc: "With crlf, a carriage return before the line feed is no part of the record. The last line of a file needs " +
					"no line feed.",
			},
			{
				Name: "record_bytes_max", Kind: config.KindBytes, Default: "16MiB", Min: "1KiB", Max: "1GiB",
				Doc: "Bytes that a line may have. A longer line becomes a dead letter, cut to this size.",
			},
		},
	}
}

func (s Settings) check() (Settings, error) {
	var errs []error
	if len(s.Paths) == 0 {
		errs = append(errs, errors.New("paths: the key is missing"))
	}
	switch s.LineEnd {
	case "":
		s.LineEnd = endLF
	case endLF, endCRLF:
	default:
		errs = append(errs, errors.New(`line_end: it is "lf" or "crlf"`))
	}
	if s.RecordBytesMax == 0 {
		s.RecordBytesMax = recordBytesMax
	}
	if s.RecordBytesMax < 0 {
		errs = append(errs, errors.New("record_bytes_max: it is above 0"))
	}
	return s, errors.Join(errs...)
}
