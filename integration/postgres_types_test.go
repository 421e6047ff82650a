//go:build integration

package integration

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/ingestd/ingestd/record"
)

// pgPut appends one value to a column.
type pgPut func(c *record.Column)

func pgNull(c *record.Column)      { c.AppendNull() }
func pgInt(v int64) pgPut          { return func(c *record.Column) { c.AppendInt(v) } }
func pgUint(v uint64) pgPut        { return func(c *record.Column) { c.AppendUint(v) } }
func pgFloat(v float64) pgPut      { return func(c *record.Column) { c.AppendFloat(v) } }
func pgText(v string) pgPut        { return func(c *record.Column) { c.AppendString(v) } }
func pgRaw(v ...byte) pgPut        { return func(c *record.Column) { c.AppendFixed(v) } }
func pgBytes(b byte, n int) []byte { return slices.Repeat([]byte{b}, n) }

// wide is an integer of n bytes, little endian, that is negative by its sign.
func pgWide(v int64, n int) pgPut {
	return func(c *record.Column) {
		raw := make([]byte, n)
		for i := range raw {
			raw[i] = byte(v >> min(8*i, 63))
		}
		c.AppendFixed(raw)
	}
}

func pgList(values ...pgPut) pgPut {
	return func(c *record.Column) {
		for _, v := range values {
			v(c.Elem)
		}
		c.CloseList()
	}
}

func pgPairs(values ...pgPut) pgPut {
	return func(c *record.Column) {
		for i, v := range values {
			if i%2 == 0 {
				v(c.Key)
			} else {
				v(c.Elem)
			}
		}
		c.CloseList()
	}
}

// pgTypeCase is a column of the table, the column of the rows, values, and what the server shows of them.
type pgTypeCase struct {
	server string
	column string
	values []pgPut
	shows  []string
}

