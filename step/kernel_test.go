package step

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/ingestd/ingestd/record"
)

// dice gives numbers that depend on nothing but the seed.
type dice uint64

func (d *dice) roll(n int) int {
	*d ^= *d << 13
	*d ^= *d >> 7
	*d ^= *d << 17
	return int(*d>>33) % n
}

func (d *dice) pick(list ...string) string { return list[d.roll(len(list))] }

// condition writes a random condition over the columns of kernelSchema.
func (d *dice) condition(depth int) string {
	if depth > 0 && d.roll(2) == 0 {
		left, right := d.condition(depth-1), d.condition(depth-1)
		switch d.roll(3) {
		case 0:
			return "(" + left + " && " + right + ")"
		case 1:
			return "(" + left + " || " + right + ")"
		}
		return "not (" + left + ")"
	}
	operator := d.pick("<", "<=", ">", ">=", "==", "!=")
	number := d.pick("0", "1", "-1", "3", "9.99", "-0.5", "2.0", "1e3", "0.001", "18446744073709551615.0", "9223372036854775807")
	switch d.roll(8) {
	case 0:
		return d.pick("i", "ni", "u8") + " " + operator + " " + number
	case 1:
		return number + " " + operator + " " + d.pick("i", "d", "f", "u")
	case 2:
		return d.pick("d", "nd", "u", "f", "nf") + " " + operator + " " + number
	case 3:
		return d.pick("s", "ns") + " " + operator + " " + d.pick(`"a"`, `""`, `"b"`, `"ab"`)
	case 4:
		return d.pick("ni", "nd", "ns", "nb", "nf") + d.pick(" == ", " != ") + "nil"
	case 5:
		return d.pick("i", "u8") + d.pick(" in ", " not in ") + d.pick("[1, 2]", "[3]", "[-1, 0, 1000]")
	case 6:
		return d.pick("s", "ns") + d.pick(" in ", " not in ") + d.pick(`["a", "b"]`, `["a"]`)
	}
	return d.pick("b", "b == true", "!b", "nb ?? false", "i + 1 > 2")
}

func kernelSchema(t *testing.T) *record.Schema {
	t.Helper()
	return schema(t, "i", "int64", "ni", "nullable(int16)", "u8", "uint8", "u", "uint64", "d", "decimal(18, 2)", "nd", "nullable(decimal(9, 3))",
		"f", "float64", "nf", "nullable(float32)", "s", "string", "ns", "nullable(string)", "b", "bool", "nb", "nullable(bool)")
}

func kernelBatch(t *testing.T, d *dice) *record.Batch {
	t.Helper()
	b := record.NewBatch(kernelSchema(t))
	ints := []int64{0, 1, -1, 2, 3, 999, -50, 1000}
	for row := range 40 {
		for i := range b.Cols {
			c := &b.Cols[i]
			v := ints[d.roll(len(ints))]
			switch {
			case c.Type.Nullable && d.roll(3) == 0:
				c.AppendNull()
			case c.Type.Kind == record.String:
				c.AppendString(d.pick("a", "", "b", "ab", "\xff"))
			case c.Type.Kind == record.Bool:
				c.AppendInt(v & 1)
			case c.Type.Kind == record.Uint64:
				c.AppendUint([]uint64{0, 1, 3, math.MaxUint64, math.MaxInt64}[d.roll(5)])
			case c.Type.Kind == record.Float32 || c.Type.Kind == record.Float64:
				c.AppendFloat([]float64{0, math.NaN(), math.Inf(1), -0.5, 2, 9.99, 1e3}[d.roll(7)])
			case c.Type.Kind == record.Int64 && v == 999:
				c.AppendInt(math.MaxInt64)
			default:
				c.AppendInt(v)
			}
		}
		b.AppendMeta(record.RowMeta{Offset: record.Offset(row)})
	}
	return b
}

