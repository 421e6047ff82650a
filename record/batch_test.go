package record

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// schemaOf makes a schema with a column of each type.
func schemaOf(tb testing.TB, types ...string) *Schema {
	tb.Helper()
	s := &Schema{}
	for i, text := range types {
		s.Fields = append(s.Fields, Field{Name: "c" + string(rune('a'+i/26)) + string(rune('a'+i%26)), Type: mustType(tb, text)})
	}
	return s
}

// fill appends rows with everything that a row can have.
func fill(b *Batch, rows int, from *choices) {
	b.Meta.Split, b.Meta.Topic, b.Meta.Partition = "orders/3", "orders", 3
	for range rows {
		for i := range b.Cols {
			appendSome(&b.Cols[i], from)
		}
		m := RowMeta{Offset: Offset(1000 + b.Rows), Timestamp: int64(b.Rows) - 1, Value: []byte{byte(b.Rows)}}
		switch from.next(3) {
		case 0:
			m.Key, m.Headers = []byte("key"), []Header{{Key: "h", Value: []byte("v")}, {Key: "h"}, {Key: "", Value: []byte{}}}
		case 1:
			m.Key, m.Value = []byte{}, nil
		}
		b.AppendMeta(m)
	}
}

func testBatch(tb testing.TB, rows int) *Batch {
	tb.Helper()
	b := NewBatch(schemaOf(tb, allTypes()...))
	fill(b, rows, random(7, 100_000))
	return b
}

func checkBatch(t *testing.T, b *Batch, rows int) {
	t.Helper()
	if b.Rows != rows || len(b.Cols) != len(b.Schema.Fields) {
		t.Fatalf("got %d rows in %d columns, want %d in %d", b.Rows, len(b.Cols), rows, len(b.Schema.Fields))
	}
	for i := range b.Cols {
		checkColumn(t, &b.Cols[i], rows)
		if !b.Cols[i].Type.Equal(&b.Schema.Fields[i].Type) {
			t.Errorf("column %d: got type %s, want %s", i, &b.Cols[i].Type, &b.Schema.Fields[i].Type)
		}
	}
	m := &b.Meta
	for i, n := range []int{len(m.Offsets), len(m.Timestamps), len(m.Keys), len(m.Values), len(m.Headers)} {
		if n != rows {
			t.Errorf("got %d entries in provenance %d, want %d", n, i, rows)
		}
	}
}

func TestBatch_keepGathersRowsAndProvenance(t *testing.T) {
	b, want := testBatch(t, 40), testBatch(t, 40)
	rows := []uint32{0, 3, 4, 17, 38}
	b.Keep(rows)
	checkBatch(t, b, len(rows))
	for i, row := range rows {
		for c := range b.Cols {
			if got, want := show(&b.Cols[c], i), show(&want.Cols[c], int(row)); got != want {
				t.Errorf("column %s, row %d: got %s, want %s", &b.Cols[c].Type, i, got, want)
			}
		}
		if diff := cmp.Diff(want.Letter(int(row), "s", Refusal{}), b.Letter(i, "s", Refusal{})); diff != "" {
			t.Errorf("provenance of row %d (-want +got):\n%s", i, diff)
		}
	}
	b.Keep(nil)
	checkBatch(t, b, 0)
}

func TestBatch_truncateDropsRowsAndWhatLiesBeyond(t *testing.T) {
	b, want := testBatch(t, 10), testBatch(t, 10)
	for i := range b.Cols[:5] {
		b.Cols[i].AppendZero() // a decoder that got this far
	}
	b.Truncate(10)
	if diff := cmp.Diff(want, b, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("after Truncate to all rows (-want +got):\n%s", diff)
	}
	b.Truncate(4)
	checkBatch(t, b, 4)
}

// A batch that is reset must not hold the memory of a fetch, which its source may use again.
func TestBatch_resetForgetsTheFetch(t *testing.T) {
	b := testBatch(t, 10)
	b.Truncate(8)
	b.Reset()
	checkBatch(t, b, 0)
	for i := range 10 {
		if b.Meta.Keys[:10][i] != nil || b.Meta.Values[:10][i] != nil || b.Meta.Headers[:10][i] != nil {
			t.Fatalf("row %d still refers to the fetch", i)
		}
	}
	if diff := cmp.Diff(Provenance{}, b.Meta, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("provenance (-want +got):\n%s", diff)
	}
}