func pgPlainTypes() []pgTypeCase {
	far := math.MaxInt64
	return []pgTypeCase{
		{"bool", "bool", []pgPut{pgInt(0), pgInt(1)}, []string{"false", "true"}},
		{"int2", "int16", []pgPut{pgInt(-32768), pgInt(32767), pgInt(0)}, []string{"-32768", "32767", "0"}},
		{"int2", "uint8", []pgPut{pgUint(255)}, []string{"255"}},
		{"int4", "int32", []pgPut{pgInt(math.MinInt32), pgInt(math.MaxInt32)}, []string{"-2147483648", "2147483647"}},
		{"int4", "int8", []pgPut{pgInt(-128)}, []string{"-128"}},
		{"int4", "uint64", []pgPut{pgUint(math.MaxInt32)}, []string{"2147483647"}},
		{"int8", "int64", []pgPut{pgInt(math.MinInt64), pgInt(int64(far))}, []string{"-9223372036854775808", "9223372036854775807"}},
		{"int8", "uint64", []pgPut{pgUint(math.MaxInt64)}, []string{"9223372036854775807"}},
		{"int8", "uint32", []pgPut{pgUint(math.MaxUint32)}, []string{"4294967295"}},
		{"oid", "uint32", []pgPut{pgUint(math.MaxUint32)}, []string{"4294967295"}},
		{"float4", "float32", []pgPut{pgFloat(1.5), pgFloat(math.Inf(-1)), pgFloat(math.NaN())}, []string{"1.5", "-Infinity", "NaN"}},
		{"float8", "float64", []pgPut{pgFloat(math.MaxFloat64), pgFloat(math.SmallestNonzeroFloat64), pgFloat(math.Copysign(0, -1))}, []string{"1.7976931348623157e+308", "5e-324", "-0"}},
		{"float8", "float32", []pgPut{pgFloat(0.5)}, []string{"0.5"}},
		{"float8", "int32", []pgPut{pgInt(math.MinInt32)}, []string{"-2147483648"}},
		{"text", "string", []pgPut{pgText(""), pgText("zażółć 日本 \U0001F600\n\t\\N")}, []string{"", "zażółć 日本 \U0001F600\n\t\\N"}},
		{"varchar(3)", "string", []pgPut{pgText("日本語")}, []string{"日本語"}},
		{"char(4)", "string", []pgPut{pgText("ab")}, []string{"ab"}},
		{"text", "fixed_string(4)", []pgPut{pgRaw('a', 'b', 0, 0)}, []string{"ab"}},
		{"text", `enum("x" = 7, "ü" = -1)`, []pgPut{pgInt(-1)}, []string{"ü"}},
		{"bytea", "string", []pgPut{pgText("\x00\xff'\\"), pgText("")}, []string{`\x00ff275c`, `\x`}},
		{"bytea", "fixed_string(3)", []pgPut{pgRaw(1, 0, 0)}, []string{`\x010000`}},
		{"uuid", "uuid", []pgPut{pgRaw(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255)}, []string{"00010203-0405-0607-0809-0a0b0c0d0eff"}},
		{"date", "date", []pgPut{pgInt(0), pgInt(-2440588), pgInt(2145042905), pgInt(20000)}, []string{"1970-01-01", "4714-11-24 BC", "5874897-12-31", "2024-10-04"}},
		{
			"timestamptz", "timestamp(6)",
			[]pgPut{pgInt(0), pgInt(-1), pgInt(math.MaxInt64), pgInt(-210866803200000000)},
			[]string{"1970-01-01 00:00:00+00", "1969-12-31 23:59:59.999999+00", "294247-01-10 04:00:54.775807+00", "4714-11-24 00:00:00+00 BC"},
		},
		{"timestamptz", "timestamp(0)", []pgPut{pgInt(1_700_000_000)}, []string{"2023-11-14 22:13:20+00"}},
		{"timestamp", "timestamp(9)", []pgPut{pgInt(1_700_000_000_123_456_000)}, []string{"2023-11-14 22:13:20.123456"}},
		{"timestamp(3)", "timestamp(3)", []pgPut{pgInt(1_700_000_000_123)}, []string{"2023-11-14 22:13:20.123"}},
		{"time", "string", []pgPut{pgText("00:00:00"), pgText("23:59:59.999999"), pgText("24:00:00")}, []string{"00:00:00", "23:59:59.999999", "24:00:00"}},
		{"inet", "string", []pgPut{pgText("10.0.0.1/8"), pgText("::1"), pgText("fe80::/10")}, []string{"10.0.0.1/8", "::1/128", "fe80::/10"}},
		{"cidr", "string", []pgPut{pgText("10.0.0.0/8"), pgText("2001:db8::/32")}, []string{"10.0.0.0/8", "2001:db8::/32"}},
		{"inet", "ipv4", []pgPut{pgUint(0xC0A80001)}, []string{"192.168.0.1/32"}},
		{"inet", "ipv6", []pgPut{pgRaw(append(pgBytes(0, 15), 1)...)}, []string{"::1/128"}},
		{"json", "string", []pgPut{pgText(`{"b" : [1, null], "a": "\u00e9"}`)}, []string{`{"b" : [1, null], "a": "\u00e9"}`}},
		{"jsonb", "string", []pgPut{pgText(`{"b":1,"a":[true]}`), pgText("null")}, []string{`{"a": [true], "b": 1}`, "null"}},
		{"jsonb", "map(string, nullable(int64))", []pgPut{pgPairs(pgText("k\""), pgInt(-1))}, []string{`{"k\"": -1}`}},
		{"jsonb", "array(string)", []pgPut{pgList(pgText("a"), pgText("b"))}, []string{`["a", "b"]`}},
		{"mood", `enum("sad" = 0, "it's" = 1)`, []pgPut{pgInt(1), pgInt(0)}, []string{"it's", "sad"}},
		{"mood", "string", []pgPut{pgText("sad")}, []string{"sad"}},
		{"percent", "int32", []pgPut{pgInt(100)}, []string{"100"}},
	}
}

