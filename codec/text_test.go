package codec

import (
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

func column(tb testing.TB, typ string) record.Column {
	tb.Helper()
	t, err := record.ParseType(typ)
	if err != nil {
		tb.Fatal(err)
	}
	return record.NewColumn(t)
}

// Each text is read and written again; an empty result means that it must be refused.
func TestAppendText_readsAndWritesBack(t *testing.T) {
	tests := []struct{ typ, text, want string }{
		{"int64", "007", "7"},
		{"int64", "+7", ""},
		{"int64", " 7", ""},
		{"int64", "", ""},
		{"int64", "-", ""},
		{"int64", "1_000", ""},
		{"int64", "0x1F", ""},
		{"int64", "12e-1", ""},
		{"int64", "120e-1", "12"},
		{"int64", "1e18", "1000000000000000000"},
		{"int64", "1e19", ""},
		{"int64", ".5", ""},
		{"int64", "5.", ""},
		{"int64", "1e", ""},
		{"int64", "1e+", ""},
		{"int64", "1e1x", ""},
		{"int64", "-0.000e5", "0"},
		{"uint64", "100000000000000000000e-1", "10000000000000000000"},
		{"int256", "-57896044618658097711785492504343953926634992332820282019728792003956564819968", "-57896044618658097711785492504343953926634992332820282019728792003956564819968"},
		{"int256", "57896044618658097711785492504343953926634992332820282019728792003956564819968", ""},
		{"decimal(76, 76)", "0." + strings.Repeat("9", 76), "0." + strings.Repeat("9", 76)},
		{"decimal(76, 0)", strings.Repeat("9", 76), strings.Repeat("9", 76)},
		{"decimal(76, 0)", "1e76", ""},
		{"decimal(9, 9)", "0.000000001", "0.000000001"},
		{"decimal(9, 9)", "1", ""},
		{"decimal(9, 9)", "1e-9", "0.000000001"},
		{"decimal(9, 9)", "1e-10", ""},
		{"decimal(4, 2)", "-12.34", "-12.34"},
		{"decimal(4, 2)", "1234e-2", "12.34"},
		{"decimal(4, 0)", "12", "12"},
		{"float64", "Infinity", "Infinity"},
		{"float64", "inf", ""},
		{"float64", "nan", ""},
		{"float64", "0x1p-2", ""},
		{"float64", "1e21", "1e+21"},
		{"float64", "4.9e-324", "5e-324"},
		{"float32", "3.4028235e38", "3.4028235e+38"},
		{"bool", "TRUE", ""},
		{"bool", "true", "true"},
		{"bool", "false", "false"},
		{"string", "\xff", "\xff"},
		{"fixed_string(2)", "", ""},
		{"date", "0000-01-01", "0000-01-01"},
		{"date", "9999-12-31", "9999-12-31"},
		{"date", "1900-02-29", ""},
		{"date", "2000-02-29", "2000-02-29"},
		{"date", "2000-13-01", ""},
		{"date", "2000-00-01", ""},
		{"date", "2000-01-00", ""},
		{"date", "2000-04-31", ""},
		{"date", "2000-01-01 ", ""},
		{"date", "20000-01-01", ""},
		{"date", "2000/01/01", ""},
		{"timestamp(0)", "2026-11-03T10:11:12", "2026-11-03T10:11:12Z"},
		{"timestamp(0)", "2026-11-03t10:11:12z", "2026-11-03T10:11:12Z"},
		{"timestamp(0)", "2026-11-03_10:11:12", ""},
		{"timestamp(0)", "2026-11-03T24:00:00Z", ""},
		{"timestamp(0)", "2026-11-03T23:60:00Z", ""},
		{"timestamp(0)", "2016-12-31T23:59:60Z", ""}, // a leap second has no place in the count of seconds
		{"timestamp(0)", "2026-11-03T10:11Z", ""},
		{"timestamp(0)", "2026-11-03T10:11:12+0100", ""},
		{"timestamp(0)", "2026-11-03T10:11:12+24:00", ""},
		{"timestamp(0)", "2026-11-03T10:11:12 +01:00", ""},
		{"timestamp(0)", "2026-11-03T10:11:12.Z", ""},
		{"timestamp(0)", "2026-11-03T10:11:12.000Z", "2026-11-03T10:11:12Z"},
		{"timestamp(9)", "2026-11-03T10:11:12.123456789-00:00", "2026-11-03T10:11:12.123456789Z"},
		{"timestamp(9)", "2026-11-03T10:11:12.1234567891Z", ""},
		{"timestamp(6)", "0000-01-01T00:00:00Z", "0000-01-01T00:00:00.000000Z"},
		{"timestamp(6)", "0000-01-01T00:00:00+00:01", ""}, // the year before 0000
		{"timestamp(6)", "9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"},
		{"timestamp(6)", "9999-12-31T23:59:59-00:01", ""},
		{"timestamp(9)", "1677-09-21T00:12:43.145224192Z", "1677-09-21T00:12:43.145224192Z"},
		{"timestamp(9)", "1677-09-21T00:12:43.145224191Z", ""},
		{"timestamp(9)", "2262-04-11T23:47:16.854775807Z", "2262-04-11T23:47:16.854775807Z"},
		{"timestamp(9)", "2262-04-11T23:47:16.854775808Z", ""},
		{`timestamp(3, "America/New_York")`, "2026-01-15 12:00:00.5", "2026-01-15T17:00:00.500Z"},
		{`timestamp(0, "Pacific/Apia")`, "2011-12-30 12:00:00", ""}, // a whole day that was skipped
		{`timestamp(0, "Pacific/Apia")`, "2011-12-31 00:00:00", "2011-12-30T10:00:00Z"},
		{`timestamp(0, "Australia/Lord_Howe")`, "2026-04-05 01:45:00", ""}, // half an hour twice
		{"uuid", "00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000000"},
		{"uuid", "{0000000-0000-0000-0000-00000000000}", ""},
		{"ipv4", "0.0.0.0", "0.0.0.0"},
		{"ipv4", "256.0.0.0", ""},
		{"ipv4", "1.2.3", ""},
		{"ipv6", "::", "::"},
		{"ipv6", "1::2::3", ""},
		{"ipv6", strings.Repeat("0", 100), ""},
		{`enum("é" = 1)`, "é", "é"},
		{`enum("é" = 1)`, "", ""},
		{"array(int8)", "[]", ""},
	}
	for _, test := range tests {
		c := column(t, test.typ)
		err := AppendText(&c, []byte(test.text))
		wantEmpty := test.typ == "fixed_string(2)"
		if err != nil {
			if test.want != "" || wantEmpty || c.Len() != 0 {
				t.Errorf("%s from %q: got error %v and %d rows, want %q", test.typ, test.text, err, c.Len(), test.want)
			}
			continue
		}
		if got := string(AppendValue(nil, &c, 0)); got != test.want || got == "" && !wantEmpty {
			t.Errorf("%s from %q: got %q, want %q", test.typ, test.text, got, test.want)
		}
	}
}

// Every decimal number agrees with math/big: the same value, or a refusal exactly when the type can't hold it.
func TestAppendNumber_agreesWithMathBig(t *testing.T) {
	types := []string{"int8", "uint8", "int32", "int64", "uint64", "int128", "uint128", "int256", "uint256", "decimal(9, 2)", "decimal(18, 6)", "decimal(38, 10)", "decimal(76, 20)"}
	seed := uint64(88172645463325252)
	next := func(n int) int {
		seed ^= seed << 13
		seed ^= seed >> 7
		seed ^= seed << 17
		return int(seed>>33) % n
	}
	taken := 0
	for range 25_000 {
		var b strings.Builder
		if next(3) == 0 {
			b.WriteByte('-')
		}
		for range 1 + next(1+next(80)) {
			b.WriteByte("0123456789000999"[next(16)])
		}
		if next(3) == 0 {
			b.WriteByte('.')
			for range 1 + next(1+next(25)) {
				b.WriteByte("0123456789000000"[next(16)])
			}
		}
		if next(3) == 0 {
			fmt.Fprintf(&b, "e%d", next(60)-30)
		}
		if checkNumber(t, types[next(len(types))], b.String()) {
			taken++
		}
	}
	if taken < 2500 {
		t.Errorf("got %d numbers taken, want enough to say something", taken)
	}
}

func checkNumber(t *testing.T, typ, text string) (taken bool) {
	t.Helper()
	c := column(t, typ)
	err := AppendNumber(&c, []byte(text))
	exact, ok := new(big.Rat).SetString(text)
	if !ok {
		t.Fatalf("%q is not a number", text)
	}
	scaled := new(big.Rat).Mul(exact, new(big.Rat).SetInt(power(10, c.Type.Scale)))
	low, high := limits(&c.Type)
	fits := scaled.IsInt() && scaled.Num().Cmp(low) >= 0 && scaled.Num().Cmp(high) <= 0
	if fits != (err == nil) {
		t.Fatalf("%s from %q: got error %v, want it taken: %t", typ, text, err, fits)
	}
	if !fits {
		return false
	}
	if got := stored(&c); got.Cmp(scaled.Num()) != 0 {
		t.Fatalf("%s from %q: got %s stored, want %s", typ, text, got, scaled.Num())
	}
	written, ok := new(big.Rat).SetString(string(AppendJSONValue(nil, &c, 0)))
	if !ok || written.Cmp(exact) != 0 {
		t.Fatalf("%s from %q: got %s written", typ, text, AppendJSONValue(nil, &c, 0))
	}
	return true
}

func power(base int64, n int) *big.Int {
	return new(big.Int).Exp(big.NewInt(base), big.NewInt(int64(n)), nil)
}

// limits returns the least and the greatest stored integer of a type.
func limits(t *record.Type) (low, high *big.Int) {
	one := big.NewInt(1)
	if t.Kind == record.Decimal {
		high = new(big.Int).Sub(power(10, t.Precision), one)
		return new(big.Int).Neg(high), high
	}
	if !t.Signed() {
		return new(big.Int), new(big.Int).Sub(power(2, 8*t.Width()), one)
	}
	high = new(big.Int).Sub(power(2, 8*t.Width()-1), one)
	return new(big.Int).Neg(power(2, 8*t.Width()-1)), high
}

// stored reads the integer in row 0.
func stored(c *record.Column) *big.Int {
	raw := c.FixedAt(0)
	v := new(big.Int)
	for _, b := range slices.Backward(raw) {
		v.Lsh(v, 8)
		v.Or(v, big.NewInt(int64(b)))
	}
	if c.Type.Signed() && raw[len(raw)-1]&0x80 != 0 {
		v.Sub(v, power(2, 8*len(raw)))
	}
	return v
}

// Dates agree with package time, for every day of the first 400 years, of 1800 to 2200 and of the last 100.
func TestAppendText_datesAgreeWithPackageTime(t *testing.T) {
	c := column(t, "date")
	var text []byte
	for _, years := range [][2]int{{0, 400}, {1800, 2200}, {9900, 9999}} {
		first := time.Date(years[0], 1, 1, 0, 0, 0, 0, time.UTC)
		day := first.Unix() / secondsPerDay
		for at := first; at.Year() <= years[1]; at = at.AddDate(0, 0, 1) {
			c.Truncate(0)
			text = at.AppendFormat(text[:0], time.DateOnly)
			if err := appendDate(&c, text); err != nil || c.Int(0) != day {
				t.Fatalf("%s: got day %v (%v), want %d", text, c.Fixed, err, day)
			}
			day++
		}
	}
}

func FuzzAppendText_timestamps(f *testing.F) {
	f.Add("2026-11-03T10:11:12.5+01:00")
	f.Add("2026-11-03 10:11:12Z")
	f.Add("1969-12-31T23:59:59.999999999-23:59")
	t0, err := record.ParseType("timestamp(9)")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := record.NewColumn(t0)
		if AppendText(&c, []byte(text)) != nil {
			return
		}
		normal := []byte(strings.ToUpper(text))
		normal[10] = 'T'
		want, err := time.Parse("2006-01-02T15:04:05.999999999Z07:00", string(normal))
		if err != nil {
			want, err = time.Parse("2006-01-02T15:04:05.999999999", string(normal))
		}
		if err != nil && strings.Trim(text[20:], "0123456789.Zz+-:") == "" && len(text) > 29 {
			return // more digits of zeros than package time reads
		}
		if err != nil || want.UnixNano() != c.Int(0) {
			t.Fatalf("%q: got %d, package time says %v (%v)", text, c.Int(0), want, err)
		}
	})
}

