//go:build integration

package integration

import (
	"context"
	"encoding/hex"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// typeCase is a column type with the values of its rows: how they are put into a batch, and what the server shows of them.
type typeCase struct {
	typ  string
	put  []func(c *record.Column)
	want []string
}

func ints(v ...int64) (put []func(*record.Column)) {
	for _, n := range v {
		put = append(put, func(c *record.Column) { c.AppendInt(n) })
	}
	return put
}

func floats(v ...float64) (put []func(*record.Column)) {
	for _, n := range v {
		put = append(put, func(c *record.Column) { c.AppendFloat(n) })
	}
	return put
}

func texts(v ...string) (put []func(*record.Column)) {
	for _, s := range v {
		put = append(put, func(c *record.Column) { c.AppendString(s) })
	}
	return put
}

// fixed takes hexadecimal bytes as they are stored.
func fixed(v ...string) (put []func(*record.Column)) {
	for _, s := range v {
		put = append(put, func(c *record.Column) {
			b, err := hex.DecodeString(s)
			if err != nil {
				panic(err)
			}
			c.AppendFixed(b)
		})
	}
	return put
}

// wide takes decimal integers for columns of more than 8 bytes.
func wide(v ...string) (put []func(*record.Column)) {
	for _, s := range v {
		put = append(put, func(c *record.Column) {
			n, ok := new(big.Int).SetString(s, 10)
			if !ok {
				panic(s)
			}
			width := c.Type.Width()
			if n.Sign() < 0 {
				n.Add(n, new(big.Int).Lsh(big.NewInt(1), uint(width)*8))
			}
			b := n.FillBytes(make([]byte, width))
			slices.Reverse(b)
			c.AppendFixed(b)
		})
	}
	return put
}

func null() func(*record.Column) { return func(c *record.Column) { c.AppendNull() } }

// list makes array rows of element values.
func list(rows ...[]func(*record.Column)) (put []func(*record.Column)) {
	for _, elems := range rows {
		put = append(put, func(c *record.Column) {
			for _, e := range elems {
				e(c.Elem)
			}
			c.CloseList()
		})
	}
	return put
}

// pairs makes a map row.
func pairs(keys, values []func(*record.Column)) func(*record.Column) {
	return func(c *record.Column) {
		for i := range keys {
			keys[i](c.Key)
			values[i](c.Elem)
		}
		c.CloseList()
	}
}

const (
	max128 = "170141183460469231731687303715884105727"
	max256 = "57896044618658097711785492504343953926634992332820282019728792003956564819967"
	nines  = "999999999999999999999999999999999999999999999999999999999999999999999999999" // 75
)

func typeCases() []typeCase {
	return append(numberTypes(), append(textTypes(), nestedTypes()...)...)
}

func numberTypes() []typeCase {
	return []typeCase{
		{"Bool", ints(0, 1), []string{"false", "true"}},
		{"Int8", ints(math.MinInt8, math.MaxInt8), []string{"-128", "127"}},
		{"Int16", ints(math.MinInt16, math.MaxInt16), []string{"-32768", "32767"}},
		{"Int32", ints(math.MinInt32, math.MaxInt32), []string{"-2147483648", "2147483647"}},
		{"Int64", ints(math.MinInt64, math.MaxInt64), []string{"-9223372036854775808", "9223372036854775807"}},
		{"Int128", wide("-"+max128, max128), []string{"-" + max128, max128}},
		{"Int256", wide("-"+max256, max256), []string{"-" + max256, max256}},
		{"UInt8", ints(0, math.MaxUint8), []string{"0", "255"}},
		{"UInt16", ints(0, math.MaxUint16), []string{"0", "65535"}},
		{"UInt32", ints(0, math.MaxUint32), []string{"0", "4294967295"}},
		{"UInt64", ints(0, -1), []string{"0", "18446744073709551615"}},
		{"UInt128", wide("1", "340282366920938463463374607431768211455"), []string{"1", "340282366920938463463374607431768211455"}},
		{"UInt256", wide("0", max256), []string{"0", max256}},
		{"Float32", floats(-1.5, math.MaxFloat32), []string{"-1.5", "3.4028235e38"}},
		{"Float64", floats(math.Inf(-1), math.SmallestNonzeroFloat64), []string{"-inf", "5e-324"}},
		{"Decimal(9, 2)", ints(-999999999, 1), []string{"-9999999.99", "0.01"}},
		{"Decimal(18, 18)", ints(-999999999999999999, 1), []string{"-0.999999999999999999", "0.000000000000000001"}},
		{"Decimal(38, 1)", wide("-"+nines[:38], "15"), []string{"-" + nines[:37] + ".9", "1.5"}},
		{"Decimal(76, 0)", wide("-9"+nines, "9"+nines), []string{"-9" + nines, "9" + nines}},
		{"Date", ints(0, math.MaxUint16), []string{"1970-01-01", "2149-06-06"}},
		{"Date32", ints(-25567, 120529), []string{"1900-01-01", "2299-12-31"}},
		{"DateTime('UTC')", ints(0, math.MaxUint32), []string{"1970-01-01 00:00:00", "2106-02-07 06:28:15"}},
		{"DateTime('Asia/Kolkata')", ints(0, 86400), []string{"1970-01-01 05:30:00", "1970-01-02 05:30:00"}},
		{"DateTime64(0, 'UTC')", ints(-2208988800, 10413791999), []string{"1900-01-01 00:00:00", "2299-12-31 23:59:59"}},
		{"DateTime64(3, 'UTC')", ints(-1, 1_700_000_000_123), []string{"1969-12-31 23:59:59.999", "2023-11-14 22:13:20.123"}},
		{"DateTime64(6, 'Europe/Berlin')", ints(0, 1), []string{"1970-01-01 01:00:00.000000", "1970-01-01 01:00:00.000001"}},
		{"DateTime64(9, 'UTC')", ints(-2208988800_000000000, math.MaxInt64), []string{"1900-01-01 00:00:00.000000000", "2262-04-11 23:47:16.854775807"}},
	}
}

func textTypes() []typeCase {
	uuid := "00112233445566778899aabbccddeeff"
	return []typeCase{
		{"String", texts("", "ü'\\\"\n\x00\xff"), []string{"", "ü'\\\"\n\x00\xff"}},
		{"FixedString(4)", fixed("61620000", "ff00ff00"), []string{"61620000", "FF00FF00"}},
		{"UUID", fixed(uuid, strings.Repeat("0", 32)), []string{"00112233-4455-6677-8899-aabbccddeeff", "00000000-0000-0000-0000-000000000000"}},
		{"IPv4", ints(0x7f000001, 0xffffffff), []string{"127.0.0.1", "255.255.255.255"}},
		{"IPv6", fixed("20010db8000000000000000000000001", strings.Repeat("0", 32)), []string{"2001:db8::1", "::"}},
		{"Enum8('a' = -128, 'b\\'c' = 127)", ints(-128, 127), []string{"a", "b'c"}},
		{"Enum16('x' = -32768, 'y, z)' = 32767)", ints(-32768, 32767), []string{"x", "y, z)"}},
		{"LowCardinality(String)", texts("same", "same"), []string{"same", "same"}},
		{"LowCardinality(FixedString(2))", fixed("6162", "6364"), []string{"ab", "cd"}},
		{"LowCardinality(Nullable(String))", []func(*record.Column){null(), texts("x")[0]}, []string{"NULL", "x"}},
	}
}

func nestedTypes() []typeCase {
	return []typeCase{
		{"Nullable(UInt32)", []func(*record.Column){null(), ints(7)[0]}, []string{"NULL", "7"}},
		{"Nullable(DateTime64(3, 'UTC'))", []func(*record.Column){ints(1)[0], null()}, []string{"1970-01-01 00:00:00.001", "NULL"}},
		{"Nullable(Enum8('a' = 1))", []func(*record.Column){ints(1)[0], null()}, []string{"a", "NULL"}},
		{"Nullable(UUID)", []func(*record.Column){null(), fixed("00112233445566778899aabbccddeeff")[0]}, []string{"NULL", "00112233-4455-6677-8899-aabbccddeeff"}},
		{"Array(Int16)", list(ints(1, -2), nil), []string{"[1,-2]", "[]"}},
		{"Array(Date)", list(ints(1), ints(2, 3)), []string{"['1970-01-02']", "['1970-01-03','1970-01-04']"}},
		{"Array(Nullable(String))", list([]func(*record.Column){null(), texts("a")[0]}, texts("b")), []string{"[NULL,'a']", "['b']"}},
		{"Array(LowCardinality(String))", list(texts("a", "a"), texts("b")), []string{"['a','a']", "['b']"}},
		{"Array(Array(UInt8))", list(list(ints(1, 2), nil), nil), []string{"[[1,2],[]]", "[]"}},
		{"Map(String, UInt64)", []func(*record.Column){pairs(texts("a", "b"), ints(1, 2)), pairs(nil, nil)}, []string{"{'a':1,'b':2}", "{}"}},
		{
			"Map(LowCardinality(String), Array(Nullable(Float64)))",
			[]func(*record.Column){pairs(nil, nil), pairs(texts("k"), list([]func(*record.Column){null(), floats(0.5)[0]}))},
			[]string{"{}", "{'k':[NULL,0.5]}"},
		},
		{"Map(UInt8, Map(String, Date))", []func(*record.Column){
			pairs(ints(1), []func(*record.Column){pairs(texts("x"), ints(9))}), pairs(nil, nil),
		}, []string{"{1:{'x':'1970-01-10'}}", "{}"}},
	}
}

// Goal: every value of every type arrives as it was, through each compression, in the first attempt and in the conditional one.
// Method: one table with a column of each type; rows are compared through the server's own text form. Each row comes in a batch
// of its own, so that columns are put together from several.
func TestClickHouse_everyTypeArrivesAsItWas(t *testing.T) {
	s := clickHouseServer(t)
	cases := typeCases()
	for _, compression := range []string{"lz4", "zstd", "none"} {
		t.Run(compression, func(t *testing.T) {
			table := "types_" + compression
			columns := make([]string, len(cases))
			for i, c := range cases {
				columns[i] = fmt.Sprintf("c%d %s", i, c.typ)
			}
			s.exec(t, "CREATE TABLE "+table+" (row UInt8, "+strings.Join(columns, ", ")+
				", _ingestd_block UInt64) ENGINE = MergeTree PARTITION BY row ORDER BY row"+durable)
			settings := chSettings(s.addr, table)
			settings.Compression = compression
			schema := inspect(t, settings).Schema
			id := sink.Identity{StoreID: "store", Pipeline: table, Sink: "sink"}
			store := newMemorySegments()
			r := openRun(t, settings, id, store, 1, nil)
			r.assemble()
			w, err := r.sink.Writer(context.Background(), 0, schema)
			if err != nil {
				t.Fatal(err)
			}
			for row := range 2 {
				b := record.NewBatch(schema)
				b.Cols[0].AppendInt(int64(row))
				for i := range cases {
					cases[i].put[row](&b.Cols[i+1])
				}
				b.AppendMeta(record.RowMeta{Offset: record.Offset(row)})
				if refused, err := w.Write(context.Background(), b); err != nil || len(refused) > 0 {
					t.Fatal(refused, err)
				}
			}
			part, err := w.Prepare(context.Background(), sink.Cut{Lease: 1, Checkpoint: 2})
			if err != nil {
				t.Fatal(err)
			}
			units := r.assemble(part)
			r.commit(units...)
			compareTypes(t, s, table, cases)

			// One partition is taken away: a later run puts back just that.
			s.exec(t, "ALTER TABLE "+table+" DROP PARTITION 1")
			r = openRun(t, settings, id, store, 2, r.state, units...)
			r.commit(units...)
			compareTypes(t, s, table, cases)
		})
	}
}

// compareTypes compares two rows of all columns with what they should be.
func compareTypes(t *testing.T, s *clickHouse, table string, cases []typeCase) {
	t.Helper()
	for i, c := range cases {
		show := "toString" // which cuts zeros off
		if strings.HasPrefix(c.typ, "FixedString") {
			show = "hex"
		}
		got := s.text(t, fmt.Sprintf("SELECT ifNull(%s(c%d), 'NULL') FROM %s ORDER BY row", show, i, table))
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.typ, diff)
		}
	}
}

