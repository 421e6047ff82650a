package record

// Column is a vector of values of one type. Exactly one of the representations is used, by the type's kind:
//
//	fixed width: Fixed holds Width() bytes for each row, little endian
//	String:      Bytes[Off[i]:Off[i+1]] is row i; Off has rows + 1 entries, Off[0] = 0
//	Array:       rows Off[i] to Off[i+1] of Elem
//	Map:         rows Off[i] to Off[i+1] of Key and of Elem
//
// Nulls has one byte for each row, 1 = null, when the type is nullable, and is nil otherwise. A null row still takes its place
// in Fixed (zeros) and in Off (an empty range).
type Column struct {
	Type  Type
	Nulls []uint8
	Fixed []byte
	Off   []uint32
	Bytes []byte
	Key   *Column
	Elem  *Column
}

// Batch holds records of one split in columns, with their provenance. The goroutine that has it owns it; sending it gives it
// away. All slices of provenance have Rows entries.
type Batch struct {
	Schema *Schema
	Cols   []Column // as many as Schema.Fields
	Rows   int
	Meta   Provenance
}

// Provenance says for each row of a batch where it came from. Values, Keys and Headers alias memory of the fetch that the
// source handed out; they are valid until the batch is reset.
type Provenance struct {
	Split      string // "orders/3", or a file's path
	Topic      string // Kafka's topic, or "" for a file
	Partition  int32
	Offsets    []Offset
	Timestamps []int64 // milliseconds since 1970, UTC; -1 where the source has none
	Keys       [][]byte
	Values     [][]byte // the raw record, kept for dead letters
	Headers    [][]Header
}

// Header is one header of a Kafka record.
type Header struct {
	Key   string
	Value []byte
}

// DeadLetter is a record that could not be decoded, transformed or stored, with everything that a person needs to mend it.
type DeadLetter struct {
	Split     string
	Topic     string
	Partition int32
	Offset    Offset
	Timestamp int64 // milliseconds since 1970; -1 unknown
	Key       []byte
	Value     []byte // raw bytes; may be cut at the source's record_bytes_max, then Reason says so
	Headers   []Header
	Stage     string // "source", "decode", "step:NAME", "sink:NAME"
	Reason    string
	Column    string // "" when it concerns the whole record
	Byte      int64  // place in Value, -1 unknown
}

// Refusal tells why one row of a batch can't pass a stage.
type Refusal struct {
	Row    int
	Reason string
	Column string
	Byte   int64 // place in the raw value, -1 unknown
}
