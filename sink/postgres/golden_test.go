package postgres

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"math/big"
	"strings"
	"sync"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// typeOf parses a record's type.
func typeOf(t *testing.T, text string) record.Type {
	t.Helper()
	typ, err := record.ParseType(text)
	if err != nil {
		t.Fatal(err)
	}
	return typ
}

// column of the server's types, as readTypes finds them.
func shapeOf(t *testing.T, name string, mod int) *shape {
	t.Helper()
	types := pgTypes{
		"20": {oid: "20", name: "int8", kind: "b", base: "0", elem: "0", schema: "pg_catalog"},
		"25": {oid: "25", name: "text", kind: "b", base: "0", elem: "0", schema: "pg_catalog"},
	}
	typ := &pgType{oid: "1", name: name, kind: "b", base: "0", elem: "0", schema: "pg_catalog"}
	switch name {
	case "_int8":
		typ.elem = "20"
	case "_text":
		typ.elem = "25"
	case "mood":
		typ.kind, typ.schema, typ.labels = "e", "public", []string{"sad", "ok"}
	}
	s, err := types.shape(typ, mod, 1)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The bytes of a field, from the server's own send functions (SELECT encode(int8send(…), 'hex') and the like), with its length.
func TestCell_goldenBytes(t *testing.T) {
	const noMod, oneAndNull = -1, "00000024 00000001 00000001 00000014 00000002 00000001 00000008 0000000000000001 ffffffff"
	for _, c := range []struct {
		name string
		mod  int
		typ  string
		put  func(c *record.Column)
		want string
	}{
		{"bool", noMod, "bool", func(c *record.Column) { c.AppendBool(true) }, "00000001 01"},
		{"int2", noMod, "int16", func(c *record.Column) { c.AppendInt(-2) }, "00000002 fffe"},
		{"int4", noMod, "uint8", func(c *record.Column) { c.AppendUint(255) }, "00000004 000000ff"},
		{"int8", noMod, "int64", func(c *record.Column) { c.AppendInt(math.MinInt64) }, "00000008 8000000000000000"},
		{"oid", noMod, "uint32", func(c *record.Column) { c.AppendUint(math.MaxUint32) }, "00000004 ffffffff"},
		{"float4", noMod, "float32", func(c *record.Column) { c.AppendFloat(1.5) }, "00000004 3fc00000"},
		{"float8", noMod, "int32", func(c *record.Column) { c.AppendInt(-3) }, "00000008 c008000000000000"},
		{"text", noMod, "string", func(c *record.Column) { c.AppendString("ü") }, "00000002 c3bc"},
		{"text", noMod, "nullable(string)", func(c *record.Column) { c.AppendNull() }, "ffffffff"},
		{"bytea", noMod, "string", func(c *record.Column) { c.AppendString("\x00\xff") }, "00000002 00ff"},
		{"date", noMod, "date", func(c *record.Column) { c.AppendInt(0) }, "00000004 ffffd533"},
		{"timestamptz", noMod, "timestamp(3)", func(c *record.Column) { c.AppendInt(946684800001) }, "00000008 00000000000003e8"},
		{"timestamp", 3, "timestamp(9)", func(c *record.Column) { c.AppendInt(-1000000) }, "00000008 fffca2fec4c81c18"},
		{"time", noMod, "string", func(c *record.Column) { c.AppendString("00:00:01.5") }, "00000008 000000000016e360"},
		{"jsonb", noMod, "string", func(c *record.Column) { c.AppendString(`{}`) }, "00000003 017b7d"},
		{"json", noMod, "int64", func(c *record.Column) { c.AppendInt(7) }, "00000001 37"},
		{"inet", noMod, "string", func(c *record.Column) { c.AppendString("10.0.0.1/8") }, "00000008 02080004 0a000001"},
		{"cidr", noMod, "string", func(c *record.Column) { c.AppendString("::/0") }, "00000014 03000110 00000000000000000000000000000000"},
		{"mood", noMod, "string", func(c *record.Column) { c.AppendString("ok") }, "00000002 6f6b"},
		{"numeric", noMod, "decimal(18, 4)", func(c *record.Column) { c.AppendInt(-12345678) }, "0000000c 0002 0000 4000 0004 04d2 162e"},
		{"numeric", noMod, "int64", func(c *record.Column) { c.AppendInt(0) }, "00000008 0000 0000 0000 0000"},
		{"numeric", noMod, "int64", func(c *record.Column) { c.AppendInt(100000000) }, "0000000a 0001 0002 0000 0000 0001"},
		{"_int8", noMod, "array(nullable(int64))", func(c *record.Column) { c.Elem.AppendInt(1); c.Elem.AppendNull(); c.CloseList() }, oneAndNull},
		{"_text", noMod, "array(string)", func(c *record.Column) { c.CloseList() }, "0000000c 00000000 00000000 00000019"},
	} {
		t.Run(c.name+" "+c.typ, func(t *testing.T) {
			col := record.NewColumn(typeOf(t, c.typ))
			c.put(&col)
			l, err := newCell(shapeOf(t, c.name, c.mod), &col.Type)
			if err != nil {
				t.Fatal(err)
			}
			if why := l.refuse(&col, 0); why != "" {
				t.Fatalf("refused: %s", why)
			}
			if got, want := hex.EncodeToString(l.append(nil, &col, 0)), strings.ReplaceAll(c.want, " ", ""); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

// What a type can't hold is refused with a reason, at the first value beyond it and not at the last one within.
func TestCell_bounds(t *testing.T) {
	text := func(s string) func(c *record.Column) { return func(c *record.Column) { c.AppendString(s) } }
	number := func(v int64) func(c *record.Column) { return func(c *record.Column) { c.AppendInt(v) } }
	const header, numeric52 = 4, 5<<16 | 2 + 4
	for _, c := range []struct {
		name    string
		mod     int
		typ     string
		in, out func(c *record.Column)
	}{
		{"int2", -1, "int32", number(-32768), number(-32769)},
		{"int4", -1, "uint64", number(math.MaxInt32), number(-1)},
		{"oid", -1, "int64", number(0), number(-1)},
		{"varchar", 3 + header, "string", text("üüü"), text("üüüü")},
		{"text", -1, "string", text("\x01"), text("\x00")},
		{"text", -1, "string", text("ü"), text("\xff")},
		{"mood", -1, "string", text("sad"), text("glad")},
		{"json", -1, "string", text("[1]"), text("[1")},
		{"cidr", -1, "string", text("10.0.0.0/8"), text("10.0.0.1/8")},
		{"inet", -1, "string", text("fe80::1"), text("fe80::1%eth0")},
		{"time", -1, "string", text("24:00:00"), text("24:00:01")},
		{"time", 0, "string", text("12:34:56"), text("12:34:56.7")},
		{"timestamptz", -1, "timestamp(6)", number(timestampMin), number(timestampMin - 1)},
		{"timestamptz", -1, "timestamp(9)", number(1000), number(1001)},
		{"timestamp", 0, "timestamp(3)", number(-1000), number(-1001)},
		{"numeric", numeric52, "int64", number(-999), number(1000)},
		{"numeric", numeric52, "decimal(9, 3)", number(10), number(11)},
	} {
		t.Run(c.name+" "+c.typ, func(t *testing.T) {
			col := record.NewColumn(typeOf(t, c.typ))
			c.in(&col)
			c.out(&col)
			l, err := newCell(shapeOf(t, c.name, c.mod), &col.Type)
			if err != nil {
				t.Fatal(err)
			}
			if why := l.refuse(&col, 0); why != "" {
				t.Errorf("the value within is refused: %s", why)
			}
			if why := l.refuse(&col, 1); why == "" {
				t.Error("the value beyond is taken")
			}
		})
	}
}

func TestCell_lossyPairsAreRefused(t *testing.T) {
	for _, c := range [][2]string{{"float4", "float64"}, {"float8", "int64"}, {"int8", "string"}, {"bool", "int8"}, {"uuid", "string"}, {"timestamptz", "date"}, {"_int8", "int64"}} {
		typ := typeOf(t, c[1])
		if _, err := newCell(shapeOf(t, c[0], -1), &typ); err == nil {
			t.Errorf("%s is written as %s", c[1], c[0])
		}
	}
}

// readNumeric decodes the server's form of a number into value times 10^scale.
func readNumeric(t *testing.T, b []byte) (value *big.Rat, shown int) {
	t.Helper()
	word := func(i int) int { return int(b[2*i])<<8 | int(b[2*i+1]) }
	n, weight := word(0), int(int16(word(1)))
	value = new(big.Rat)
	base := big.NewRat(10_000, 1)
	for i := range n {
		value.Mul(value, base).Add(value, big.NewRat(int64(word(4+i)), 1))
	}
	for e := weight - n + 1; e != 0; {
		if e > 0 {
			value.Mul(value, base)
			e--
		} else {
			value.Quo(value, base)
			e++
		}
	}
	if word(2) == numericNegative {
		value.Neg(value)
	}
	if len(b) != 8+2*n || n > 0 && (word(4) == 0 || word(3+n) == 0) {
		t.Fatalf("%x is not in the shortest form", b)
	}
	return value, word(3)
}

// Every integer of up to 256 bits, at every scale, is the same number in the server's form.
func TestNumeric_isExact(t *testing.T) {
	for _, text := range []string{
		"0", "1", "9999", "10000", "-10001", "99999999", "120000", "57896044618658097711785492504343953926634992332820282019728792003956564819967",
		"-57896044618658097711785492504343953926634992332820282019728792003956564819968", "1000000000000000000000000000000000000000000000000000000000000000000000000000",
	} {
		n, _ := new(big.Int).SetString(text, 10)
		for scale := range 77 {
			raw := make([]byte, 32)
			two := new(big.Int).Set(n)
			if n.Sign() < 0 {
				two.Add(two, new(big.Int).Lsh(big.NewInt(1), 256))
			}
			for i, b := range two.Bytes() {
				raw[len(two.Bytes())-1-i] = b
			}
			v, negative := magnitude(raw, true)
			got, shown := readNumeric(t, appendNumeric(nil, v, negative, decimalForm{have: scale, shown: -1}))
			want := new(big.Rat).SetFrac(n, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil))
			if got.Cmp(want) != 0 {
				t.Fatalf("%s with scale %d: got %s, want %s", text, scale, got.FloatString(80), want.FloatString(80))
			}
			if digits := want.FloatString(shown); new(big.Rat).Sub(want, rat(digits)).Sign() != 0 {
				t.Fatalf("%s with scale %d is shown with %d digits: %s", text, scale, shown, digits)
			}
		}
	}
}

func rat(text string) *big.Rat {
	r, _ := new(big.Rat).SetString(text)
	return r
}

// testStore keeps segments in memory.
type testStore struct {
	mu   sync.Mutex
	data map[string][]byte
	gets int
}

func (s *testStore) Put(_ context.Context, data []byte, rows int64) (sink.Segment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.data == nil {
		s.data = map[string][]byte{}
	}
	name := fmt.Sprint("s", len(s.data))
	s.data[name] = data
	return sink.Segment{Name: name, Bytes: int64(len(data)), Rows: rows, Checksum: xxhash.Sum64(data)}, nil
}

func (s *testStore) Get(_ context.Context, g sink.Segment) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gets++
	return s.data[g.Name], nil
}

// twoColumns is a table (id int8, text text).
func twoColumns(t *testing.T) *table {
	t.Helper()
	return &table{name: tableName{"s", "t"}, kind: "r", keys: [][]string{{"id"}}, columns: []column{
		{name: "id", typ: "bigint", wireType: "bigint", notNull: true, shape: shapeOf(t, "int8", -1)},
		{name: "text", typ: "text", wireType: "text", shape: shapeOf(t, "text", -1)},
	}}
}

func rowsOf(t *testing.T, from, to int) *record.Batch {
	t.Helper()
	b := record.NewBatch(&record.Schema{Fields: []record.Field{{Name: "id", Type: typeOf(t, "int64")}, {Name: "text", Type: typeOf(t, "string")}}})
	b.Meta.Split = "t/0"
	for i := from; i < to; i++ {
		b.Cols[0].AppendInt(int64(i))
		b.Cols[1].AppendString(fmt.Sprint("row ", i))
		b.AppendMeta(record.RowMeta{Offset: record.Offset(i), Value: fmt.Append(nil, "raw ", i)})
	}
	return b
}

// staged writes rows by one writer, with few rows to a segment.
func staged(t *testing.T, store sink.SegmentStore, y *layout, batches ...*record.Batch) *sink.Committable {
	t.Helper()
	w := newWriter(0, store, &Settings{SegmentRows: 7, Segment: 1 << 20})
	w.schema, w.layout, w.raw.Raw = batches[0].Schema, y, true
	for _, b := range batches {
		if refused, err := w.Write(context.Background(), b); err != nil || len(refused) > 0 {
			t.Fatal(refused, err)
		}
	}
	part, err := w.Prepare(context.Background(), sink.Cut{})
	if err != nil {
		t.Fatal(err)
	}
	return &sink.Committable{Rows: part.Rows, Segments: part.Segments, Version: unitVersion, Data: []byte(`{"schema": "s", "table": "t"}`)}
}

// A span's stream is the whole format, whatever segments and batches it begins and ends in, and one segment is read at a time.
func TestLayout_streamHasTheRowsOfItsSpan(t *testing.T) {
	y, err := newLayout(twoColumns(t), rowsOf(t, 0, 0).Schema, &unitData{})
	if err != nil {
		t.Fatal(err)
	}
	store := &testStore{}
	u := staged(t, store, y, rowsOf(t, 0, 5), rowsOf(t, 5, 20), rowsOf(t, 20, 23))
	if len(u.Segments) != 4 || u.Rows != 23 {
		t.Fatalf("got %d segments of %d rows", len(u.Segments), u.Rows)
	}
	for from := range int64(23) {
		for to := from; to <= 23; to++ {
			r := &reader{store: store, unit: u}
			s := y.open(context.Background(), r, span{from, to})
			got, err := io.ReadAll(s.pipe)
			if closed := s.close(); err != nil || closed != nil {
				t.Fatal(err, closed)
			}
			want := []byte(copyHeader)
			for i := from; i < to; i++ {
				text := fmt.Sprint("row ", i)
				want = append(want, 0, 2, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, byte(i), 0, 0, 0, byte(len(text)))
				want = append(want, text...)
			}
			if want = append(want, copyTrailer...); string(got) != string(want) {
				t.Fatalf("span %d to %d: got %x, want %x", from, to, got, want)
			}
		}
	}
}

// A stream that is given up ends its reader.
func TestLayout_streamEndsEarly(t *testing.T) {
	y, err := newLayout(twoColumns(t), rowsOf(t, 0, 0).Schema, &unitData{})
	if err != nil {
		t.Fatal(err)
	}
	store := &testStore{}
	u := staged(t, store, y, rowsOf(t, 0, 100))
	s := y.open(context.Background(), &reader{store: store, unit: u}, span{0, 100})
	if err := s.close(); err != nil {
		t.Errorf("got %v", err)
	}
	u.Rows++ // more than the segments have
	s = y.open(context.Background(), &reader{store: store, unit: u}, span{0, 100})
	if _, err := io.ReadAll(s.pipe); err == nil {
		t.Error("a unit with too few rows is read to its end")
	}
	if err := s.close(); err == nil || !strings.Contains(err.Error(), "the committable says 101") {
		t.Errorf("got %v", err)
	}
}
