package step

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

// exploded runs the step over two batches, the second of which shows that nothing of the first is left.
func exploded(t *testing.T, e *Explode, in *record.Schema, records ...string) (rows []string, res Result, b *record.Batch) {
	t.Helper()
	_, apply, err := e.Bind(in)
	if err != nil {
		t.Fatal(err)
	}
	b = batch(t, in, records...)
	apply(b, &res)
	rows = texts(b)
	again := batch(t, in, records...)
	apply(again, &Result{})
	if diff := cmp.Diff(rows, texts(again)); diff != "" {
		t.Errorf("the second batch (-first +second):\n%s", diff)
	}
	return rows, res, b
}

func TestExplode_array(t *testing.T) {
	in := schema(t, "id", "int32", "tags", "nullable(array(nullable(string)))", "m", "map(string, int8)")
	rows, res, b := exploded(
		t, &Explode{ID: "x", Column: "tags"}, in,
		`{"id": 1, "tags": ["a", null, "b"], "m": {"k": 1}}`, `{"id": 2, "tags": [], "m": {}}`, `{"id": 3, "tags": null, "m": {}}`, `{"id": 4, "tags": ["c"], "m": {}}`,
	)
	if diff := cmp.Diff([]string{`1 "a" {"k":1}`, `1 null {"k":1}`, `1 "b" {"k":1}`, `4 "c" {}`}, rows); diff != "" {
		t.Error(diff)
	}
	if res.Filtered != 2 || len(res.Refused) != 0 {
		t.Errorf("got %+v, want 2 filtered", res)
	}
	if diff := cmp.Diff([]record.Offset{100, 100, 100, 103}, b.Meta.Offsets); diff != "" {
		t.Error(diff)
	}
	if b.Meta.Split != "orders/3" || b.Meta.Topic != "orders" || b.Meta.Partition != 3 || string(b.Meta.Keys[3]) != "k" {
		t.Errorf("provenance: got %+v", b.Meta)
	}
}

func TestExplode_into(t *testing.T) {
	in := schema(t, "list", "array(int8)", "id", "int32")
	rows, _, b := exploded(t, &Explode{ID: "x", Column: "list", Into: "one"}, in, `{"id": 1, "list": [7, 8]}`)
	if diff := cmp.Diff([]string{`[7,8] 1 7`, `[7,8] 1 8`}, rows); diff != "" {
		t.Error(diff)
	}
	if got := columnNames(b.Schema); got != "list, id, one" {
		t.Errorf("columns: got %s", got)
	}
}

func TestExplode_limitRefusesTheRecordWhole(t *testing.T) {
	for _, c := range []struct {
		e  Explode
		in *record.Schema
	}{
		{Explode{ID: "x", Column: "c", Limit: 2}, schema(t, "c", "array(string)")},
		{Explode{ID: "x", Column: "c", Limit: 2, Split: SplitSpace}, schema(t, "c", "string")},
	} {
		value := func(words ...string) string {
			if c.e.Split != SplitNone {
				return `{"c": "` + strings.Join(words, " ") + `"}`
			}
			return `{"c": ["` + strings.Join(words, `","`) + `"]}`
		}
		rows, res, _ := exploded(t, &c.e, c.in, value("a", "b"), value("c", "d", "e"), value("f"))
		if diff := cmp.Diff([]string{`"a"`, `"b"`, `"f"`}, rows); diff != "" {
			t.Error(diff)
		}
		if len(res.Refused) != 1 || res.Refused[0].Offset != 101 || res.Refused[0].Column != "c" {
			t.Fatalf("refused: got %+v", res.Refused)
		}
		contains(t, res.Refused[0].Reason, "more than 2 elements")
	}
}

func TestExplode_splitsTexts(t *testing.T) {
	for _, c := range []struct {
		split     Split
		separator string
		text      string
		want      []string
	}{
		{SplitWords, "", "Don't stop - it's 'quoted', naïve café_x2 日本 don’t", []string{"Don't", "stop", "it's", "quoted", "naïve", "café", "x2", "日本", "don’t"}},
		{SplitWords, "", "rock'n'roll 'tis ends'", []string{"rock'n'roll", "tis", "ends"}},
		{SplitWords, "", " \xff\xfe a\xffb ", []string{"a", "b"}},
		{SplitWords, "", "--", nil},
		{SplitWords, "", "e\u0301te\u0301", []string{"e\u0301te\u0301"}},
		{SplitSpace, "", "  a\tb \n c, d\u00a0e ", []string{"a", "b", "c,", "d", "e"}},
		{SplitLines, "", "a\r\nb\n\nc", []string{"a", "b", "", "c"}},
		{SplitLines, "", "", nil},
		{SplitSeparator, ", ", "a, b,c, , d", []string{"a", "b,c", "", "d"}},
		{SplitSeparator, "|", "", nil},
		{SplitSeparator, "|", "|", []string{"", ""}},
	} {
		e := &Explode{ID: "x", Column: "t", Split: c.split, Separator: c.separator}
		in := schema(t, "t", "nullable(string)")
		_, apply, err := e.Bind(in)
		if err != nil {
			t.Fatal(err)
		}
		b := record.NewBatch(in)
		b.Cols[0].AppendString(c.text)
		b.AppendMeta(record.RowMeta{})
		b.Cols[0].AppendNull()
		b.AppendMeta(record.RowMeta{})
		apply(b, &Result{})
		var got []string
		for row := range b.Rows {
			got = append(got, string(b.Cols[0].BytesAt(row)))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s of %q: got %q, want %q", c.split, c.text, got, c.want)
		}
	}
}

func TestExplode_checksSettings(t *testing.T) {
	in := schema(t, "t", "string", "n", "int8", "l", "array(int8)")
	for want, e := range map[string]Explode{
		`there is no column "x"`:                  {Column: "x"},
		`an array is expected, it is string`:      {Column: "t"},
		`a string is expected, it is array(int8)`: {Column: "l", Split: SplitWords},
		`"?" is none of words`:                    {Column: "t", Split: "?"},
		`separator: it goes with`:                 {Column: "t", Split: SplitWords, Separator: ","},
		`and is needed there`:                     {Column: "t", Split: SplitSeparator},
		`limit: -1 is negative`:                   {Column: "l", Limit: -1},
		`column "n" is there twice`:               {Column: "l", Into: "n"},
	} {
		_, _, err := e.Bind(in)
		if err == nil || fault.KindOf(err) != fault.Misconfigured {
			t.Errorf("%s: got error %v", want, err)
			continue
		}
		contains(t, err.Error(), want)
	}
	want := (&Explode{Column: "t", Into: "w"}).Want(schema(t, "t", "string", "w", "string"))
	if got := columnNames(want); got != "t" {
		t.Errorf("want: got %s", got)
	}
}

func FuzzExplode_wordsCoverTheText(f *testing.F) {
	f.Add([]byte("it's a 'test' \xff é"))
	f.Fuzz(func(t *testing.T, text []byte) {
		rest := text
		words(text, func(part []byte) bool {
			if len(part) == 0 {
				t.Fatal("an empty word")
			}
			_, after, ok := strings.Cut(string(rest), string(part))
			if !ok {
				t.Fatalf("the word %q is not in %q", part, rest)
			}
			rest = []byte(after)
			return true
		})
	})
}
