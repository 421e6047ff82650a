package state

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/record"
)

// keyOfTexts makes a batch of one row from types and texts, and the key of all its columns.
func keyOfTexts(t *testing.T, columns ...[2]string) (b *record.Batch, key []byte) {
	t.Helper()
	schema := &record.Schema{}
	for i, c := range columns {
		typ, err := record.ParseType(c[0])
		if err != nil {
			t.Fatal(err)
		}
		schema.Fields = append(schema.Fields, record.Field{Name: string(rune('a' + i)), Type: typ})
	}
	b = record.NewBatch(schema)
	var cols []int
	for i, c := range columns {
		cols = append(cols, i)
		if c[1] == "null" {
			b.Cols[i].AppendNull()
			continue
		}
		text, err := codec.NewText(&schema.Fields[i].Type)
		if err != nil {
			t.Fatal(err)
		}
		if err := text.Append(&b.Cols[i], []byte(c[1])); err != nil {
			t.Fatal(err)
		}
	}
	b.Rows = 1
	return b, AppendKey(nil, b, cols, 0)
}

// A key tells by itself how it is read: values of every type come back as they were.
func TestKeyTypes_readEveryKey(t *testing.T) {
	b, key := keyOfTexts(t,
		[2]string{"bool", "true"}, [2]string{"int8", "-5"}, [2]string{"int64", "-9223372036854775808"}, [2]string{"uint64", "18446744073709551615"},
		[2]string{"int256", "-1"}, [2]string{"uint256", "115792089237316195423570985008687907853269984665640564039457584007913129639935"},
		[2]string{"float32", "1.5"}, [2]string{"float64", "-0.25"}, [2]string{"decimal(12, 3)", "-12.340"}, [2]string{"string", "a\"b"},
		[2]string{"fixed_string(4)", "abcd"}, [2]string{"date", "2026-01-02"}, [2]string{"timestamp(3)", "2026-01-02T03:04:05.678Z"},
		[2]string{"timestamp(9)", "1969-12-31T23:59:59.999999999Z"}, [2]string{"uuid", "00112233-4455-6677-8899-aabbccddeeff"},
		[2]string{"ipv4", "10.1.2.3"}, [2]string{"ipv6", "2001:db8::1"}, [2]string{"nullable(int32)", "null"}, [2]string{"string", ""})
	types, err := KeyTypes(key)
	if err != nil {
		t.Fatal(err)
	}
	if len(types) != len(b.Cols) {
		t.Fatalf("got %d types, want %d", len(types), len(b.Cols))
	}
	var got, want []string
	cols := make([]record.Column, len(types))
	pointers := make([]*record.Column, len(types))
	for i := range types {
		cols[i] = record.NewColumn(types[i])
		pointers[i] = &cols[i]
	}
	if err := ReadKey(key, pointers...); err != nil {
		t.Fatal(err)
	}
	for i := range cols {
		got = append(got, string(codec.AppendJSONValue(nil, &cols[i], 0)))
		want = append(want, string(codec.AppendJSONValue(nil, &b.Cols[i], 0)))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("values of the key (-want +got):\n%s", diff)
	}
}

// Arrays are read when their elements have one type, nulls among them; those of an enum by their numbers.
func TestKeyTypes_arraysAndEnums(t *testing.T) {
	typ, err := record.ParseType("array(nullable(int32))")
	if err != nil {
		t.Fatal(err)
	}
	enum, err := record.ParseType(`enum("red" = 0, "blue" = 7)`)
	if err != nil {
		t.Fatal(err)
	}
	b := record.NewBatch(&record.Schema{Fields: []record.Field{{Name: "a", Type: typ}, {Name: "b", Type: enum}}})
	b.Cols[0].Elem.AppendNull()
	b.Cols[0].Elem.AppendInt(4)
	b.Cols[0].CloseList()
	b.Cols[1].AppendInt(7)
	b.Rows = 1
	key := AppendKey(nil, b, []int{0, 1}, 0)
	types, err := KeyTypes(key)
	if err != nil {
		t.Fatal(err)
	}
	list, number := record.NewColumn(types[0]), record.NewColumn(types[1])
	if err := ReadKey(key, &list, &number); err != nil {
		t.Fatal(err)
	}
	if got := string(codec.AppendJSONValue(codec.AppendJSONValue(nil, &list, 0), &number, 0)); got != "[null,4]7" {
		t.Errorf("got %s, want [null,4]7", got)
	}
}

// FuzzKeyTypes takes any bytes: what it returns types for reads with them, or is refused.
func FuzzKeyTypes(f *testing.F) {
	f.Add([]byte{tagString, 2, 'a', 'b', tagInteger, 1, 5})
	f.Add([]byte{tagArray, 2, tagNull, tagInteger, 1, 5})
	f.Add([]byte{tagDecimal, 3, 1, 5, tagTimestamp, 3, 1, 5})
	f.Fuzz(func(t *testing.T, key []byte) {
		types, err := KeyTypes(key)
		if err != nil {
			return
		}
		if len(types) > len(key) {
			t.Fatalf("%d types of %d bytes", len(types), len(key))
		}
		pointers := make([]*record.Column, len(types))
		for i := range types {
			c := record.NewColumn(types[i])
			pointers[i] = &c
		}
		_ = ReadKey(key, pointers...) // it may refuse a value that is out of the type's range
	})
}