func pgNumericTypes() []pgTypeCase {
	return []pgTypeCase{
		{"numeric", "int64", []pgPut{pgInt(math.MinInt64), pgInt(0), pgInt(10000), pgInt(-10)}, []string{"-9223372036854775808", "0", "10000", "-10"}},
		{"numeric", "uint64", []pgPut{pgUint(math.MaxUint64)}, []string{"18446744073709551615"}},
		{"numeric", "int128", []pgPut{pgWide(-1, 16), pgRaw(append(pgBytes(0, 15), 0x80)...)}, []string{"-1", "-170141183460469231731687303715884105728"}},
		{"numeric", "uint128", []pgPut{pgRaw(pgBytes(255, 16)...)}, []string{"340282366920938463463374607431768211455"}},
		{"numeric", "int256", []pgPut{pgRaw(append(pgBytes(0, 31), 0x80)...)}, []string{"-57896044618658097711785492504343953926634992332820282019728792003956564819968"}},
		{"numeric", "uint256", []pgPut{pgRaw(pgBytes(255, 32)...)}, []string{"115792089237316195423570985008687907853269984665640564039457584007913129639935"}},
		{"numeric(10, 2)", "decimal(10, 2)", []pgPut{pgInt(-1), pgInt(9_999_999_999), pgInt(0), pgInt(150)}, []string{"-0.01", "99999999.99", "0.00", "1.50"}},
		{"numeric(12, 5)", "decimal(9, 3)", []pgPut{pgInt(123_456_789), pgInt(-1)}, []string{"123456.78900", "-0.00100"}},
		{"numeric(10, 2)", "decimal(18, 4)", []pgPut{pgInt(12_300), pgInt(-100)}, []string{"1.23", "-0.01"}},
		{"numeric", "decimal(76, 38)", []pgPut{pgWide(1, 32), pgWide(-1, 32)}, []string{"0." + strings.Repeat("0", 37) + "1", "-0." + strings.Repeat("0", 37) + "1"}},
		{"numeric", "decimal(38, 7)", []pgPut{pgWide(1_234_567, 16), pgWide(10_000_000, 16), pgWide(-1_200_000_000, 16)}, []string{"0.1234567", "1", "-120"}},
		{"numeric(3, 3)", "decimal(9, 3)", []pgPut{pgInt(999), pgInt(-1)}, []string{"0.999", "-0.001"}},
	}
}

