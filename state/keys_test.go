package state

import (
	"encoding/hex"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

func columnOf(tb testing.TB, text string, fill func(c *record.Column)) *record.Batch {
	tb.Helper()
	typ, err := record.ParseType(text)
	check(tb, err)
	b := record.NewBatch(&record.Schema{Fields: []record.Field{{Name: "c", Type: typ}}})
	fill(&b.Cols[0])
	for range b.Cols[0].Len() {
		b.AppendMeta(record.RowMeta{})
	}
	return b
}

func ints(values ...int64) func(c *record.Column) {
	return func(c *record.Column) {
		for _, v := range values {
			c.AppendInt(v)
		}
	}
}

func floats(values ...float64) func(c *record.Column) {
	return func(c *record.Column) {
		for _, v := range values {
			c.AppendFloat(v)
		}
	}
}

func texts(values ...string) func(c *record.Column) {
	return func(c *record.Column) {
		for _, v := range values {
			c.AppendString(v)
		}
	}
}

func fixedBytes(hexes ...string) func(c *record.Column) {
	return func(c *record.Column) {
		for _, h := range hexes {
			b, err := hex.DecodeString(h)
			if err != nil {
				panic(err)
			}
			c.AppendFixed(append(b, make([]byte, c.Type.Width()-len(b))...))
		}
	}
}

// keyCases are columns with values of every class; all values are different.
func keyCases(tb testing.TB) []*record.Batch {
	tb.Helper()
	nan := math.Float64frombits(0xfff8000000000123)
	return []*record.Batch{
		columnOf(tb, "bool", ints(0, 1)),
		columnOf(tb, "int8", ints(0, 1, -1, 127, -128)),
		columnOf(tb, "int64", ints(128, -129, 255, 256, -32768, 32768, math.MaxInt64, math.MinInt64)),
		columnOf(tb, "uint64", func(c *record.Column) { c.AppendUint(math.MaxUint64); c.AppendUint(1 << 63) }),
		columnOf(tb, "uint256", fixedBytes(strings.Repeat("ff", 32))),
		columnOf(tb, "int256", fixedBytes(strings.Repeat("00", 31)+"80")),
		columnOf(tb, "int128", fixedBytes("000000000000000001")),
		columnOf(tb, "float64", floats(0, 1.5, -1.5, math.Inf(1), nan)),
		columnOf(tb, "decimal(9, 2)", ints(0, 150, -150)),
		columnOf(tb, "decimal(9, 3)", ints(150)),
		columnOf(tb, "decimal(38, 2)", fixedBytes("000000000000000001")),
		columnOf(tb, "string", texts("", "a", "ab", "\x00", strings.Repeat("x", 300))),
		columnOf(tb, "fixed_string(3)", fixedBytes("616263", "000000")),
		columnOf(tb, "date", ints(0, -1)),
		columnOf(tb, "timestamp(3)", ints(0, -1)),
		columnOf(tb, "timestamp(0)", ints(0)),
		columnOf(tb, "uuid", fixedBytes("01")),
		columnOf(tb, "ipv4", ints(1)),
		columnOf(tb, "ipv6", fixedBytes("01")),
		columnOf(tb, `enum("a" = 1, "b" = -2)`, ints(1, -2)),
		columnOf(tb, "nullable(string)", func(c *record.Column) { c.AppendNull() }),
		columnOf(tb, "array(nullable(int16))", func(c *record.Column) {
			c.CloseList()
			c.Elem.AppendInt(5)
			c.CloseList()
			c.Elem.AppendInt(5)
			c.Elem.AppendNull()
			c.CloseList()
			c.Elem.AppendNull()
			c.CloseList()
		}),
	}
}

// Different values of whatever type are different keys, none is the beginning of another, and each is read back as it was. The bytes are
// golden: state is stored by them.
func TestAppendKey_isCanonicalAndReadBack(t *testing.T) {
	var seen []string
	var text strings.Builder
	for _, b := range keyCases(t) {
		typ := &b.Cols[0].Type
		for row := range b.Rows {
			key := AppendKey(nil, b, []int{0}, row)
			fmt.Fprintf(&text, "%s: %x group %d\n", typ, key, GroupOf(key, 256))
			for _, other := range seen {
				if strings.HasPrefix(string(key), other) || strings.HasPrefix(other, string(key)) {
					t.Errorf("%s: keys %x and %x are the same or one begins with the other", typ, key, other)
				}
			}
			seen = append(seen, string(key))
			back := record.NewColumn(*typ)
			if err := ReadKey(key, &back); err != nil {
				t.Errorf("%s: %v", typ, err)
				continue
			}
			again := &record.Batch{Schema: b.Schema, Cols: []record.Column{back}, Rows: 1}
			if got := AppendKey(nil, again, []int{0}, 0); string(got) != string(key) {
				t.Errorf("%s: key %x comes back as %x", typ, key, got)
			}
		}
	}
	golden(t, "keys-1.txt", text.String())
}

// Equal values give equal keys: whatever the width of an integer or float, the sign of 0, the bits of a NaN, nullable or not.
func TestAppendKey_ofEqualValuesIsTheSame(t *testing.T) {
	nan := math.Float64frombits(0x7ff0000000000001)
	for _, same := range [][]*record.Batch{
		{columnOf(t, "int8", ints(-5)), columnOf(t, "int64", ints(-5)), columnOf(t, "nullable(int32)", ints(-5)), columnOf(t, "int256", fixedBytes("fb"+strings.Repeat("ff", 31)))},
		{columnOf(t, "uint8", ints(200)), columnOf(t, "int16", ints(200)), columnOf(t, "uint128", fixedBytes("c8"))},
		{columnOf(t, "float64", floats(0)), columnOf(t, "float64", floats(math.Copysign(0, -1))), columnOf(t, "float32", floats(0))},
		{columnOf(t, "float64", floats(nan)), columnOf(t, "float64", floats(math.NaN())), columnOf(t, "float32", floats(math.NaN()))},
		{columnOf(t, "string", texts("a")), columnOf(t, "nullable(string)", texts("a"))},
		{columnOf(t, "decimal(9, 2)", ints(7)), columnOf(t, "decimal(18, 2)", ints(7)), columnOf(t, "decimal(38, 2)", fixedBytes("07"))},
	} {
		want := AppendKey(nil, same[0], []int{0}, 0)
		for _, b := range same[1:] {
			if got := AppendKey(nil, b, []int{0}, 0); string(got) != string(want) {
				t.Errorf("%s: got %x, want %x as of %s", &b.Cols[0].Type, got, want, &same[0].Cols[0].Type)
			}
		}
	}
}

func TestReadKey_refusesWhatDoesNotFit(t *testing.T) {
	for _, c := range []struct{ from, to string }{
		{"int64", "string"},
		{"string", "fixed_string(3)"},
		{"int16", "int8"},
		{"int16", "uint16"},
		{"timestamp(3)", "timestamp(6)"},
		{"nullable(int16)", "int16"},
	} {
		b := columnOf(t, c.from, func(col *record.Column) {
			switch {
			case c.from == "string":
				col.AppendString("ab")
			case col.Type.Nullable:
				col.AppendNull()
			default:
				col.AppendInt(-300)
			}
		})
		typ := must[record.Type](t)(record.ParseType(c.to))
		col := record.NewColumn(typ)
		if err := ReadKey(AppendKey(nil, b, []int{0}, 0), &col); err == nil || fault.KindOf(err) != fault.Corrupt {
			t.Errorf("%s read as %s: got %v, want corrupt", c.from, c.to, err)
		}
	}
}

func FuzzReadKey(f *testing.F) {
	cases := keyCases(f)
	for i, b := range cases {
		for row := range b.Rows {
			f.Add(uint8(i), AppendKey(nil, b, []int{0}, row))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, key []byte) {
		b := cases[int(which)%len(cases)]
		c := record.NewColumn(b.Cols[0].Type)
		if err := ReadKey(key, &c); err != nil && fault.KindOf(err) != fault.Corrupt {
			t.Errorf("got %v, want corrupt", err)
		}
	})
}

func TestCheckKeyType_refusesMapsOnly(t *testing.T) {
	for _, b := range keyCases(t) {
		check(t, CheckKeyType(&b.Cols[0].Type))
	}
	for _, text := range []string{"map(string, int8)", "array(map(string, int8))"} {
		typ := must[record.Type](t)(record.ParseType(text))
		if err := CheckKeyType(&typ); err == nil || fault.KindOf(err) != fault.Misconfigured {
			t.Errorf("%s: got %v, want misconfigured", text, err)
		}
	}
}

func TestKeys_keepGathersRows(t *testing.T) {
	b := columnOf(t, "string", texts("a", "bb", "", "dddd", "e"))
	for _, rows := range [][]uint32{{}, {0}, {4}, {0, 1, 2, 3, 4}, {1, 3}, {0, 2, 4}, {0, 1, 4}} {
		var k Keys
		k.Append([]byte("left over"), 1)
		k.Reset()
		for row := range b.Rows {
			k.AppendRow(b, []int{0}, row, 256)
		}
		k.Keep(rows)
		if k.Len() != len(rows) {
			t.Fatalf("keep %v: got %d rows", rows, k.Len())
		}
		for i, row := range rows {
			want := AppendKey(nil, b, []int{0}, int(row))
			if string(k.Key(i)) != string(want) || k.Group(i) != GroupOf(want, 256) {
				t.Errorf("keep %v: row %d is %q, want %q", rows, i, k.Key(i), want)
			}
		}
	}
}

func TestKeys_takeNoMemoryInSteadyState(t *testing.T) {
	b := columnOf(t, "string", texts("a", "bb", "", "dddd", "e"))
	var k Keys
	rows, cols := []uint32{1, 3}, []int{0}
	if n := testing.AllocsPerRun(100, func() {
		k.Reset()
		for row := range b.Rows {
			k.AppendRow(b, cols, row, 256)
		}
		k.Keep(rows)
	}); n != 0 {
		t.Errorf("got %v allocations for a batch, want 0", n)
	}
}
