package step

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/state"
)

// bankOf opens the bank of an aggregate over the column "x" of a type.
func bankOf(tb testing.TB, text, typ string) (bank, record.Type, *record.Batch) {
	tb.Helper()
	c, err := parseCall(text)
	if err != nil {
		tb.Fatal(err)
	}
	parsed, err := record.ParseType(typ)
	if err != nil {
		tb.Fatal(err)
	}
	bound, err := c.fn.bind(c, &parsed)
	if err != nil {
		tb.Fatal(err)
	}
	k, err := bound.open(nil, state.Descriptor{})
	if err != nil {
		tb.Fatal(err)
	}
	return k, bound.result, record.NewBatch(&record.Schema{Fields: []record.Field{{Name: "x", Type: parsed}}})
}

// result returns what an entry shows, as text.
func result(t *testing.T, k bank, typ record.Type, entry int) string {
	t.Helper()
	b := record.NewBatch(&record.Schema{Fields: []record.Field{{Name: "r", Type: typ}}})
	if err := k.emit(&b.Cols[0], entry); err != nil {
		t.Fatal(err)
	}
	b.AppendMeta(record.RowMeta{})
	return texts(b)[0]
}

// addAll adds all rows of a batch to an entry.
func addAll(t *testing.T, k bank, entry int, b *record.Batch) {
	t.Helper()
	for row := range b.Cols[0].Len() {
		if at := (argument{b: b, at: []int{0}, row: row}); !at.null() {
			if err := k.add(entry, at); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestBank_resultsAreTheSameHoweverRowsAreCut adds rows at once, and in parts that go through their stored form and are merged.
func TestBank_resultsAreTheSameHoweverRowsAreCut(t *testing.T) {
	for typ, values := range map[string][]string{
		"int64":                       {"5", "-3", "5", "9223372036854775807", "0", "-9223372036854775808"},
		"nullable(uint8)":             {"255", "null", "0", "7"},
		"float64":                     {"0.1", "-0", "1e300", "NaN", "3"},
		"float32":                     {"0.5", "-2", "1e30"},
		"decimal(76, 3)":              {"1.001", "-99999999999999999999.5", "3"},
		"nullable(string)":            {"b", "", "abc", "null", "B"},
		"timestamp(3)":                {"2020-01-01T00:00:00Z", "1960-01-01T00:00:00Z"},
		"date":                        {"2020-01-01", "1960-01-01"},
		"uuid":                        {"01234567-89ab-cdef-0123-456789abcdef", "ffffffff-89ab-cdef-0123-456789abcdef"},
		"ipv4":                        {"1.2.3.4", "200.2.3.4", "1.2.3.5"},
		"enum(\"x\" = -1, \"y\" = 2)": {"y", "x"},
		"bool":                        {"true", "false"},
		"fixed_string(4)":             {"ab", "b"},
	} {
		for _, text := range []string{
			"count(x)", "sum(x)", "avg(x)", "min(x)", "max(x)", "first(x)", "last(x)", "approx_count_distinct(x, 4)", "top_k(x, 3)",
		} {
			c, err := parseCall(text)
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := record.ParseType(typ)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.fn.bind(c, &parsed); err != nil {
				continue // it has no sum
			}
			k, result1, b := bankOf(t, text, typ)
			for _, v := range values {
				appendText(t, &b.Cols[0], v)
			}
			if v := values[0]; typ == "float64" && (c.fn.name == "sum" || c.fn.name == "avg") && v != "" {
				b.Cols[0].Truncate(3) // with NaN there is nothing to compare
			}
			k.grow(0)
			addAll(t, k, 0, b)
			k.grow(0)
			for row := range b.Cols[0].Len() {
				k.grow(0)
				if at := (argument{b: b, at: []int{0}, row: row}); !at.null() {
					if err := k.add(row+2, at); err != nil {
						t.Fatal(err)
					}
				}
			}
			for row := range b.Cols[0].Len() {
				stored := k.save(nil, row+2)
				k.grow(0)
				rest, err := k.load(append(stored, 0xaa))
				if err != nil || len(rest) != 1 {
					t.Fatalf("%s of %s: %x has the rest %x, %v", text, typ, stored, rest, err)
				}
				if err := k.merge(1, row+2+b.Cols[0].Len()); err != nil {
					t.Fatal(err)
				}
			}
			if got, want := result(t, k, result1, 1), result(t, k, result1, 0); got != want {
				t.Errorf("%s of %s: in parts %s, at once %s", text, typ, got, want)
			}
		}
	}
}

func appendText(t *testing.T, c *record.Column, text string) {
	t.Helper()
	put(t, c, []byte(map[bool]string{true: text, false: fmt.Sprintf("%q", text)}[text == "null"]))
}

func TestBank_ordersAsThePeopleDo(t *testing.T) {
	for _, c := range []struct {
		typ         string
		values      []string
		least, most string
	}{
		{"int8", []string{"3", "-128", "127"}, "-128", "127"},
		{"uint64", []string{"3", "18446744073709551615"}, "3", "18446744073709551615"},
		{"int256", []string{"-5", "4", "-6"}, "-6", "4"},
		{"decimal(20, 2)", []string{"-0.01", "0.02", "-300"}, "-300", "0.02"},
		{"float64", []string{"NaN", "-Infinity", "2"}, `"-Infinity"`, `"NaN"`},
		{"string", []string{"b", "B", "ab"}, `"B"`, `"b"`},
		{"ipv4", []string{"9.0.0.1", "10.0.0.0"}, `"9.0.0.1"`, `"10.0.0.0"`},
		{"date", []string{"1969-12-31", "1970-01-01"}, `"1969-12-31"`, `"1970-01-01"`},
	} {
		for text, want := range map[string]string{"min(x)": c.least, "max(x)": c.most} {
			k, typ, b := bankOf(t, text, c.typ)
			for _, v := range c.values {
				appendText(t, &b.Cols[0], v)
			}
			k.grow(0)
			addAll(t, k, 0, b)
			if got := result(t, k, typ, 0); got != numberOr(got, want) {
				t.Errorf("%s of %s: got %s, want %s", text, c.typ, got, want)
			}
		}
	}
}

// numberOr returns want, or got when both are the same decimal number written with other zeros.
func numberOr(got, want string) string {
	var a, b float64
	if _, err := fmt.Sscan(got, &a); err != nil {
		return want
	}
	if _, err := fmt.Sscan(want, &b); err != nil || a != b {
		return want
	}
	return got
}

// TestBank_averagesRoundHalfAwayFromZero checks averages of decimals, whose scale grows by four.
func TestBank_averagesRoundHalfAwayFromZero(t *testing.T) {
	for _, c := range []struct {
		typ    string
		values []string
		result string
		want   string
	}{
		{"decimal(10, 2)", []string{"0.01", "0.00", "0.00"}, "decimal(38, 6)", "0.003333"},
		{"decimal(10, 2)", []string{"0.01", "0.01", "0.00"}, "decimal(38, 6)", "0.006667"},
		{"decimal(10, 2)", []string{"-0.01", "-0.01", "0.00"}, "decimal(38, 6)", "-0.006667"},
		{"decimal(38, 0)", []string{"99999999999999999999999999999999999999", "99999999999999999999999999999999999998"}, "decimal(76, 4)", "99999999999999999999999999999999999998.5"},
		{"int64", []string{"9007199254740993", "9007199254740993"}, "float64", "9007199254740992"},
	} {
		k, typ, b := bankOf(t, "avg(x)", c.typ)
		for _, v := range c.values {
			appendText(t, &b.Cols[0], v)
		}
		k.grow(0)
		addAll(t, k, 0, b)
		if typ.String() != c.result {
			t.Errorf("avg of %s: got the type %s, want %s", c.typ, &typ, c.result)
		}
		if got, want := result(t, k, typ, 0), numberText(t, c.result, c.want); got != want {
			t.Errorf("avg of %v: got %s, want %s", c.values, got, want)
		}
	}
}

// TestBank_sumOfFloatsKeepsWhatRoundingLoses adds a million small numbers to a great one.
func TestBank_sumOfFloatsKeepsWhatRoundingLoses(t *testing.T) {
	k, typ, b := bankOf(t, "sum(x)", "float64")
	b.Cols[0].AppendFloat(1e16)
	for range 200_000 {
		b.Cols[0].AppendFloat(0.5)
	}
	b.Cols[0].AppendFloat(-1e16)
	k.grow(0)
	addAll(t, k, 0, b)
	if got := result(t, k, typ, 0); got != numberText(t, "float64", "100000") {
		t.Errorf("got %s, want 100000", got)
	}
	b.Cols[0].Truncate(0)
	b.Cols[0].AppendFloat(math.Inf(1))
	b.Cols[0].AppendFloat(1)
	k.grow(0)
	addAll(t, k, 1, b)
	if got := result(t, k, typ, 1); got != `"Infinity"` {
		t.Errorf("got %s, want Infinity", got)
	}
}

// TestBank_sketchIsWithinItsError counts sets of many sizes, of numbers in order and of texts.
func TestBank_sketchIsWithinItsError(t *testing.T) {
	for _, typ := range []string{"int64", "string"} {
		for _, precision := range []int{8, 12} {
			k, result1, b := bankOf(t, fmt.Sprintf("approx_count_distinct(x, %d)", precision), typ)
			k.grow(0)
			next := 1
			for i := 1; i <= 60_000; i++ {
				b.Cols[0].Truncate(0)
				if typ == "int64" {
					b.Cols[0].AppendInt(int64(i))
				} else {
					b.Cols[0].AppendString(fmt.Sprint("user-", i))
				}
				addAll(t, k, 0, b)
				if i != next {
					continue
				}
				next += next/3 + 1
				var got int
				if _, err := fmt.Sscan(result(t, k, result1, 0), &got); err != nil {
					t.Fatal(err)
				}
				// Four standard errors; small sets are counted nearly exactly.
				if limit := 4*1.04/math.Sqrt(float64(int(1)<<precision))*float64(i) + 1; math.Abs(float64(got-i)) > limit {
					t.Errorf("%s, precision %d: %d different values are counted as %d", typ, precision, i, got)
				}
			}
			if n := len(k.save(nil, 0)); n != 1+1<<precision {
				t.Errorf("precision %d takes %d bytes", precision, n)
			}
		}
	}
}

// TestBank_topKeepsTheMostFrequent mixes few frequent values with many rare ones, more than are held.
func TestBank_topKeepsTheMostFrequent(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	k, typ, b := bankOf(t, "top_k(x, 3)", "int64")
	k.grow(0)
	for i := range 20_000 {
		v := int64(1000 + i) // each once
		switch n := random.IntN(100); {
		case n < 20:
			v = 1
		case n < 35:
			v = 2
		case n < 45:
			v = 3
		}
		b.Cols[0].Truncate(0)
		b.Cols[0].AppendInt(v)
		addAll(t, k, 0, b)
	}
	if got := result(t, k, typ, 0); got != "[1,2,3]" {
		t.Errorf("got %s, want [1,2,3]", got)
	}
	top, ok := k.(*topBank)
	if !ok || len(top.list[0].items) != 3*topHeld {
		t.Errorf("held are %d values", len(top.list[0].items))
	}
	for _, item := range top.list[0].items {
		if item.over > item.count {
			t.Errorf("count %d is over by %d", item.count, item.over)
		}
	}
}

// FuzzBank_loadsAnyBytes reads accumulators from anything: no panic, no loop, and what is read can be written, read and shown.
func FuzzBank_loadsAnyBytes(f *testing.F) {
	texts := []string{"count(x)", "sum(x)", "avg(x)", "min(x)", "last(x)", "approx_count_distinct(x, 4)", "top_k(x, 3)"}
	types := []string{"int64", "nullable(string)", "decimal(38, 2)", "float64", "array(nullable(string))"}
	f.Add(uint8(1), uint8(0), []byte{1, 1, 5})
	f.Add(uint8(5), uint8(1), []byte{0, 2, 1, 3, 4, 5})
	f.Add(uint8(6), uint8(1), []byte{1, 2, 0, 3, 5, 1, 'a'})
	f.Add(uint8(4), uint8(4), []byte{5, 1, 0, 1, 'a'})
	f.Fuzz(func(t *testing.T, text, typ uint8, data []byte) {
		c, err := parseCall(texts[int(text)%len(texts)])
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := record.ParseType(types[int(typ)%len(types)])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.fn.bind(c, &parsed); err != nil {
			return
		}
		k, result1, _ := bankOf(t, texts[int(text)%len(texts)], types[int(typ)%len(types)])
		k.grow(0)
		rest, err := k.load(data)
		if err != nil {
			return
		}
		stored := k.save(nil, 0)
		k.grow(0)
		if after, err := k.load(slices.Clone(stored)); err != nil || len(after) != 0 {
			t.Fatalf("%x, read from %x, is not read again: %v, rest %x", stored, data[:len(data)-len(rest)], err, after)
		}
		col := record.NewColumn(result1)
		if err := k.emit(&col, 0); err == nil && col.Len() != 1 {
			t.Fatalf("it shows %d rows", col.Len())
		}
	})
}

// TestBank_topKnowsHowWrongItMayBe merges summaries that hold fewer values than came, and checks for each that the true count lies
// between the count and what it may be over.
func TestBank_topKnowsHowWrongItMayBe(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 1))
		k, _, b := bankOf(t, "top_k(x, 1)", "int64")
		k.grow(0)
		k.grow(0)
		counts := map[string]int64{}
		for i := range 400 {
			b.Cols[0].Truncate(0)
			b.Cols[0].AppendInt([]int64{random.Int64N(30), int64(random.ExpFloat64() * 4)}[i%2]) // flat in one, steep in the other
			addAll(t, k, i%2, b)
			counts[string(state.AppendKey(nil, b, []int{0}, 0))]++
		}
		if err := k.merge(0, 1); err != nil {
			t.Fatal(err)
		}
		top, ok := k.(*topBank)
		if !ok || len(top.list[0].items) != topHeld {
			t.Fatalf("held are %d values, want %d", len(top.list[0].items), topHeld)
		}
		for _, item := range top.list[0].items {
			if n := counts[item.value]; n > item.count || n < item.count-item.over {
				t.Errorf("seed %d: %x came %d times, counted are %d, at most %d too many", seed, item.value, n, item.count, item.over)
			}
		}
	}
}

// TestBank_mergedSumOfFloatsKeepsWhatRoundingLoses joins two sums that have both lost something.
func TestBank_mergedSumOfFloatsKeepsWhatRoundingLoses(t *testing.T) {
	k, typ, b := bankOf(t, "sum(x)", "float64")
	for entry := range 2 {
		b.Cols[0].Truncate(0)
		b.Cols[0].AppendFloat(1e16 * float64(1-2*entry))
		for range 1001 {
			b.Cols[0].AppendFloat(0.5)
		}
		k.grow(0)
		addAll(t, k, entry, b)
	}
	if err := k.merge(0, 1); err != nil {
		t.Fatal(err)
	}
	if got := result(t, k, typ, 0); got != "1001" {
		t.Errorf("got %s, want 1001", got)
	}
}
