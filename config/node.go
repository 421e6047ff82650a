package config

// form is the TOML type of a value.
type form uint8

const (
	formTable form = iota + 1
	formArray
	formString
	formInteger
	formFloat
	formBool
	formTime
	formLocalTime
)

// String names the form in a sentence: "found an integer".
func (f form) String() string {
	switch f {
	case formTable:
		return "a table"
	case formArray:
		return "an array"
	case formString:
		return "a string"
	case formInteger:
		return "an integer"
	case formFloat:
		return "a float"
	case formBool:
		return "a boolean"
	case formTime:
		return "a date-time"
	case formLocalTime:
		return "a date or time without an offset"
	}
	return "nothing"
}

// origin says how a table or array came to be; TOML lets only some of them grow later.
type origin uint8

const (
	originValue    origin = iota // a plain value: complete where it stands
	originImplicit               // a table that only the header of a table within it names
	originHeader                 // a table with its own [header]
	originDotted                 // a table that a dotted key made
	originTables                 // an array of tables made by [[headers]]
	originAbsent                 // no table at all: one that stands for the defaults
)

// node is one value of the document.
type node struct {
	form   form
	origin origin
	key    int // offset of the key, or of the header, that made it
	at     int // offset of the value; for a table that a header made, of the header
	// text is the content of a string, or another scalar as it is written.
	text   string
	fields []field
	index  map[string]int // from a name to its place in fields
	items  []*node
	// plain is set once a spec says what the value is and that it is no secret; a digest shows no others.
	plain bool
	// canonical is the value in the one form that the digest takes, when it differs from text: 60s and 1m are the same.
	canonical string
}

// field is one key of a table, in the order of the file.
type field struct {
	name  string
	value *node
}

// get returns the value of a key, or nil. A nil table has no keys.
func (n *node) get(name string) *node {
	if n == nil {
		return nil
	}
	i, ok := n.index[name]
	if !ok {
		return nil
	}
	return n.fields[i].value
}

func (n *node) set(name string, value *node) {
	if n.index == nil {
		n.index = make(map[string]int)
	}
	n.index[name] = len(n.fields)
	n.fields = append(n.fields, field{name: name, value: value})
}

func newTable(from origin, offset int) *node {
	return &node{form: formTable, origin: from, key: offset, at: offset}
}
