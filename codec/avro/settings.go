package avro

import (
	"time"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/config"
)

// Framing says what stands around an encoded record.
type Framing string

const (
	// Confluent is a byte 0 and the schema's ID in a registry before the record; it is the default.
	Confluent Framing = "confluent"
	// None is the record alone, written with the schema in the config.
	None Framing = "none"
)

// TimeUnit is the unit of plain numbers in timestamp columns.
type TimeUnit string

// The units. Without one an int or long without a logical type does not fit a timestamp column.
const (
	NoNumbers TimeUnit = "refuse"
	UnixS     TimeUnit = "unix_s"
	UnixMS    TimeUnit = "unix_ms"
	UnixUS    TimeUnit = "unix_us"
	UnixNS    TimeUnit = "unix_ns"
)

// digits returns how many digits behind the second the unit has, or -1.
func (u TimeUnit) digits() int {
	switch u {
	case UnixS:
		return 0
	case UnixMS:
		return digitsMS
	case UnixUS:
		return digitsUS
	case UnixNS:
		return digitsNS
	case NoNumbers:
	}
	return -1
}

// The defaults.
const (
	recordBytesMax = 16 << 20
	depthMax       = 128
)

// Settings is what the decode section of a config says.
type Settings struct {
	Columns          []codec.Column          `config:"columns"`
	Framing          Framing                 `config:"framing"` // empty: confluent
	Registry         *codec.RegistrySettings `config:"registry"`
	RegistryTimeout  time.Duration           `config:"registry_timeout"` // 0: 30 s
	Schema           string                  `config:"schema"`
	TimestampNumbers TimeUnit                `config:"timestamp_numbers"` // empty: refuse
	RecordBytesMax   config.Bytes            `config:"record_bytes_max"`  // 0: 16 MiB
	DepthMax         int                     `config:"depth_max"`         // 0: 128
}

// Spec describes the decode section of type avro.
func Spec() config.Spec {
	keys := append([]config.Key{
		codec.ColumnsKey(),
		{
			Name: "framing", Kind: config.KindEnum, Enum: []string{string(Confluent), string(None)}, Default: string(Confluent),
			Doc: "What stands around a record: a byte 0 and the ID of its schema in the registry before it, or nothing, and all records\n" +
				"are written with `schema`.",
		},
	}, codec.RegistryKeys()...)
	return config.Spec{
		Type: "avro",
		Doc: "Each record is an Avro value in its binary form, with the ID of its schema in a schema registry. A record with an ID that\n" +
			"the registry does not know, or that does not fit its columns exactly, becomes a dead letter.",
		Keys: append(keys, []config.Key{
			{
				Name: "schema", Kind: config.KindString, Example: `'{"type": "record", "name": "Order", "fields": [{"name": "id", "type": "long"}]}'`,
				Doc: "The reader's schema, as JSON, or ${file:PATH}: what a record was written with is resolved to it by Avro's rules, with its defaults,\n" +
					"aliases and promotions. Without it each record is read as it was written. If neither the sink nor `columns` says\n" +
					"what the columns are, they are the fields of this schema.",
			},
			{
				Name: "timestamp_numbers", Kind: config.KindEnum, Default: string(NoNumbers),
				Enum: []string{string(NoNumbers), string(UnixS), string(UnixMS), string(UnixUS), string(UnixNS)},
				Doc:  "The unit of an int or long without a logical type in a timestamp column, counted since 1970 in UTC.",
			},
			{
				Name: "record_bytes_max", Kind: config.KindBytes, Default: "16MiB", Min: "1B", Max: "512MiB",
				Doc: "A longer record becomes a dead letter; no memory is taken for it.",
			},
			{
				Name: "depth_max", Kind: config.KindInt, Default: "128", Min: "1", Max: "1000",
				Doc: "How deep records, arrays and maps may nest; the record itself counts as one.",
			},
		}...),
	}
}