// A kernel that is sure agrees with the expression that it was made from, for random conditions over random rows.
func TestKernel_agreesWithTheExpression(t *testing.T) {
	d := dice(0x9e3779b97f4a7c15)
	made, sure, total := 0, 0, 0
	for range 1500 {
		b := kernelBatch(t, &d)
		text := d.condition(3)
		e, err := compile(text, b.Schema)
		if err != nil {
			continue // such as a comparison of a constant
		}
		total++
		k := newKernel(e.program.Node(), b.Schema)
		if k == nil {
			continue
		}
		made++
		for row := range b.Rows {
			got := k(b, row)
			if got == unsure {
				continue
			}
			sure++
			want, err := e.eval(b, row)
			if err != nil || want != (got == yes) {
				t.Fatalf("%s, row %s: got %t, the expression says %v (%v)", text, rows(b)[row], got == yes, want, err)
			}
		}
	}
	if made < total/4 || sure < 10_000 {
		t.Errorf("got %d kernels for %d conditions and %d sure answers, want enough to say something", made, total, sure)
	}
}

// The common conditions have a kernel; without this the test above could agree about nothing.
func TestKernel_isThereForCommonConditions(t *testing.T) {
	s := kernelSchema(t)
	for _, text := range []string{
		"i > 5", "5 < i", `s == "a"`, "d >= 9.99", "9.99 <= d", "u == 1", "f < 0.5", "b", "!b", `i > 5 && s != "a" || not b`, "ni == nil", "nil != ns",
		`s in ["a", "b"]`, "i in [1, 2, 3]", "ni > 3",
	} {
		e, err := compile(text, s)
		if err != nil {
			t.Fatal(err)
		}
		if newKernel(e.program.Node(), s) == nil {
			t.Errorf("%s: got no kernel", text)
		}
	}
}

// A filter refuses the same rows with and without a kernel: a null that the expression can't compare is never guessed.
func TestFilter_nullIsLeftToTheExpression(t *testing.T) {
	s := schema(t, "n", "nullable(int8)", "s", "nullable(string)")
	for text, want := range map[string]string{
		"n > 1":             "kept 1, filtered 1, refused 1",
		"n == 1":            "kept 1, filtered 2, refused 0",
		`n == nil || n > 1`: "kept 2, filtered 1, refused 0",
		`n > 1 || s == "x"`: "kept 2, filtered 0, refused 1",
	} {
		b := batch(t, s, `{"n":null,"s":"x"}`, `{"n":1,"s":"x"}`, `{"n":2,"s":null}`)
		res := apply(t, &Filter{ID: "f", Where: text}, b)
		if got := fmt.Sprintf("kept %d, filtered %d, refused %d", b.Rows, res.Filtered, len(res.Refused)); got != want {
			t.Errorf("%s: got %s (%s), want %s", text, got, strings.Join(reasons(res), "; "), want)
		}
	}
}

func BenchmarkFilter(b *testing.B) {
	for _, where := range []string{`n > 500 && event == "click"`, `amount > 9.99`, `event in ["click", "view"] || ok`} {
		b.Run(where, func(b *testing.B) {
			s := &record.Schema{Fields: []record.Field{
				{Name: "n", Type: record.Type{Kind: record.Int32}},
				{Name: "event", Type: record.Type{Kind: record.String}},
				{Name: "amount", Type: record.Type{Kind: record.Decimal, Precision: 18, Scale: 2}},
				{Name: "ok", Type: record.Type{Kind: record.Bool}},
			}}
			_, do, err := (&Filter{ID: "f", Where: where}).Bind(s)
			if err != nil {
				b.Fatal(err)
			}
			batch := record.NewBatch(s)
			const size = 1024
			for b.Loop() {
				b.StopTimer()
				batch.Reshape(s)
				for i := range size {
					batch.Cols[0].AppendInt(int64(i))
					batch.Cols[1].AppendString([]string{"click", "view", "buy"}[i%3])
					batch.Cols[2].AppendInt(int64(i))
					batch.Cols[3].AppendBool(i%2 == 0)
					batch.AppendMeta(record.RowMeta{})
				}
				var res Result
				b.StartTimer()
				do(batch, &res)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/size, "ns/record")
		})
	}
}