// Every value that the server can't hold, or would change without a word, is refused when it is written, with the column.
func TestClickHouse_valuesOutOfRangeAreRefusedAtWrite(t *testing.T) {
	s := clickHouseServer(t)
	cases := []typeCase{
		{typ: "Date", put: ints(-1, math.MaxUint16+1)},
		{typ: "Date32", put: ints(-25568, 120530)},
		{typ: "DateTime", put: ints(-1, math.MaxUint32+1)},
		{typ: "DateTime64(3)", put: ints(-2208988800001, 10413792000000)},
		{typ: "DateTime64(9)", put: ints(math.MinInt64)},
		{typ: "Enum8('a' = 1)", put: ints(2, 0)},
		{typ: "Decimal(4, 2)", put: ints(10000, -10000)},
		{typ: "Decimal(38, 0)", put: wide("1"+strings.Repeat("0", 38), "-"+max128)},
		{typ: "Decimal(76, 0)", put: wide(max256, "-"+max256)},
		{typ: "Array(Date)", put: list(ints(0, -1), ints(1<<20))},
		{typ: "Map(String, Enum8('a' = 1))", put: []func(*record.Column){pairs(texts("x", "y"), ints(1, 5))}},
	}
	for i, c := range cases {
		t.Run(c.typ, func(t *testing.T) {
			table := fmt.Sprintf("range_%d", i)
			s.exec(t, "CREATE TABLE "+table+" (row UInt8, c "+c.typ+", _ingestd_block UInt64) ENGINE = MergeTree ORDER BY row"+durable)
			settings := chSettings(s.addr, table)
			schema := inspect(t, settings).Schema
			r := openRun(t, settings, sink.Identity{StoreID: "store", Pipeline: table, Sink: "sink"}, newMemorySegments(), 1, nil)
			w, err := r.sink.Writer(context.Background(), 0, schema)
			if err != nil {
				t.Fatal(err)
			}
			b := record.NewBatch(schema)
			for row, put := range c.put {
				b.Cols[0].AppendInt(int64(row))
				put(&b.Cols[1])
				b.AppendMeta(record.RowMeta{})
			}
			refused, err := w.Write(context.Background(), b)
			if err != nil {
				t.Fatal(err)
			}
			if len(refused) != len(c.put) {
				t.Fatalf("got %d refusals, want %d: %+v", len(refused), len(c.put), refused)
			}
			for row, f := range refused {
				if f.Row != row || f.Column != "c" || f.Reason == "" {
					t.Errorf("got %+v, want row %d, column c and a reason", f, row)
				}
			}
		})
	}
}
