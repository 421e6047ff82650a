package json

import (
	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/config"
)

// The defaults.
const (
	recordBytesMax = 16 << 20
	depthMax       = 128
)

// Settings is what the decode section of a config says.
type Settings struct {
	Columns          []Column     `config:"columns"`
	Unknown          Unknown      `config:"unknown"`
	TimestampNumbers TimeUnit     `config:"timestamp_numbers"`
	RecordBytesMax   config.Bytes `config:"record_bytes_max"` // 0: 16 MiB
	DepthMax         int          `config:"depth_max"`        // 0: 128
	Framing          Framing      `config:"framing"`          // empty: none
}

// Framing says what stands around a record's JSON.
type Framing string

const (
	// NoFraming is nothing; it is the default.
	NoFraming Framing = "none"
	// Confluent is a byte 0 and the schema's ID in a registry before it.
	Confluent Framing = "confluent"
)

// frameBytes is the length of what stands before the JSON.
const frameBytes = 5

// Column is what a config says about one column.
type Column = codec.Column

// Unknown says what happens to members of the record that no column is filled from.
type Unknown string

const (
	// Ignore skips unknown members; it is the default.
	Ignore Unknown = "ignore"
	// Refuse refuses the record.
	Refuse Unknown = "refuse"
)

// TimeUnit is the unit of numbers in timestamp columns.
type TimeUnit string

// The units. Without one a number in a timestamp column refuses the record.
const (
	NoNumbers TimeUnit = "refuse"
	UnixS     TimeUnit = "unix_s"
	UnixMS    TimeUnit = "unix_ms"
	UnixUS    TimeUnit = "unix_us"
	UnixNS    TimeUnit = "unix_ns"
)

// digits returns how many digits behind the second the unit has.
func (u TimeUnit) digits() (digits int, ok bool) {
	switch u {
	case UnixS:
		return 0, true
	case UnixMS:
		return 3, true
	case UnixUS:
		return 6, true
	case UnixNS:
		return 9, true
	case NoNumbers:
	}
	return 0, false
}

// Spec describes the decode section of type json.
func Spec() config.Spec {
	return config.Spec{
		Type: "json",
		Doc: "Each record is one JSON object. A record that does not fit its columns exactly (type, range, precision, a missing or\n" +
			"doubled member) becomes a dead letter with the reason, the column and the place.",
		Keys: []config.Key{
			codec.ColumnsKey(),
			{
				Name: "unknown", Kind: config.KindEnum, Enum: []string{string(Ignore), string(Refuse)}, Default: string(Ignore),
				Doc: "What happens to a record with members that no column is filled from: they are ignored, or it is refused.",
			},
			{
				Name: "timestamp_numbers", Kind: config.KindEnum, Default: string(NoNumbers),
				Enum: []string{string(NoNumbers), string(UnixS), string(UnixMS), string(UnixUS), string(UnixNS)},
				Doc:  "The unit of numbers in timestamp columns, counted since 1970 in UTC.",
			},
			{
				Name: "record_bytes_max", Kind: config.KindBytes, Default: "16MiB", Min: "1B", Max: "1GiB",
				Doc: "A longer record becomes a dead letter; no memory is taken for it.",
			},
			{
				Name: "depth_max", Kind: config.KindInt, Default: "128", Min: "1", Max: "1000",
				Doc: "How deep objects and arrays may nest; the record itself counts as one.",
			},
			{
				Name: "framing", Kind: config.KindEnum, Enum: []string{string(NoFraming), string(Confluent)}, Default: string(NoFraming),
				Doc: "What stands before the JSON: nothing, or a byte 0 and a schema ID of four bytes as clients of a schema registry write\n" +
					"them. The schema is not asked for: the columns say what is taken.",
			},
		},
	}
}
