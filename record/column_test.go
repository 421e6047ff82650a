package record

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// mustType reads a type.
func mustType(tb testing.TB, text string) Type {
	tb.Helper()
	t, err := ParseType(text)
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// allTypes names one type of each kind and some nested ones.
func allTypes() []string {
	return []string{
		"bool", "int8", "int16", "int32", "int64", "int128", "int256", "uint8", "uint16", "uint32", "uint64", "uint128", "uint256",
		"float32", "float64", "decimal(9, 2)", "decimal(18, 2)", "decimal(38, 2)", "decimal(76, 2)", "string", "fixed_string(3)", "date",
		"timestamp(3)", `timestamp(9, "Europe/Berlin")`, "uuid", "ipv4", "ipv6", `enum("a" = 1, "b" = -2)`, "nullable(int32)",
		"nullable(string)", "array(int8)", "array(string)", "array(nullable(string))", "array(array(int16))",
		"map(string, int64)", "map(int8, array(nullable(string)))", "nullable(array(string))",
	}
}

// show writes a row so that two rows look the same only if they are.
func show(c *Column, row int) string {
	if c.IsNull(row) {
		return "null"
	}
	if c.Type.Width() > 0 {
		return fmt.Sprintf("%x", c.FixedAt(row))
	}
	if c.Type.Kind == String {
		return fmt.Sprintf("%q", c.BytesAt(row))
	}
	var list []string
	from, to := c.Range(row)
	for i := int(from); i < int(to); i++ {
		text := show(c.Elem, i)
		if c.Key != nil {
			text = show(c.Key, i) + ":" + text
		}
		list = append(list, text)
	}
	return "[" + strings.Join(list, " ") + "]"
}

func showAll(c *Column) []string {
	list := make([]string, c.Len())
	for i := range list {
		list[i] = show(c, i)
	}
	return list
}

// choices is a stream of decisions; at its end everything is 0.
type choices struct{ data []byte }

func (c *choices) next(n int) int {
	if len(c.data) == 0 {
		return 0
	}
	v := int(c.data[0]) % n
	c.data = c.data[1:]
	return v
}

// random gives choices that depend on nothing but the seed.
func random(seed uint64, n int) *choices {
	c := &choices{data: make([]byte, n)}
	for i := range c.data {
		seed ^= seed << 13
		seed ^= seed >> 7
		seed ^= seed << 17
		c.data[i] = byte(seed >> 32)
	}
	return c
}

// appendSome appends one row that the choices decide.
func appendSome(c *Column, from *choices) {
	if c.Type.Nullable && from.next(3) == 0 {
		c.AppendNull()
		return
	}
	if w := c.Type.Width(); w > 0 {
		raw := make([]byte, w)
		for i := range raw {
			raw[i] = byte(from.next(256))
		}
		if c.Type.Kind == Bool {
			raw[0] &= 1
		}
		c.AppendFixed(raw)
		return
	}
	n := from.next(4)
	if c.Type.Kind == String {
		c.AppendString("abcdefgh"[:n*2])
		return
	}
	for range n {
		if c.Key != nil {
			appendSome(c.Key, from)
		}
		appendSome(c.Elem, from)
	}
	c.CloseList()
}

// checkColumn checks the shape that a column of n rows must have.
func checkColumn(t *testing.T, c *Column, n int) {
	t.Helper()
	if c.Len() != n {
		t.Fatalf("%s: got %d rows, want %d", &c.Type, c.Len(), n)
	}
	if c.Type.Nullable && len(c.Nulls) != n || !c.Type.Nullable && c.Nulls != nil {
		t.Fatalf("%s: got %d bytes of nulls (%v) for %d rows", &c.Type, len(c.Nulls), c.Nulls == nil, n)
	}
	if w := c.Type.Width(); w > 0 {
		if len(c.Fixed) != n*w {
			t.Fatalf("%s: got %d bytes for %d rows", &c.Type, len(c.Fixed), n)
		}
		return
	}
	if len(c.Off) != n+1 || c.Off[0] != 0 || !slices.IsSorted(c.Off) {
		t.Fatalf("%s: got offsets %v for %d rows", &c.Type, c.Off, n)
	}
	end := int(c.Off[n])
	if c.Type.Kind == String {
		if len(c.Bytes) != end {
			t.Fatalf("%s: got %d bytes, the last row ends at %d", &c.Type, len(c.Bytes), end)
		}
		return
	}
	if c.Key != nil {
		checkColumn(t, c.Key, end)
	}
	checkColumn(t, c.Elem, end)
}

// Every operation on a column is compared with the same operation on a list of rows as texts, for all types.
func TestColumn_operationsAgreeWithAModel(t *testing.T) {
	for i, text := range allTypes() {
		t.Run(text, func(t *testing.T) {
			for seed := range uint64(6) {
				drive(t, mustType(t, text), random(seed*977+uint64(i)+1, 4000))
			}
		})
	}
}

func drive(t *testing.T, typ Type, from *choices) {
	t.Helper()
	c := NewColumn(typ)
	var model []string
	for len(from.data) > 0 {
		switch from.next(8) {
		case 0, 1, 2:
			appendSome(&c, from)
			model = append(model, show(&c, c.Len()-1))
		case 3:
			n := from.next(len(model) + 2)
			c.Truncate(n)
			model = model[:min(n, len(model))]
		case 4:
			var rows []uint32
			var kept []string
			for i := range model {
				if from.next(4) > 0 {
					rows, kept = append(rows, uint32(i)), append(kept, model[i])
				}
			}
			c.keep(rows)
			model = kept
		case 5:
			other := NewColumn(typ)
			for range from.next(4) {
				appendSome(&other, from)
			}
			c.AppendAll(&other)
			model = append(model, showAll(&other)...)
		case 6:
			other := NewColumn(typ)
			appendSome(&other, from)
			appendSome(&other, from)
			c.AppendFrom(&other, 1)
			model = append(model, show(&other, 1))
		case 7:
			unfinished(&c, from)
		}
		checkColumn(t, &c, len(model))
	}
	if diff := cmp.Diff(model, showAll(&c), cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("rows (-want +got):\n%s", diff)
	}
}

// unfinished appends elements of a list that is never closed, as a decoder does before it refuses a record, and takes them
// back.
func unfinished(c *Column, from *choices) {
	if c.Elem != nil {
		for range from.next(3) {
			appendSome(c.Elem, from)
		}
		if c.Key != nil {
			appendSome(c.Key, from)
		}
	}
	c.Truncate(c.Len())
}

func TestColumn_readsWhatWasAppended(t *testing.T) {
	ints := map[string][]int64{
		"int8": {-128, 127}, "int16": {-32768, 32767}, "int32": {-1 << 31, 1<<31 - 1}, "int64": {-1 << 63, 1<<63 - 1},
		"uint8": {0, 255}, "uint16": {0, 65535}, "uint32": {0, 1<<32 - 1}, "uint64": {0, 1<<63 - 1}, "date": {-1, 1},
		"timestamp(9)": {-1 << 63, 5}, "ipv4": {0, 1<<32 - 1}, `enum("a" = -5)`: {-5}, "decimal(9, 2)": {-999_999_999}, "decimal(18, 0)": {-1 << 60},
		"nullable(int16)": {-7}, "bool": {0, 1},
	}
	for text, values := range ints {
		c := NewColumn(mustType(t, text))
		for i, v := range values {
			if c.AppendInt(v); c.Int(i) != v {
				t.Errorf("%s: got %d, want %d", text, c.Int(i), v)
			}
		}
	}
	u := NewColumn(mustType(t, "uint64"))
	if u.AppendUint(1<<64 - 1); u.Uint(0) != 1<<64-1 || u.Int(0) != -1 {
		t.Errorf("uint64: got %d and %d", u.Uint(0), u.Int(0))
	}
	for text, want := range map[string]float64{"float32": 0.10000000149011612, "float64": 0.1} {
		c := NewColumn(mustType(t, text))
		if c.AppendFloat(0.1); c.Float(0) != want {
			t.Errorf("%s: got %v, want %v", text, c.Float(0), want)
		}
	}
	b := NewColumn(mustType(t, "bool"))
	b.AppendBool(true)
	b.AppendBool(false)
	if !b.Bool(0) || b.Bool(1) {
		t.Errorf("bool: got %v", b.Fixed)
	}
}

func TestColumn_zeroIsAValueOfTheType(t *testing.T) {
	for _, text := range allTypes() {
		c := NewColumn(mustType(t, text))
		c.AppendZero()
		checkColumn(t, &c, 1)
		if c.IsNull(0) {
			t.Errorf("%s: got null for the zero", text)
		}
	}
	c := NewColumn(mustType(t, `enum("a" = 3, "b" = 0)`))
	if c.AppendZero(); c.Int(0) != 3 {
		t.Errorf("enum: got %d, want the first value's number 3", c.Int(0))
	}
}

// Misuse would damage a column in silence, so it panics.
func TestColumn_misusePanics(t *testing.T) {
	wide, text := NewColumn(mustType(t, "int128")), NewColumn(mustType(t, "string"))
	nulls := NewColumn(mustType(t, "nullable(int8)"))
	nulls.AppendNull()
	plain := NewColumn(mustType(t, "int8"))
	for name, misuse := range map[string]func(){
		"null in a column without nulls":   func() { plain.AppendNull() },
		"null from another column":         func() { plain.AppendAll(&nulls) },
		"null row from another column":     func() { plain.AppendFrom(&nulls, 0) },
		"int in 16 bytes":                  func() { wide.AppendInt(1) },
		"int in a string":                  func() { text.AppendInt(1) },
		"wrong width":                      func() { plain.AppendFixed([]byte{1, 2}) },
		"fixed in a string":                func() { text.AppendFixed(nil) },
		"column of a type that is invalid": func() { c := NewColumn(Type{Kind: Int8}); c.AppendFixed(nil) },
	} {
		if !panics(misuse) {
			t.Errorf("%s: got no panic", name)
		}
	}
	if plain.Len() != 0 {
		t.Errorf("got %d rows after misuse, want 0", plain.Len())
	}
}

func panics(f func()) (yes bool) {
	defer func() { yes = recover() != nil }()
	f()
	return false
}

// A nullable column takes all of one that is not, and the other way round while there is no null.
func TestColumn_appendAllMixesNullability(t *testing.T) {
	plain, nullable := NewColumn(mustType(t, "string")), NewColumn(mustType(t, "nullable(string)"))
	plain.AppendString("a")
	nullable.AppendString("b")
	nullable.AppendAll(&plain)
	nullable.AppendNull()
	checkColumn(t, &nullable, 3)
	if diff := cmp.Diff([]string{`"b"`, `"a"`, "null"}, showAll(&nullable)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	nullable.Truncate(2)
	plain.AppendAll(&nullable)
	checkColumn(t, &plain, 3)
}
