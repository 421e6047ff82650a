package step

import (
	"strings"
	"testing"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/record"
)

// The language's traps: each expression is evaluated over one record, and its result is written as JSON, or refused.
func TestExpression_results(t *testing.T) {
	s := schema(t, "i", "int64", "n", "nullable(int32)", "u", "uint64", "d", "decimal(10, 2)", "nd", "nullable(decimal(10, 2))",
		"big", "int256", "f", "float64", "s", "string", "ns", "nullable(string)", "b", "bool", "nb", "nullable(bool)", "at", "timestamp(3)",
		"day", "date", "id", "uuid", "e", `enum("x" = 1, "y" = 2)`, "list", "array(int16)", "m", "map(string, nullable(int8))", "a.b", "int8")
	const r = `{"i":9223372036854775807,"n":null,"u":18446744073709551615,"d":9.99,"nd":null,"big":-170141183460469231731687303715884105729,
		"f":0.5,"s":"text","ns":null,"b":true,"nb":null,"at":"2026-11-03T10:11:12.5Z","day":"2026-11-03",
		"id":"0f8fad5b-d9cb-469f-a165-70867728950e","e":"y","list":[1,2,3],"m":{"k":5,"z":null},"a.b":7}`
	const refused = "refused: "
	tests := []struct{ expression, typ, want string }{
		{"i", "int64", "9223372036854775807"},
		{"i + 1", "int64", refused + "integer overflow"},
		{"i - 1", "int64", "9223372036854775806"},
		{"-i - 1", "int64", "-9223372036854775808"},
		{"-(-i - 1)", "int64", refused + "integer overflow"},
		{"-i - 2", "int64", refused + "integer overflow"},
		{"i * 2", "int64", refused + "integer overflow"},
		{"i * 1", "int8", refused + "out of the type's range"},
		{"n + 1", "nullable(int64)", refused + "integers are expected, found null and 1"},
		{"n ?? 5", "int8", "5"},
		{"n == nil", "bool", "true"},
		{"n == 5", "bool", "false"},
		{"n > 5", "bool", refused + "<nil>"},
		{"n != nil && n > 5", "bool", "false"},
		{"u == 18446744073709551615.0", "bool", "false"}, // that float is 18446744073709552000
		{"u > i", "bool", "true"},
		{"u - 1", "uint64", "18446744073709551614"},
		{"u + 1", "uint64", refused + "out of the type's range"},
		{"u + 1", "decimal(38, 0)", "18446744073709551616"},
		{"d == 9.99", "bool", "true"},
		{"9.99 == d", "bool", "true"},
		{"d != 9.99", "bool", "false"},
		{"d < 10", "bool", "true"},
		{"d >= 9.990", "bool", "true"},
		{"d in [1, 9.99]", "bool", "true"},
		{"d not in [1, 9.99]", "bool", "false"},
		{"d * 3", "decimal(10, 2)", "29.97"},
		{"d * d", "decimal(10, 2)", refused + "more digits behind the point"},
		{"d * d", "decimal(10, 4)", "99.8001"},
		{"-d", "decimal(10, 2)", "-9.99"},
		{"d / 3", "decimal(10, 2)", "3.33"},
		{"d / 7", "decimal(10, 2)", refused + "digits without end; use round(x, 2)"},
		{"round(d / 7, 2)", "decimal(10, 2)", "1.43"},
		{"round(d)", "int8", "10"},
		{"d / (i - i)", "decimal(10, 2)", refused + "division by zero"},
		{"d + 0.01", "int8", "10"},
		{"(d + d) * 2 > d", "bool", "true"},
		{"nd == nil", "bool", "true"},
		{"nd == 1", "bool", "false"},
		{"nd > 1", "bool", refused + "null is not a number"},
		{"(nd ?? d) > 1", "bool", "true"},
		{"big < -170141183460469231731687303715884105728", "bool", "compile: integer"},
		{"big + 1", "decimal(76, 0)", "-170141183460469231731687303715884105728"},
		{"float(d)", "float64", "9.99"},
		{"int(d)", "int64", "9"},
		{"int(u)", "int64", refused + "integer overflow"},
		{"string(d)", "string", `"9.99"`},
		{"f", "int8", refused + "is not a whole number"},
		{"f * 2", "int8", "1"},
		{"f / 0", "float64", `"Infinity"`},
		{"f * 1e308 * 10", "float32", `"Infinity"`},
		{"f * 1e300", "float32", refused + "out of the type's range"},
		{`s + ":" + string(i)`, "string", `"text:9223372036854775807"`},
		{"s", "fixed_string(3)", refused + "longer"},
		{"upper(s)", "string", `"TEXT"`},
		{"ns", "nullable(string)", "null"},
		{`ns ?? "none"`, "string", `"none"`},
		{`upper(ns ?? "none")`, "string", `"NONE"`},
		{`s matches "^t.*t$"`, "bool", "true"},
		{"b && (nb ?? true)", "bool", "true"},
		{"at", "timestamp(0)", refused + "more digits behind the second"},
		{"at", "timestamp(6)", `"2026-11-03T10:11:12.500000Z"`},
		{"at", "date", refused + "has a time of day"},
		{"day", "date", `"2026-11-03"`},
		{`at - duration("500ms")`, "timestamp(0)", `"2026-11-03T10:11:12Z"`},
		{"at > day", "bool", "true"},
		{"at.Year()", "int32", "2026"},
		{`id == "0f8fad5b-d9cb-469f-a165-70867728950e"`, "bool", "true"},
		{"id", "uuid", `"0f8fad5b-d9cb-469f-a165-70867728950e"`},
		{"s", "uuid", refused + "is not a UUID"},
		{`e == "y"`, "bool", "true"},
		{`e`, `enum("y" = 7)`, `"y"`},
		{"list[1] + 1", "int8", "3"},
		{"list[9]", "int8", refused + "index out of range"},
		{"map(list, # * 2)", "array(int8)", "[2,4,6]"},
		{"2 in list", "bool", "true"},
		{"sum(list)", "int64", "6"},
		{"m.k", "nullable(int8)", "5"},
		{`m["none"]`, "nullable(int8)", "null"},
		{"m", "map(string, nullable(int64))", `{"k":5,"z":null}`},
		{"m", "map(string, int64)", refused + "null does not fit int64"},
		{`$env["a.b"] + 1`, "int8", "8"},
		{`b ? 1 : 2`, "int8", "1"},
		{"_topic", "string", `"orders"`},
		{"_partition + _offset", "int64", "103"},
		{"_timestamp", "timestamp(3)", "compile: may be null"},
		{"_timestamp ?? at", "timestamp(3)", `"2023-11-14T22:13:20.000Z"`},
		{"_key", "nullable(string)", `"k"`},
		{`_headers["h"]`, "nullable(string)", `"v"`},
		{`_headers["empty"]`, "nullable(string)", "null"},
		{`_headers["none"] == nil`, "bool", "true"},
		{`_headers["none"] ?? "-"`, "string", `"-"`},
		{"_headers", "map(string, nullable(string))", `{"empty":null,"h":"v"}`},
		// Checked before anything runs, also inside operators that are replaced.
		{"nothing", "int8", "compile: unknown name nothing; known are i, n, u"},
		{"(nothing > 1 ? d : d) * d", "decimal(10, 2)", "compile: unknown name nothing"},
		{"d * (nothing + 1)", "decimal(10, 2)", "compile: unknown name nothing"},
		{"d > s", "bool", "compile: mismatched types step.Number and string"},
		{"i + s", "int64", "compile: mismatched types int and string"},
		{"i +", "int64", "compile: line 1, column"},
		{"s", "int8", "compile: its result is a string, the column is int8"},
		{"i", "string", "compile: its result is an integer, the column is string"},
		{"n", "int32", "compile: its result may be null"},
		{"upper(i)", "string", "compile: cannot use int"},
		{"round(nothing + 1)", "int64", "compile: unknown name nothing"},
		{"round(d * (i + nothing))", "int64", "compile: unknown name nothing"},
		{"upper(i + 1)", "string", "compile: cannot use int"},
		{"let x = d; x * 2", "decimal(10, 2)", "19.98"},
		{"let x = nothing; x * d", "decimal(10, 2)", "compile: unknown name nothing"},
		{"filter(list, # > n)", "array(int8)", "refused: <nil>"},
		{"[d, d + 1]", "array(decimal(10, 2))", "[9.99,10.99]"},
		{"d > 1 ? d : i", "decimal(30, 2)", "9.99"},
	}
	for _, test := range tests {
		t.Run(test.expression, func(t *testing.T) {
			field := schema(t, "x", test.typ).Fields[0]
			in := &record.Schema{Fields: s.Fields}
			b := batch(t, in, r)
			set := &Set{ID: "s", Columns: []Assignment{{Column: "x", Value: test.expression, Type: &field.Type}}}
			if message, ok := strings.CutPrefix(test.want, "compile: "); ok {
				contains(t, bindError(t, set, in), message)
				return
			}
			res := apply(t, set, b)
			if message, ok := strings.CutPrefix(test.want, refused); ok {
				if len(res.Refused) != 1 {
					t.Fatalf("got row %v, want a refusal", rows(b))
				}
				contains(t, res.Refused[0].Reason, message)
				return
			}
			if len(res.Refused) != 0 {
				t.Fatalf("got refusal %q, want %s", res.Refused[0].Reason, test.want)
			}
			if got := string(codec.AppendJSONValue(nil, &b.Cols[len(b.Cols)-1], 0)); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}
