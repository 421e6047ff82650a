package clickhouse

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/record"
)

func TestShape_typesOfTheServer(t *testing.T) {
	text, day := record.Type{Kind: record.String}, record.Type{Kind: record.Date, Max: math.MaxUint16}
	cases := map[string]struct {
		typ    record.Type
		wire   string
		layout layout
	}{
		"UInt64":                           {record.Type{Kind: record.Uint64}, "UInt64", layoutCopy},
		"Date":                             {day, "Date", layoutLow2},
		"Date32":                           {record.Type{Kind: record.Date, Min: -25567, Max: 120529}, "Date32", layoutCopy},
		"DateTime":                         {record.Type{Kind: record.Timestamp, Max: math.MaxUint32}, "DateTime", layoutLow4},
		"DateTime('Asia/Tokyo')":           {record.Type{Kind: record.Timestamp, Zone: "Asia/Tokyo", Max: math.MaxUint32}, "DateTime('Asia/Tokyo')", layoutLow4},
		"DateTime64(3)":                    {record.Type{Kind: record.Timestamp, Precision: 3, Min: -2208988800000, Max: 10413791999999}, "DateTime64(3)", layoutCopy},
		"DateTime64(9, 'UTC')":             {record.Type{Kind: record.Timestamp, Precision: 9, Zone: "UTC", Min: -2208988800000000000, Max: math.MaxInt64}, "DateTime64(9, 'UTC')", layoutCopy},
		"UUID":                             {record.Type{Kind: record.UUID}, "UUID", layoutUUID},
		"LowCardinality(String)":           {text, "String", layoutString},
		"LowCardinality(Nullable(String))": {record.Type{Kind: record.String, Nullable: true}, "Nullable(String)", layoutString},
		"Enum8('a' = 1)":                   {record.Type{Kind: record.Enum, Values: []record.EnumValue{{Name: "a", Number: 1}}}, "Enum8('a' = 1)", layoutLow1},
		"Decimal(20, 4)":                   {record.Type{Kind: record.Decimal, Precision: 20, Scale: 4}, "Decimal(20, 4)", layoutCopy},
		"Array(Date)":                      {record.Type{Kind: record.Array, Elem: &day}, "Array(Date)", layoutList},
		"Map(LowCardinality(String), Date)": {
			record.Type{Kind: record.Map, Key: &text, Elem: &day}, "Map(String, Date)", layoutList,
		},
	}
	for name, want := range cases {
		got, err := parseShape(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(want.typ, got.typ); diff != "" || got.wire != want.wire || got.layout != want.layout {
			t.Errorf("%s: got %s, layout %d, want %s, layout %d (-want +got):\n%s", name, got.wire, got.layout, want.wire, want.layout, diff)
		}
	}
}

func TestShape_typesThatCantBeWritten(t *testing.T) {
	for _, name := range []string{
		"Point", "JSON", "Dynamic", "Variant(String, UInt8)", "Tuple(UInt8, String)", "AggregateFunction(sum, UInt64)", "BFloat16", "Nothing", "Time",
		"Nullable(Array(UInt8))", "Nullable(Nullable(UInt8))", "Decimal(77, 0)", "Decimal(5, 6)", "Decimal(5)", "FixedString(0)", "FixedString('a')",
		"DateTime64(10)", "DateTime64('UTC')", "DateTime(3)", "DateTime('a', 'b')", "Enum8('a' = 200)", "Enum8()", "Enum8('a')", "Enum16(1)", "Array()", "Array(1)",
		"Map(String)", "Map(String, 1)", "Array(Point)", "Map(Array(UInt8), UInt8)", "UInt64(3)", "LowCardinality('x')",
	} {
		if got, err := parseShape(name); err == nil {
			t.Errorf("%s: got %s, want an error", name, got.wire)
		}
	}
}

func TestShape_takesOnlyTheSameValues(t *testing.T) {
	cases := []struct {
		table string
		typ   string // as the table of the pipeline's column
		want  bool
	}{
		{"UInt64", "UInt64", true},
		{"UInt64", "Int64", false},
		{"UInt64", "UInt32", false},
		{"Nullable(UInt64)", "UInt64", true},
		{"UInt64", "Nullable(UInt64)", true}, // a null is refused by its row
		{"DateTime", "DateTime64(0)", true},  // seconds both
		{"DateTime", "DateTime64(3)", false},
		{"DateTime64(3, 'UTC')", "DateTime64(3, 'Europe/Rome')", true},
		{"Date", "Date32", true},
		{"Decimal(9, 2)", "Decimal(9, 3)", false},
		{"FixedString(3)", "FixedString(4)", false},
		{"FixedString(3)", "String", false},
		{"Enum8('a' = 1)", "Enum16('a' = 1, 'b' = 300)", true}, // numbers are checked by their row
		{"Array(UInt8)", "Array(Nullable(UInt8))", true},
		{"Array(UInt8)", "Array(UInt16)", false},
		{"Array(UInt8)", "UInt8", false},
		{"Map(String, Date)", "Map(String, Date32)", true},
		{"Map(String, Date)", "Array(Date)", false},
	}
	for _, c := range cases {
		table, err := parseShape(c.table)
		if err != nil {
			t.Fatal(err)
		}
		typ, err := parseShape(c.typ)
		if err != nil {
			t.Fatal(err)
		}
		if got := table.takes(&typ.typ); got != c.want {
			t.Errorf("a column %s takes %s: got %t, want %t", c.table, c.typ, got, c.want)
		}
	}
}