// Texts that a column was written as read back to the same value, for all values of all types.
func FuzzAppendValue_readsBack(f *testing.F) {
	types := []string{
		"bool", "int8", "int64", "uint64", "int128", "uint256", "float32", "float64", "decimal(9, 2)", "decimal(76, 76)", "string",
		"fixed_string(5)", "date", "timestamp(0)", "timestamp(9)", "uuid", "ipv4", "ipv6", `enum("a" = 1, "b" = -2)`,
	}
	for i := range types {
		f.Add(uint8(i), []byte("0123456789abcdef0123456789abcdef"))
		f.Add(uint8(i), make([]byte, 32))
	}
	f.Fuzz(func(t *testing.T, which uint8, raw []byte) {
		c := column(t, types[int(which)%len(types)])
		w := c.Type.Width()
		if w == 0 {
			c.AppendBytes(raw)
		} else {
			c.AppendFixed(append(raw, make([]byte, w)...)[:w])
		}
		if !sound(&c) {
			AppendJSONValue(nil, &c, 0) // only must not panic
			return
		}
		text := AppendValue(nil, &c, 0)
		again := record.NewColumn(c.Type)
		if err := AppendText(&again, text); err != nil {
			t.Fatalf("%s: %q is refused: %v", &c.Type, text, err)
		}
		if got, want := string(AppendValue(nil, &again, 0)), string(text); got != want {
			t.Fatalf("%s: %q reads back as %q", &c.Type, want, got)
		}
		if c.Type.Kind != record.Float32 && c.Type.Kind != record.Float64 && string(again.Fixed) != string(c.Fixed) {
			t.Fatalf("%s: %q reads back as %x, want %x", &c.Type, text, again.Fixed, c.Fixed)
		}
	})
}