func pgNestedTypes() []pgTypeCase {
	return []pgTypeCase{
		{"int4[]", "array(nullable(int32))", []pgPut{pgList(pgInt(1), pgNull, pgInt(-3)), pgList()}, []string{"{1,NULL,-3}", "{}"}},
		{"text[]", "array(string)", []pgPut{pgList(pgText("a,b"), pgText(""), pgText("NULL"))}, []string{`{"a,b","","NULL"}`}},
		{"int8[][]", "array(array(int64))", []pgPut{pgList(pgList(pgInt(1), pgInt(2)), pgList(pgInt(3), pgInt(4))), pgList()}, []string{"{{1,2},{3,4}}", "{}"}},
		{"numeric(6, 2)[]", "array(decimal(6, 2))", []pgPut{pgList(pgInt(150), pgInt(-1))}, []string{"{1.50,-0.01}"}},
		{"mood[]", "array(string)", []pgPut{pgList(pgText("it's"))}, []string{"{it's}"}},
		{"timestamptz[]", "array(timestamp(3))", []pgPut{pgList(pgInt(0))}, []string{`{"1970-01-01 00:00:00+00"}`}},
		{"jsonb[]", "array(string)", []pgPut{pgList(pgText(`{"a":1}`))}, []string{`{"{\"a\": 1}"}`}},
		{"inet[]", "array(nullable(string))", []pgPut{pgList(pgText("10.0.0.1"), pgNull)}, []string{"{10.0.0.1,NULL}"}},
		{"percent[]", "array(int32)", []pgPut{pgList(pgInt(7))}, []string{"{7}"}},
		{"int4range", "string", []pgPut{pgText("[1,5)"), pgText("empty"), pgText("(,3]")}, []string{"[1,5)", "empty", "(,4)"}},
		{"tstzrange", "string", []pgPut{pgText("[2024-01-01 00:00+00,)")}, []string{`["2024-01-01 00:00:00+00",)`}},
		{"int4range[]", "string", []pgPut{pgText(`{"[1,2)"}`)}, []string{`{"[1,2)"}`}},
		{"interval", "string", []pgPut{pgText("1 day 02:03:04")}, []string{"1 day 02:03:04"}},
		{"timetz", "string", []pgPut{pgText("12:00:00+02")}, []string{"12:00:00+02"}},
		{"macaddr", "string", []pgPut{pgText("08:00:2b:01:02:03")}, []string{"08:00:2b:01:02:03"}},
		{"point", "string", []pgPut{pgText("(1,2)")}, []string{"(1,2)"}},
		{"bit(4)", "string", []pgPut{pgText("1010")}, []string{"1010"}},
		{"tsvector", "string", []pgPut{pgText("'a':1 'b'")}, []string{"'a':1 'b'"}},
		{"name", "string", []pgPut{pgText("x")}, []string{"x"}},
		{"pair", "string", []pgPut{pgText("(1,a)")}, []string{"(1,a)"}},
	}
}

// Every type of the server comes back as it was written, nulls and extremes among the values.
func TestPostgres_typesComeBack(t *testing.T) {
	s := postgresServer(t)
	s.exec(t, "CREATE SCHEMA kinds", "SET search_path = kinds, public; CREATE TYPE public.mood AS ENUM ('sad', 'it''s')", "CREATE DOMAIN public.percent AS int4 CHECK (VALUE BETWEEN 0 AND 100)",
		"CREATE TYPE public.pair AS (a int, b text)", "ALTER DATABASE db SET timezone = 'UTC'", "ALTER DATABASE db SET extra_float_digits = 1")
	for i, c := range slices.Concat(pgPlainTypes(), pgNumericTypes(), pgNestedTypes()) {
		t.Run(c.server+" from "+c.column, func(t *testing.T) {
			table := fmt.Sprintf("t%d", i)
			s.exec(t, "CREATE TABLE kinds."+table+" (n int4, c "+c.server+")")
			column := c.column
			if !strings.HasPrefix(column, "nullable(") && !strings.HasPrefix(column, "array(") && !strings.HasPrefix(column, "map(") {
				column = "nullable(" + column + ")"
				c.values, c.shows = append(c.values, pgNull), append(c.shows, "∅")
			}
			schema := typed(t, "n int32", "c "+column)
			settings := s.settings(table)
			settings.Schema = "kinds"
			r := openPostgres(t, settings, pgOpen{id: pgIdentity(table), store: newMemorySegments(), lease: 1})
			b := record.NewBatch(schema)
			for n, v := range c.values {
				b.Cols[0].AppendInt(int64(n))
				v(&b.Cols[1])
				b.AppendMeta(record.RowMeta{Offset: record.Offset(n)})
			}
			if refused := r.write(b); len(refused) > 0 {
				t.Fatalf("refused: %+v", refused)
			}
			r.commit(r.cut()...)
			if got := s.text(t, "SELECT c::text FROM kinds."+table+" ORDER BY n"); !slices.Equal(got, c.shows) {
				t.Errorf("got %q, want %q", got, c.shows)
			}
		})
	}
}

