package step

import (
	"strings"
	"testing"

	"github.com/ingestd/ingestd/record"
)

// A condition tells what a filter with the same expression would do with each row.
func TestCondition_holdsWhereTheFilterKeeps(t *testing.T) {
	s := &record.Schema{Fields: []record.Field{
		{Name: "n", Type: record.Type{Kind: record.Int64, Nullable: true}}, {Name: "text", Type: record.Type{Kind: record.String}},
	}}
	batch := func() *record.Batch {
		b := record.NewBatch(s)
		for i, text := range []string{"a", "b", "7", "c"} {
			if i == 1 {
				b.Cols[0].AppendNull()
			} else {
				b.Cols[0].AppendInt(int64(i))
			}
			b.Cols[1].AppendString(text)
			b.AppendMeta(record.RowMeta{Offset: record.Offset(100 + i), Key: []byte("k")})
		}
		return b
	}
	for _, text := range []string{
		`n > 1`, `(n ?? 5) > 1`, `text == "a" || n == 3`, `_offset % 2 == 0`, `_key == "k" && !(text in ["a", "c"])`, `int(text) > 5`, `n == nil`,
	} {
		c, err := NewCondition(text, s)
		if err != nil {
			t.Fatal(err)
		}
		_, filter, err := (&Filter{ID: "f", Where: text}).Bind(s)
		if err != nil {
			t.Fatal(err)
		}
		kept, res := batch(), Result{}
		filter(kept, &res)
		refused := map[record.Offset]string{}
		for _, l := range res.Refused {
			refused[l.Offset] = l.Reason
		}
		b := batch()
		for row := range b.Rows {
			at := b.Meta.Offsets[row]
			holds, err := c.Holds(b, row)
			passes := false
			for _, o := range kept.Meta.Offsets {
				passes = passes || o == at
			}
			reason := ""
			if err != nil {
				reason = err.Error()
			}
			if holds != passes || reason != refused[at] {
				t.Errorf("%s, row %d: got %t and %q, the filter passes it: %t, and refuses it with %q", text, row, holds, reason, passes, refused[at])
			}
		}
	}
}

func TestCondition_saysWhatIsWrongAndWhatItReads(t *testing.T) {
	s := &record.Schema{Fields: []record.Field{{Name: "n", Type: record.Type{Kind: record.Int64}}, {Name: "m", Type: record.Type{Kind: record.Int64}}}}
	for text, want := range map[string]string{"n +": "line 1, column", "x == 1": "unknown name x", "n": "its result is an integer"} {
		if _, err := NewCondition(text, s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
	c, err := NewCondition("n > 1", s)
	if err != nil || !c.Reads("n") || c.Reads("m") {
		t.Errorf("got %v, want a condition that reads n and not m", err)
	}
	if err := CheckSyntax("x > (1"); err == nil || !strings.Contains(err.Error(), `expression "x > (1"`) {
		t.Errorf("got %v, want what is no expression", err)
	}
	if err := CheckSyntax("x > 1 && unknown(y)"); err != nil {
		t.Errorf("got %v, want nil: names are not looked at", err)
	}
}
