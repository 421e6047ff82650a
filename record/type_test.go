package record

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseType_isTheInverseOfString(t *testing.T) {
	for _, text := range allTypes() {
		typ := mustType(t, text)
		if got := typ.String(); got != text {
			t.Errorf("got %s back, want %s", got, text)
		}
	}
	for text, want := range map[string]string{
		" decimal( 10 ,2 ) ":      "decimal(10, 2)",
		"map(string,nullable(i":   "",
		`enum("a"=-5,"\u00e9"=5)`: `enum("a" = -5, "é" = 5)`,
		"enum(`a\"b` = 1)":        `enum("a\"b" = 1)`,
		"nullable( uuid )":        "nullable(uuid)",
	} {
		got, err := ParseType(text)
		if want == "" {
			continue
		}
		if err != nil || got.String() != want {
			t.Errorf("%s: got %s (%v), want %s", text, &got, err, want)
		}
	}
}

func TestParseType_saysWhatIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		"":                            "a type is expected",
		"integer":                     "did you mean int64?",
		"Int64":                       "a type is expected",
		"text":                        "did you mean string?",
		"whatever":                    `unknown type "whatever"`,
		"int64 x":                     `unexpected "x"`,
		"decimal":                     `ends where "(" is expected`,
		"decimal(10)":                 `"," is expected`,
		"decimal(0, 0)":               "precision must be from 1 to 76",
		"decimal(77, 0)":              "precision must be from 1 to 76",
		"decimal(5, 6)":               "scale must be from 0",
		"decimal(5, -1)":              "scale must be from 0",
		"decimal(99999999999, 1)":     "a number is expected",
		"timestamp":                   `ends where "(" is expected`,
		"timestamp(10)":               "precision must be from 0 to 9",
		"timestamp(3, Europe/Berlin)": "in quotes",
		"timestamp(3, 'E')":           "in quotes",
		"fixed_string(0)":             "size must be from 1",
		"enum()":                      "in quotes",
		`enum("a")`:                   `"=" is expected`,
		`enum("a" = 1, "a" = 2)`:      `name "a" twice`,
		`enum("a" = 1, "b" = 1)`:      "number 1 twice",
		`enum("a" = 40000)`:           "does not fit 16 bits",
		`enum("\xff" = 1)`:            "not valid UTF-8",
		"nullable(nullable(int8))":    "nullable in nullable",
		"array(int8":                  `ends where ")" is expected`,
		"map(string)":                 `"," is expected`,
		"map(nullable(string), int8)": "key can't be",
		"map(array(string), int8)":    "key can't be array",
		strings.Repeat("array(", 17) + "int8" + strings.Repeat(")", 17): "nest",
		strings.Repeat("nullable(", 100_000):                            "nest",
	} {
		_, err := ParseType(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: got error %v, want one with %q", text, err, want)
		}
	}
}

func FuzzParseType(f *testing.F) {
	for _, text := range allTypes() {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		typ, err := ParseType(text)
		if err != nil {
			return
		}
		if err := typ.Check(); err != nil {
			t.Fatalf("%q: got a type that does not pass: %v", text, err)
		}
		again, err := ParseType(typ.String())
		if err != nil {
			t.Fatalf("%q became %q, which is refused: %v", text, &typ, err)
		}
		if diff := cmp.Diff(typ, again); diff != "" {
			t.Fatalf("%q became another type (-first +second):\n%s", text, diff)
		}
		c := NewColumn(typ)
		c.AppendZero()
	})
}

// The numbers of kinds stand in segments: they must never change.
func TestKind_numbersAreFixed(t *testing.T) {
	for number, want := range []string{
		"invalid", "bool", "int8", "int16", "int32", "int64", "int128", "int256", "uint8", "uint16", "uint32", "uint64", "uint128", "uint256",
		"float32", "float64", "decimal", "string", "fixed_string", "date", "timestamp", "uuid", "ipv4", "ipv6", "enum", "array", "map", "invalid",
	} {
		if got := Kind(number).String(); got != want {
			t.Errorf("kind %d: got %s, want %s", number, got, want)
		}
	}
}

func TestSchema_check(t *testing.T) {
	number := Type{Kind: Int8}
	for want, s := range map[string]*Schema{
		"without columns":           {},
		"column 1 has no name":      {Fields: []Field{{Type: number}}},
		"column 2 has no name":      {Fields: []Field{{Name: "a", Type: number}, {Name: "\xff", Type: number}}},
		`column "a" is there twice`: {Fields: []Field{{Name: "a", Type: number}, {Name: "a", Type: number}}},
		"without a kind":            {Fields: []Field{{Name: "a"}}},
		"without the type of its":   {Fields: []Field{{Name: "a", Type: Type{Kind: Array}}}},
		"map without the type":      {Fields: []Field{{Name: "a", Type: Type{Kind: Map, Elem: &number}}}},
		"kind 99 does not exist":    {Fields: []Field{{Name: "a", Type: Type{Kind: 99}}}},
	} {
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want one with %q", err, want)
		}
	}
}

func TestType_sameLayoutIgnoresNullsZoneAndBounds(t *testing.T) {
	tests := []struct {
		a, b string
		want bool
	}{
		{"int8", "nullable(int8)", true},
		{"int8", "uint8", false},
		{"timestamp(3)", `timestamp(3, "Asia/Tokyo")`, true},
		{"timestamp(3)", "timestamp(6)", false},
		{"decimal(10, 2)", "decimal(10, 3)", false},
		{"array(int8)", "array(nullable(int8))", true},
		{"array(int8)", "array(int16)", false},
		{"map(string, int8)", "map(string, int8)", true},
		{"map(string, int8)", "map(uuid, int8)", false},
		{`enum("a" = 1)`, `enum("a" = 2)`, false},
		{"fixed_string(3)", "fixed_string(4)", false},
	}
	for _, test := range tests {
		a, b := mustType(t, test.a), mustType(t, test.b)
		if got := a.SameLayout(&b); got != test.want {
			t.Errorf("%s and %s: got %t, want %t", test.a, test.b, got, test.want)
		}
		if a.Equal(&b) != (test.a == test.b) {
			t.Errorf("%s and %s: got Equal %t", test.a, test.b, a.Equal(&b))
		}
	}
}