// sound reports whether a stored value is one that a decoder can make.
func sound(c *record.Column) bool {
	switch c.Type.Kind { //nolint:exhaustive // all bytes are values of the other kinds
	case record.Bool:
		return c.Fixed[0] <= 1
	case record.Decimal:
		low, high := limits(&c.Type)
		return stored(c).Cmp(low) >= 0 && stored(c).Cmp(high) <= 0
	case record.Date:
		return c.Int(0)*secondsPerDay >= firstSecond && c.Int(0)*secondsPerDay <= lastSecond
	case record.Timestamp:
		seconds := time.Unix(0, 0).Unix() + c.Int(0)/pow10(c.Type.Precision)
		return seconds > firstSecond && seconds < lastSecond
	case record.Enum:
		_, ok := enumName(c, 0)
		return ok
	}
	return true
}

func TestNewText_unknownZone(t *testing.T) {
	typ := record.Type{Kind: record.Timestamp, Zone: "Mars/Base"}
	if _, err := NewText(&typ); err == nil || fault.KindOf(err) != fault.Misconfigured || !strings.Contains(err.Error(), "Mars/Base") {
		t.Errorf("got error %v, want a misconfigured one that names the zone", err)
	}
}

func TestText_appendTakesNoMemory(t *testing.T) {
	for typ, text := range map[string]string{
		"int8": "-5", "uint64": "18446744073709551615", "int256": "-57896044618658097711785492504343953926634992332820282019728792003956564819968",
		"float64": "0.1234567890123456789012345678901234567890", "float32": "1.5", "decimal(18, 4)": "12345.6789", "decimal(76, 10)": "-1.5",
		"bool": "true", "string": "text", "fixed_string(8)": "text", "date": "2026-11-03", "timestamp(3)": "2026-11-03T10:11:12.5+01:00",
		`timestamp(3, "Europe/Berlin")`: "2026-11-03 10:11:12", "uuid": "0f8fad5b-d9cb-469f-a165-70867728950e", "ipv4": "192.0.2.1", "ipv6": "2001:db8::1",
		`enum("a" = 1, "b" = 2)`: "b",
	} {
		c := column(t, typ)
		x, err := NewText(&c.Type)
		if err != nil {
			t.Fatal(err)
		}
		raw := []byte(text)
		n := testing.AllocsPerRun(100, func() {
			c.Truncate(0)
			if err := x.Append(&c, raw); err != nil {
				t.Fatal(err)
			}
		})
		if n != 0 {
			t.Errorf("%s: got %v allocations, want 0", typ, n)
		}
		out := make([]byte, 0, 200)
		if n := testing.AllocsPerRun(100, func() { out = AppendJSONValue(out[:0], &c, 0) }); n != 0 {
			t.Errorf("%s: got %v allocations to write %s, want 0", typ, n, out)
		}
	}
}