func TestBatch_letterIsACopy(t *testing.T) {
	b := NewBatch(schemaOf(t, "int8"))
	b.Meta.Split, b.Meta.Topic, b.Meta.Partition = "orders/3", "orders", 3
	b.Cols[0].AppendInt(1)
	key, value, header := []byte("k"), []byte("v"), []byte("h")
	b.AppendMeta(RowMeta{Offset: 5, Timestamp: 9, Key: key, Value: value, Headers: []Header{{Key: "n", Value: header}}})
	got := b.Letter(0, "decode", Refusal{Row: 0, Reason: "because", Column: "c", Byte: 3})
	key[0], value[0], header[0] = '#', '#', '#'
	b.Reset()
	want := DeadLetter{
		Split: "orders/3", Topic: "orders", Partition: 3, Offset: 5, Timestamp: 9, Key: []byte("k"), Value: []byte("v"),
		Headers: []Header{{Key: "n", Value: []byte("h")}}, Stage: "decode", Reason: "because", Column: "c", Byte: 3,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("letter (-want +got):\n%s", diff)
	}
}

func TestBatch_bytesCountsColumnsAndPayload(t *testing.T) {
	b := NewBatch(schemaOf(t, "int64", "nullable(string)", "array(int16)"))
	empty := b.Bytes()
	b.Cols[0].AppendInt(1)
	b.Cols[1].AppendString("12345")
	b.Cols[2].Elem.AppendInt(1)
	b.Cols[2].CloseList()
	b.AppendMeta(RowMeta{Key: make([]byte, 10), Value: make([]byte, 100), Headers: []Header{{Key: "abc", Value: make([]byte, 7)}}})
	const want = 8 + 1 + 4 + 5 + 4 + 2 + 16 + 72 + 10 + 100 + 40 + 10
	if got := b.Bytes() - empty; got != want {
		t.Errorf("got %d bytes more than empty, want %d", got, want)
	}
}

// Steps change the columns of a batch; Reshape must find the memory again and nothing may grow from round to round.
func TestBatch_reshapeUsesTheMemoryAgain(t *testing.T) {
	s := schemaOf(t, "int64", "string", "array(string)", "string", "nullable(int8)")
	added := mustType(t, "float64")
	b := NewBatch(s)
	round := func() {
		b.Reshape(s)
		for range 3 {
			b.Cols[0].AppendInt(1)
			b.Cols[1].AppendString("text")
			b.Cols[2].Elem.AppendString("elem")
			b.Cols[2].CloseList()
			b.Cols[3].AppendString("more")
			b.Cols[4].AppendNull()
			b.AppendMeta(RowMeta{})
		}
		b.RemoveColumn(2)
		c := b.AddColumn(&added)
		for range 3 {
			c.AppendFloat(1)
		}
		b.MoveColumn(4, 0)
		b.RemoveColumn(1)
	}
	round()
	got := []string{b.Cols[0].Type.String(), b.Cols[1].Type.String(), b.Cols[2].Type.String()}
	if diff := cmp.Diff([]string{"float64", "string", "nullable(int8)"}, got); diff != "" || len(b.Cols) != 3 {
		t.Errorf("columns (-want +got):\n%s", diff)
	}
	if got := string(b.Cols[1].BytesAt(0)); got != "more" {
		t.Errorf("got %q in the column that stayed, want more", got)
	}
	round()
	if got := cap(b.Cols); got > 12 {
		t.Errorf("got room for %d columns, want no growth", got)
	}
	if n := testing.AllocsPerRun(50, round); n != 0 {
		t.Errorf("got %v allocations in a round of steps, want 0", n)
	}
	b.Reshape(s)
	checkBatch(t, b, 0)
}

func TestBatch_steadyStateTakesNoMemory(t *testing.T) {
	source := testBatch(t, 200)
	b := NewBatch(source.Schema)
	rows := []uint32{1, 5, 60, 150}
	round := func() {
		b.Reset()
		for row := range source.Rows {
			for i := range b.Cols {
				b.Cols[i].AppendFrom(&source.Cols[i], row)
			}
			b.AppendMeta(RowMeta{Key: source.Meta.Keys[row], Value: source.Meta.Values[row], Headers: source.Meta.Headers[row]})
		}
		b.Keep(rows)
		b.Truncate(2)
	}
	round()
	if n := testing.AllocsPerRun(20, round); n != 0 {
		t.Errorf("got %v allocations for 200 records, want 0", n)
	}
}

