package json

import (
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
}

// Column is what a config says about one column.
type Column struct {
	Name     string `config:",key"`
	Type     string `config:"type"`     // as record.ParseType reads it; empty: the sink's
	Path     string `config:"path"`     // empty: the name
	Optional *bool  `config:"optional"` // nil: as the sink says, and nullable columns are
}

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
	column := config.Spec{
		Doc: "A column and where its value is found in the record.",
		Keys: []config.Key{
			{
				Name: "type", Kind: config.KindString, Example: "timestamp(3)",
				Doc: "The type: bool, int8 to int256, uint8 to uint256, float32, float64, decimal(PRECISION, SCALE), string,\n" +
					"fixed_string(BYTES), date, timestamp(DIGITS), timestamp(DIGITS, \"ZONE\"), uuid, ipv4, ipv6,\n" +
					"enum(\"NAME\" = NUMBER, ...), array(TYPE), map(KEY, TYPE), nullable(TYPE). By default the type of the sink's\n" +
					"column; if both are known they must agree.",
			},
			{
				Name: "path", Kind: config.KindString, Example: "user.id",
				Doc: "The member that holds the value; a.b is b inside a. A point that belongs to a name is written \\.\n" +
					"By default the column's name, read in the same way.",
			},
			{
				Name: "optional", Kind: config.KindBool, Example: "true",
				Doc: "Whether a record may lack the member: null is stored then, or the type's zero if it is not nullable.\n" +
					"By default only nullable columns, and those for which the sink has a default, are optional.",
			},
		},
	}
	return config.Spec{
		Type: "json",
		Doc: "Each record is one JSON object. A record that does not fit its columns exactly (type, range, precision, a missing or\n" +
			"doubled member) becomes a dead letter with the reason, the column and the place.",
		Keys: []config.Key{
			{
				Name: "columns", Kind: config.KindTableMap, Table: &column, Short: "type",
				Doc: "The columns, by name. By default those of the sink. NAME = \"TYPE\" is short for NAME = { type = \"TYPE\" }.",
			},
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
		},
	}
}