func TestAppendJSON_writesEveryType(t *testing.T) {
	text := func(c *record.Column, s string) {
		t.Helper()
		if err := AppendText(c, []byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	s := &record.Schema{}
	var want []string
	add := func(name, typ, json string) *record.Column {
		c := column(t, typ)
		s.Fields = append(s.Fields, record.Field{Name: name, Type: c.Type})
		want = append(want, json)
		return &c
	}
	var columns []record.Column
	put := func(c *record.Column) { columns = append(columns, *c) }

	c := add("quote\"\n", "nullable(int8)", `"quote\"\n":null`)
	c.AppendNull()
	put(c)
	c = add("s", "string", `"s":"a\"\\/\u0001é"`)
	c.AppendString("a\"\\/\x01é")
	put(c)
	c = add("binary", "string", `"binary":{"base64":"/w=="}`)
	c.AppendString("\xff")
	put(c)
	c = add("fixed", "fixed_string(4)", `"fixed":"a\u0000b"`)
	c.AppendFixed([]byte("a\x00b\x00"))
	put(c)
	c = add("enum", `enum("x" = 1)`, `"enum":9`)
	c.AppendInt(9)
	put(c)
	c = add("nan", "float32", `"nan":"NaN"`)
	text(c, "NaN")
	put(c)
	c = add("far", "timestamp(0)", `"far":"+292277026596-12-04T15:30:07Z"`)
	c.AppendInt(1<<63 - 1)
	put(c)
	c = add("early", "date", `"early":"-5877641-06-23"`)
	c.AppendInt(-1 << 31)
	put(c)
	c = add("list", "array(nullable(string))", `"list":["",null,{"base64":"gA=="}]`)
	c.Elem.AppendString("")
	c.Elem.AppendNull()
	c.Elem.AppendString("\x80")
	c.CloseList()
	put(c)
	c = add("map", "map(int8, bool)", `"map":{"-1":true,"-1":false}`)
	for i := range 2 {
		c.Key.AppendInt(-1)
		c.Elem.AppendBool(i == 0)
	}
	c.CloseList()
	put(c)
	c = add("pairs", "map(string, int8)", `"pairs":[["a",1],[{"base64":"/w=="},2]]`)
	c.Key.AppendString("a")
	c.Elem.AppendInt(1)
	c.Key.AppendString("\xff")
	c.Elem.AppendInt(2)
	c.CloseList()
	put(c)
	c = add("by_enum", `map(enum("x" = 1), bool)`, `"by_enum":{"x":true,"2":true}`)
	c.Key.AppendInt(1)
	c.Key.AppendInt(2)
	c.Elem.AppendBool(true)
	c.Elem.AppendBool(true)
	c.CloseList()
	put(c)
	c = add("by_bool", "map(bool, decimal(3, 1))", `"by_bool":{"true":-0.5}`)
	c.Key.AppendBool(true)
	c.Elem.AppendInt(-5)
	c.CloseList()
	put(c)

	b := &record.Batch{Schema: s, Cols: columns, Rows: 1}
	if got, want := string(AppendJSON(nil, b, 0)), "{"+strings.Join(want, ",")+"}"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	s := &record.Schema{}
	for i, typ := range []string{"uint64", "timestamp(3)", "string", "string", "decimal(18, 2)", "float64", "bool", "nullable(string)"} {
		c := column(b, typ)
		s.Fields = append(s.Fields, record.Field{Name: fmt.Sprintf("column%d", i), Type: c.Type})
	}
	batch := record.NewBatch(s)
	for i, v := range []string{"12345678901", "2026-11-03T10:11:12.5Z", "user-1@example.com", "click", "123.45", "0.12345", "true", "value"} {
		if err := AppendText(&batch.Cols[i], []byte(v)); err != nil {
			b.Fatal(err)
		}
	}
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		out = AppendJSON(out[:0], batch, 0)
	}
	b.SetBytes(int64(len(out)))
}

// The stored form of numbers is little endian whatever the machine is.
func TestAppendNumber_isLittleEndian(t *testing.T) {
	c := column(t, "int128")
	if err := AppendText(&c, []byte("-2")); err != nil {
		t.Fatal(err)
	}
	if low, high := binary.LittleEndian.Uint64(c.Fixed), binary.LittleEndian.Uint64(c.Fixed[8:]); low != 1<<64-2 || high != 1<<64-1 {
		t.Errorf("got %x", c.Fixed)
	}
}