func TestAppendDeadLetter_keepsEveryByte(t *testing.T) {
	b := NewBatch(DeadLetterSchema())
	AppendDeadLetter(b, DeadLetter{
		Split: "orders/3", Topic: "orders", Partition: 3, Offset: 7, Timestamp: 1_700_000_000_001, Key: []byte("k"),
		Value: []byte("{\"a\":\n"), Stage: "decode", Reason: "why", Column: "c", Byte: 5,
		Headers: []Header{{Key: "x", Value: []byte("é\"\x01")}, {Key: "x"}, {Key: "\xff", Value: []byte{0xfe}}, {Key: "", Value: []byte{}}},
	})
	AppendDeadLetter(b, DeadLetter{Split: "/var/log/x", Offset: 8, Timestamp: -1, Key: []byte{0xff}, Value: []byte{0xc3, 0x28}, Byte: -1})
	AppendDeadLetter(b, DeadLetter{Offset: 9, Value: []byte{}, Byte: 0})
	AppendDeadLetter(b, DeadLetter{Offset: 10, Byte: -1})
	checkBatch(t, b, 4)
	text := func(name string, row int) string {
		c := &b.Cols[b.Schema.Index(name)]
		switch {
		case c.IsNull(row):
			return "null"
		case c.Type.Kind == String:
			return string(c.BytesAt(row))
		}
		return show(c, row)
	}
	const headers = `[{"key":"x","value":"é\"\u0001"},{"key":"x","value":null},{"key_base64":"/w==","value_base64":"/g=="},{"key":"","value":""}]`
	for column, want := range map[string][4]string{
		"split":        {"orders/3", "/var/log/x", "", ""},
		"topic":        {"orders", "", "", ""},
		"timestamp":    {"0168e5cf8b010000", "null", "0000000000000000", "0000000000000000"},
		"key":          {"k", "null", "null", "null"},
		"key_base64":   {"null", "/w==", "null", "null"},
		"value":        {"{\"a\":\n", "null", "", "null"},
		"value_base64": {"null", "wyg=", "null", "null"},
		"headers":      {headers, "[]", "[]", "[]"},
		"stage":        {"decode", "", "", ""},
		"reason":       {"why", "", "", ""},
		"column":       {"c", "null", "null", "null"},
		"byte":         {"0500000000000000", "null", "0000000000000000", "null"},
	} {
		for row := range want {
			if got := text(column, row); got != want[row] {
				t.Errorf("%s of row %d: got %s, want %s", column, row, got, want[row])
			}
		}
	}
	if got := b.Meta.Offsets; !cmp.Equal(got, []Offset{7, 8, 9, 10}) {
		t.Errorf("got offsets %v", got)
	}
}

// Exactly one of value and value_base64 is there, and it gives the bytes back, whatever they are.
func FuzzAppendDeadLetter(f *testing.F) {
	f.Add([]byte("text"), "h", []byte{0xff})
	f.Add([]byte{0xff, 0}, "\xff", []byte("v"))
	f.Fuzz(func(t *testing.T, value []byte, key string, header []byte) {
		b := NewBatch(DeadLetterSchema())
		AppendDeadLetter(b, DeadLetter{Value: value, Headers: []Header{{Key: key, Value: header}}, Byte: -1})
		checkBatch(t, b, 1)
		plain, encoded := &b.Cols[letterValue], &b.Cols[letterValueBase64]
		if value == nil {
			return
		}
		if plain.IsNull(0) == encoded.IsNull(0) {
			t.Fatalf("got value null %t and value_base64 null %t", plain.IsNull(0), encoded.IsNull(0))
		}
		got := plain.BytesAt(0)
		if !encoded.IsNull(0) {
			got = fromBase64(t, encoded.BytesAt(0))
		}
		if !bytes.Equal(got, value) {
			t.Fatalf("got %q back, want %q", got, value)
		}
		checkHeaders(t, b.Cols[letterHeaders].BytesAt(0), key, header)
	})
}
