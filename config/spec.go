package config

// Kind is the type of a key's value. The zero value is no kind: [CheckSpec] refuses it.
type Kind uint8

// The kinds, with the TOML form and the Go types of the field that can hold them. Every field may also be a pointer to its
// type, which stays nil when the key is absent and has no default.
const (
	// KindString is a string; the field is a string type or an encoding.TextUnmarshaler. Min and Max bound its characters.
	KindString Kind = iota + 1
	// KindStrings is an array of strings; the field is a slice of a string type. Min and Max bound the number of elements.
	KindStrings
	// KindInt is an integer; the field is any integer type that can hold it.
	KindInt
	// KindFloat is a float or an integer; the field is a float type. inf and nan are refused.
	KindFloat
	// KindBool is true or false; the field is a bool type.
	KindBool
	// KindDuration is a string with units ("250ms", "1h30m", "7d"), never negative; the field is a time.Duration.
	KindDuration
	// KindBytes is a string with a unit ("64MiB", "1GB", "512B"); the field is a Bytes or another integer type.
	KindBytes
	// KindTime is a date-time with an offset, in quotes or not; the field is a time.Time, in UTC.
	KindTime
	// KindSecret is a string that no message, log or digest ever shows; the field is a Secret.
	KindSecret
	// KindEnum is one of the strings in Key.Enum; the field is a string type or an encoding.TextUnmarshaler.
	KindEnum
	// KindTable is a table with the keys of Key.Table; the field is a struct. When the table is absent its required keys
	// are not missed and its defaults apply, except that a pointer field stays nil.
	KindTable
	// KindTables is an array of tables with the keys of Key.Table; the field is a slice of structs.
	KindTables
	// KindStringMap is a table of free keys and strings; the field is a map[string]string or, in file order, a []Entry.
	KindStringMap
	// KindIntMap is a table of free keys and integers; the field is a map[string]int64.
	KindIntMap
	// KindTableMap is a table of free keys and tables with the keys of Key.Table; the field is a map from string to a
	// struct or, in file order, a slice of structs with a string field tagged `config:",key"`.
	KindTableMap
	// KindSection is the table of a plugin within another's, with the key `type` that names it; the field is a *Section, which
	// is checked when it is decoded with that plugin's spec.
	KindSection
)

// String names the kind as the reference table does.
func (k Kind) String() string {
	switch k {
	case KindString:
		return "string"
	case KindStrings:
		return "array of strings"
	case KindInt:
		return "integer"
	case KindFloat:
		return "float"
	case KindBool:
		return "boolean"
	case KindDuration:
		return "duration"
	case KindBytes:
		return "size"
	case KindTime:
		return "date-time"
	case KindSecret:
		return "secret"
	case KindEnum:
		return "one of"
	case KindTable:
		return "table"
	case KindTables:
		return "array of tables"
	case KindStringMap:
		return "table of strings"
	case KindIntMap:
		return "table of integers"
	case KindTableMap:
		return "table of tables"
	case KindSection:
		return "section"
	}
	return "no kind"
}

// Key describes one key of a table. The texts in Default, Min, Max, Example and Enum are values as TOML writes them, where
// the quotes around a string, a duration or a size may be left out: 3, true, 1s, 64MiB, earliest, ["a", "b"].
type Key struct {
	// Name is the key, in lower snake case.
	Name string
	// Kind is the type of the value.
	Kind Kind
	// Required makes the absence of the key, and an empty string or array, an error. A required key has no default.
	Required bool
	// Default is the value of an absent key; empty: the field is left as it is.
	Default string
	// Enum lists what a KindEnum may be.
	Enum []string
	// Min is the least value allowed; empty: no bound.
	Min string
	// Max is the greatest value allowed; empty: no bound.
	Max string
	// Doc says in one or more sentences what the key does; it may have several lines.
	Doc string
	// Example is the value that the generated example shows; empty: the default.
	Example string
	// Table is the spec of a KindTable, KindTables or KindTableMap; its Type is empty.
	Table *Spec
	// Short is the key of Table that may stand for the whole table of a KindTableMap: name = "x" is name = { short = "x" }.
	Short string
}

// Spec describes one table: what a plugin accepts in its section, or a table within.
type Spec struct {
	// Type is the plugin's name, the value of `type` (of `store` in a checkpoint section) that selects it; empty for a
	// plain table.
	Type string
	// Doc says in one or more sentences what the table, or the plugin, is.
	Doc string
	// Keys are the keys in the order in which the documentation shows them.
	Keys []Key
}

// table returns the spec of the tables within; without keys if the plugin gave none.
func (k *Key) table() *Spec {
	if k.Table == nil {
		return &Spec{}
	}
	return k.Table
}

// key returns the key with this name, or nil.
func (s *Spec) key(name string) *Key {
	for i := range s.Keys {
		if s.Keys[i].Name == name {
			return &s.Keys[i]
		}
	}
	return nil
}

// names returns the names of all keys.
func (s *Spec) names() []string {
	names := make([]string, len(s.Keys))
	for i := range s.Keys {
		names[i] = s.Keys[i].Name
	}
	return names
}

// The roles that a plugin can have: the keys of [Registry.Roles].
const (
	RoleSource     = "source"
	RoleDecode     = "decode"
	RoleStep       = "step"
	RoleEncode     = "encode" // within the table of a sink
	RoleSink       = "sink"
	RoleDeadLetter = "dead_letter"
	RoleStore      = "store"
)

// Registry says which plugins exist. It is a plain value that the caller fills; config only reads it.
type Registry struct {
	// Roles holds the specs of the plugins of each role (source, decode, step, encode, sink, dead_letter, store).
	Roles map[string][]Spec
}

// spec returns the spec of a plugin, or nil.
func (r Registry) spec(role, typ string) *Spec {
	for i := range r.Roles[role] {
		if r.Roles[role][i].Type == typ {
			return &r.Roles[role][i]
		}
	}
	return nil
}

// types returns the names of a role's plugins, in the registry's order.
func (r Registry) types(role string) []string {
	names := make([]string, len(r.Roles[role]))
	for i := range r.Roles[role] {
		names[i] = r.Roles[role][i].Type
	}
	return names
}
