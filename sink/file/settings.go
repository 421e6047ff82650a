package file

import (
	"errors"
	"fmt"
	"time"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/config"
)

// Settings configure the sink.
type Settings struct {
	// Path is the folder that the files appear in.
	Path string `config:"path"`
	// Roll says when a file is complete.
	Roll Roll `config:"roll"`
	// Compression of the files: "none", "gzip" or "zstd"; empty means none.
	Compression string `config:"compression"`
	// Encode is the section that Encoder is made from.
	Encode *config.Section `config:"encode"`
	// Encoder gives rows their form; nil: lines of JSON, as codec.AppendJSON writes them.
	Encoder codec.EncoderFactory
}

// Roll says when a file is complete: at the first checkpoint at which one of the conditions holds. The last checkpoint of a run
// completes all files.
type Roll struct {
	// Size completes a file that has as many bytes or more; 0 means 128 MiB.
	Size config.Bytes `config:"size"`
	// Age completes a file whose first rows were prepared as long ago, or longer; 0 means one minute.
	Age time.Duration `config:"age"`
	// EveryCheckpoint completes all files at every checkpoint.
	EveryCheckpoint bool `config:"every_checkpoint"`
}

const (
	defaultSize = 128 << 20
	defaultAge  = time.Minute
)

// Spec describes the settings.
func Spec() config.Spec {
	return config.Spec{
		Type: "file",
		Doc: "Writes rows as lines of JSON (NDJSON), or in another form, into files of a folder. A file appears complete, under a name\n" +
			"that sorts by time: PIPELINE.LANE.SINK-LEASE-CHECKPOINT-UNIT.ndjson. Names that begin with a dot or an underscore are\n" +
			"ingestd's own.",
		Keys: []config.Key{
			{Name: "path", Kind: config.KindString, Required: true, Example: "/var/lib/ingestd/out", Doc: "The folder that files appear in. It is made if it is missing at the first start."},
			{Name: "roll", Kind: config.KindTable, Doc: "When a file is complete. The last checkpoint of a run completes all files.", Table: &config.Spec{
				Doc: "When a file is complete and appears.",
				Keys: []config.Key{
					{Name: "size", Kind: config.KindBytes, Default: "128MiB", Min: "1KiB", Doc: "A file of this size or more is complete at the next checkpoint."},
					{Name: "age", Kind: config.KindDuration, Default: "1m", Min: "1s", Doc: "A file whose first rows are as old is complete at the next checkpoint."},
					{Name: "every_checkpoint", Kind: config.KindBool, Default: "false", Doc: "Every checkpoint completes all files: rows appear sooner, in more and smaller files."},
				},
			}},
			{Name: "compression", Kind: config.KindEnum, Enum: []string{compressionNone, compressionGzip, compressionZstd}, Default: compressionNone, Doc: "How files are compressed. Each checkpoint's rows are a member (gzip) or frame (zstd) of their own, which every reader joins."},
			{
				Name: "encode", Kind: config.KindSection, Example: `{ type = "csv", header = true }`,
				Doc: "The form of rows: the keys of an encoder (docs/codecs.md). By default one JSON object on each line, in which a text\n" +
					"that is not valid UTF-8 is the object {\"base64\": \"...\"}. Files end with .csv, .txt or .ndjson by it. A row that has\n" +
					"no form, such as a text with a line end, becomes a dead letter.",
			},
		},
	}
}

func (s Settings) withDefaults() Settings {
	if s.Roll.Size == 0 {
		s.Roll.Size = defaultSize
	}
	if s.Roll.Age == 0 {
		s.Roll.Age = defaultAge
	}
	if s.Compression == "" {
		s.Compression = compressionNone
	}
	return s
}

func (s Settings) check() error {
	if s.Path == "" {
		return errors.New("a path is needed")
	}
	if s.Roll.Size < 0 || s.Roll.Age < 0 {
		return fmt.Errorf("roll.size %s and roll.age %s must not be negative", s.Roll.Size, s.Roll.Age)
	}
	if _, err := extension("", s.Compression); err != nil {
		return err
	}
	return nil
}
