package clickhouse

import (
	"math/big"
	"slices"
	"testing"

	"github.com/ingestd/ingestd/record"
)

// refusedRows checks one column and returns the rows that are refused.
func refusedRows(t *testing.T, table, pipeline string, fill func(c *record.Column)) []int {
	t.Helper()
	s, err := parseShape(table)
	if err != nil {
		t.Fatal(err)
	}
	p, err := parseShape(pipeline)
	if err != nil {
		t.Fatal(err)
	}
	c := record.NewColumn(p.typ)
	fill(&c)
	var rows []int
	newChecker("c", s).find(&c, func(row int, reason string) {
		if reason == "" {
			t.Errorf("row %d is refused without a reason", row)
		}
		rows = append(rows, row)
	})
	slices.Sort(rows)
	return slices.Compact(rows)
}

func TestCheck_refusesWhatTheServerWouldChange(t *testing.T) {
	put := func(v ...int64) func(*record.Column) {
		return func(c *record.Column) {
			for _, n := range v {
				c.AppendInt(n)
			}
		}
	}
	cases := []struct {
		name, table, pipeline string
		fill                  func(*record.Column)
		want                  []int
	}{
		{"all of an integer", "Int64", "Int64", put(0, -1, 1<<62), nil},
		{"days before and after", "Date", "Date32", put(-1, 0, 65535, 65536), []int{0, 3}},
		{"seconds", "DateTime", "DateTime64(0)", put(-1, 0, 1<<32-1, 1<<32), []int{0, 3}},
		{"unknown numbers", "Enum8('a' = 1, 'b' = 3)", "Enum16('a' = 1, 'c' = 2)", put(1, 2), []int{1}},
		{"digits", "Decimal(3, 1)", "Decimal(3, 1)", put(999, 1000, -999, -1000), []int{1, 3}},
		{"booleans", "Bool", "Bool", put(0, 1, 2), []int{2}},
		{"nulls", "UInt8", "Nullable(UInt8)", func(c *record.Column) { c.AppendInt(1); c.AppendNull() }, []int{1}},
		{"nulls are not values", "Nullable(Enum8('a' = 5))", "Nullable(Enum8('a' = 5))", func(c *record.Column) { c.AppendNull(); c.AppendInt(5) }, nil},
		{"elements", "Array(Date)", "Array(Date32)", func(c *record.Column) {
			for _, row := range [][]int64{{1}, {}, {2, -1, -2}, {3}, {-1}} {
				for _, v := range row {
					c.Elem.AppendInt(v)
				}
				c.CloseList()
			}
		}, []int{2, 4}},
		{"keys and values", "Map(Date, Date)", "Map(Date32, Date32)", func(c *record.Column) {
			for _, pair := range [][2]int64{{1, 1}, {1, -1}, {-1, 1}, {1, 1}} {
				c.Key.AppendInt(pair[0])
				c.Elem.AppendInt(pair[1])
				c.CloseList()
			}
		}, []int{1, 2}},
		{"nested", "Array(Array(Nullable(Date)))", "Array(Array(Nullable(Date32)))", func(c *record.Column) {
			c.CloseList()
			c.Elem.CloseList()
			c.Elem.Elem.AppendNull()
			c.Elem.Elem.AppendInt(-1)
			c.Elem.CloseList()
			c.CloseList()
		}, []int{1}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := refusedRows(t, c.table, c.pipeline, c.fill); !slices.Equal(got, c.want) {
				t.Errorf("got the rows %v, want %v", got, c.want)
			}
		})
	}
}

// The digits of a decimal are counted as math/big does, for each width.
func TestCheck_decimalsAgainstBig(t *testing.T) {
	for _, precision := range []int{1, 9, 10, 18, 19, 38, 39, 76} {
		s := &shape{typ: record.Type{Kind: record.Decimal, Precision: precision}, wire: "Decimal"}
		c := newChecker("c", s)
		limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(precision)), nil)
		width := s.typ.Width()
		for _, d := range []int64{-1, 0, 1} {
			for _, sign := range []int64{1, -1} {
				v := new(big.Int).Add(limit, big.NewInt(d))
				v.Mul(v, big.NewInt(sign))
				stored := new(big.Int).Set(v)
				if v.Sign() < 0 {
					stored.Add(stored, new(big.Int).Lsh(big.NewInt(1), uint(width)*8))
				}
				b := stored.FillBytes(make([]byte, width))
				slices.Reverse(b)
				want := new(big.Int).Abs(v).Cmp(limit) < 0
				if got := c.fits(b); got != want {
					t.Errorf("%d digits, value %s: got %t, want %t", precision, v, got, want)
				}
			}
		}
	}
}