// What the type can't hold is refused by Write, row by row, and the rest is stored.
func TestPostgres_writeRefusesWhatCantBeStored(t *testing.T) {
	s := postgresServer(t)
	s.exec(t, "CREATE SCHEMA refusals", "CREATE TYPE refusals.light AS ENUM ('red', 'green')")
	cases := []struct {
		server, column string
		bad, good      pgPut
		why            string
	}{
		{"int2", "int32", pgInt(40000), pgInt(-5), "out of the range of int2"},
		{"int8", "uint64", pgUint(1 << 63), pgUint(1), "out of the range of int8"},
		{"text", "string", pgText("a\x00b"), pgText("a"), "zero byte"},
		{"text", "string", pgText("\xff"), pgText("a"), "UTF-8"},
		{"varchar(3)", "string", pgText("日本語日"), pgText("日本語"), "more than the 3 characters"},
		{"refusals.light", "string", pgText("blue"), pgText("red"), "no value of light"},
		{"refusals.light", `enum("blue" = 1, "red" = 2)`, pgInt(1), pgInt(2), "no value of light"},
		{"json", "string", pgText("{"), pgText("{}"), "not valid JSON"},
		{"jsonb", "string", pgText("abc"), pgText(`"abc"`), "not valid JSON"},
		{"numeric(5, 2)", "decimal(9, 2)", pgInt(100_000), pgInt(99_999), "more digits than numeric(5, 2) before"},
		{"numeric(5, 2)", "decimal(9, 3)", pgInt(1_001), pgInt(1_010), "behind the point"},
		{"numeric(2, 0)", "int64", pgInt(100), pgInt(-99), "before the point"},
		{"date", "date", pgInt(-2440589), pgInt(0), "out of the range of date"},
		{"timestamptz", "timestamp(0)", pgInt(-210866803201), pgInt(0), "out of the range of timestamptz"},
		{"timestamptz", "timestamp(9)", pgInt(1), pgInt(1000), "behind the second"},
		{"timestamp(0)", "timestamp(3)", pgInt(1), pgInt(1000), "behind the second"},
		{"time", "string", pgText("25:00:00"), pgText("12:30:00"), "no time of day"},
		{"time(0)", "string", pgText("12:30:00.5"), pgText("12:30:00"), "no time of day"},
		{"inet", "string", pgText("1.2.3"), pgText("1.2.3.4"), "no inet"},
		{"cidr", "string", pgText("10.0.0.1/8"), pgText("10.0.0.0/8"), "no cidr"},
		{"int2[]", "array(int32)", pgList(pgInt(1), pgInt(40000)), pgList(pgInt(1)), "out of the range"},
		{"int4[][]", "array(array(int32))", pgList(pgList(pgInt(1)), pgList()), pgList(pgList(pgInt(1)), pgList(pgInt(2))), "one length"},
		{"int4 NOT NULL", "nullable(int32)", pgNull, pgInt(1), "null"},
	}
	for i, c := range cases {
		t.Run(c.server+" from "+c.column, func(t *testing.T) {
			table := fmt.Sprintf("t%d", i)
			s.exec(t, "CREATE TABLE refusals."+table+" (c "+c.server+")")
			settings := s.settings(table)
			settings.Schema = "refusals"
			r := openPostgres(t, settings, pgOpen{id: pgIdentity(table), store: newMemorySegments(), lease: 1})
			b := record.NewBatch(typed(t, "c "+c.column))
			for n, v := range []pgPut{c.good, c.bad, c.good, c.bad} {
				v(&b.Cols[0])
				b.AppendMeta(record.RowMeta{Offset: record.Offset(n)})
			}
			refused := r.write(b)
			if len(refused) != 2 || refused[0].Row != 1 || refused[1].Row != 3 || refused[0].Column != "c" || !strings.Contains(refused[0].Reason, c.why) {
				t.Fatalf("got %+v, want rows 1 and 3 for %q", refused, c.why)
			}
			r.commit(r.cut()...)
			if got := s.one(t, "SELECT count(*) FROM refusals."+table); got != "2" {
				t.Errorf("got %s rows, want 2", got)
			}
		})
	}
}
