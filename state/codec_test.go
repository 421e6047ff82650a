package state

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

// testCodec holds a codec to its contract: each value comes back, keys sort as the values do, any bytes are taken without a panic.
func testCodec[T any](t *testing.T, c KeyCodec[T], ascending []T, equal func(a, b T) bool) {
	t.Helper()
	var last []byte
	for i, v := range ascending {
		got, err := c.Decode(c.Append(nil, v))
		if err != nil || !equal(got, v) {
			t.Errorf("%s: %v comes back as %v, %v", c.Type(), v, got, err)
		}
		key := c.AppendKey(nil, v)
		got, err = c.DecodeKey(key)
		if err != nil || !equal(got, v) {
			t.Errorf("%s: key %v comes back as %v, %v", c.Type(), v, got, err)
		}
		if i > 0 && bytes.Compare(last, key) >= 0 {
			t.Errorf("%s: key %v does not sort above %v", c.Type(), v, ascending[i-1])
		}
		last = key
	}
	if c.Version() != 1 {
		t.Errorf("%s: version %d: old values need to be read too", c.Type(), c.Version())
	}
	for _, b := range [][]byte{nil, {0}, {2}, {0x80}, {0, 0}, bytes.Repeat([]byte{0xff}, 8), bytes.Repeat([]byte{0xff}, 20)} {
		if v, err := c.Decode(b); err == nil && !bytes.Equal(c.Append(nil, v), b) {
			t.Errorf("%s: %x is taken as %v, which is written in another way", c.Type(), b, v)
		}
		if v, err := c.DecodeKey(b); err == nil && !bytes.Equal(c.AppendKey(nil, v), b) {
			t.Errorf("%s: key %x is taken as %v, which is written in another way", c.Type(), b, v)
		}
	}
}

func same[T comparable](a, b T) bool { return a == b }

func TestCodecs_bringValuesBackInOrder(t *testing.T) {
	testCodec(t, Int64{}, []int64{math.MinInt64, -1 << 40, -129, -1, 0, 1, 127, 128, 1 << 40, math.MaxInt64}, same)
	testCodec(t, Float64{}, []float64{math.Inf(-1), -1e300, -1.5, -math.SmallestNonzeroFloat64, 0, math.SmallestNonzeroFloat64, 1, 1e300, math.Inf(1)}, same)
	testCodec(t, String{}, []string{"", "\x00", "a", "a\x00", "ab", "b", "\xff"}, same)
	testCodec(t, Bytes{}, [][]byte{{}, {0}, []byte("a"), {0xff}}, bytes.Equal)
	testCodec(t, Bool{}, []bool{false, true}, same)
	nan, err := Float64{}.Decode(Float64{}.Append(nil, math.NaN()))
	if err != nil || !math.IsNaN(nan) {
		t.Errorf("NaN comes back as %v, %v", nan, err)
	}
}

func tupleOf(tb testing.TB, b *record.Batch) Tuple {
	tb.Helper()
	return Tuple{Types: []record.Type{b.Cols[0].Type}}
}

// valueCases are the cases of keys and what can't be one.
func valueCases(tb testing.TB) []*record.Batch {
	tb.Helper()
	return append(keyCases(tb),
		columnOf(tb, "nullable(int64)", func(c *record.Column) { c.AppendNull(); c.AppendInt(0) }),
		columnOf(tb, "uint32", ints(0, 127, 128, math.MaxUint32)),
		columnOf(tb, "float32", floats(1.5)),
		columnOf(tb, "decimal(18, 1)", ints(-5)),
		columnOf(tb, "map(string, array(int32))", func(c *record.Column) {
			c.CloseList()
			c.Key.AppendString("k")
			c.Elem.Elem.AppendInt(-7)
			c.Elem.CloseList()
			c.CloseList()
		}),
	)
}

// Every value of every type comes back as it was; cut short it is refused. The bytes are golden: they are stored.
func TestTuple_bringsRowsBack(t *testing.T) {
	var text strings.Builder
	for _, b := range valueCases(t) {
		tuple := tupleOf(t, b)
		back := record.NewColumn(tuple.Types[0])
		for row := range b.Rows {
			encoded := tuple.AppendRow(nil, b, []int{0}, row)
			_, _ = text.WriteString(tuple.Type() + ": " + hexOf(encoded) + "\n")
			if err := tuple.ReadRow(encoded, &back); err != nil {
				t.Fatalf("%s, row %d: %v", tuple.Type(), row, err)
			}
			for n := range encoded {
				c := record.NewColumn(tuple.Types[0])
				if err := tuple.ReadRow(encoded[:n], &c); err == nil || fault.KindOf(err) != fault.Corrupt {
					t.Errorf("%s, row %d cut to %d bytes: got %v, want corrupt", tuple.Type(), row, n, err)
				}
			}
			c := record.NewColumn(tuple.Types[0])
			if err := tuple.ReadRow(append(slices.Clip(encoded), 0), &c); err == nil {
				t.Errorf("%s, row %d: a byte behind it is taken", tuple.Type(), row)
			}
		}
		want := record.EncodeBatch(nil, b)
		if got := record.EncodeBatch(nil, &record.Batch{Schema: b.Schema, Cols: []record.Column{back}, Rows: b.Rows, Meta: b.Meta}); !bytes.Equal(got, want) {
			t.Errorf("%s: the column is another one", tuple.Type())
		}
	}
	golden(t, "values-1.txt", text.String())
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	out := make([]byte, 0, 2*len(b))
	for _, v := range b {
		out = append(out, digits[v>>4], digits[v&15])
	}
	return string(out)
}

func TestReadValue_refusesWhatIsOutOfRange(t *testing.T) {
	for text, b := range map[string][]byte{
		"int16": Int64{}.Append(nil, 40_000), "date": Int64{}.Append(nil, 1<<31), "uint16": {0xff, 0xff, 0x04}, "bool": {2}, "nullable(bool)": {2, 1},
		"string": {5, 'a'}, "array(int8)": {2, 1}, "uint64": bytes.Repeat([]byte{0xff}, 11),
	} {
		typ := must[record.Type](t)(record.ParseType(text))
		c := record.NewColumn(typ)
		if _, err := ReadValue(b, &c); err == nil {
			t.Errorf("%s: %x is taken", text, b)
		}
	}
}

func FuzzReadValue(f *testing.F) {
	cases := valueCases(f)
	for i, b := range cases {
		for row := range b.Rows {
			f.Add(uint8(i), AppendValue(nil, &b.Cols[0], row))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		b := cases[int(which)%len(cases)]
		c := record.NewColumn(b.Cols[0].Type)
		if _, err := ReadValue(data, &c); err != nil {
			return
		}
		again := AppendValue(nil, &c, 0)
		d := record.NewColumn(b.Cols[0].Type)
		if rest, err := ReadValue(again, &d); err != nil || len(rest) != 0 {
			t.Errorf("%x is taken and written as %x, which is not: %v", data, again, err)
		}
	})
}
