package clickhouse

import (
	"bytes"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/ingestd/ingestd/record"
)

// chunks makes columns of one type, each of its own values.
func chunks(t *testing.T, typ string, parts ...func(c *record.Column)) (*shape, []*record.Column) {
	t.Helper()
	s, err := parseShape(typ)
	if err != nil {
		t.Fatal(err)
	}
	var list []*record.Column
	for _, part := range parts {
		c := record.NewColumn(s.typ)
		part(&c)
		list = append(list, &c)
	}
	return s, list
}

// Goal: what is sent is what ch-go's own columns read from it. Method: encode columns of several chunks, both ways in which
// ch-go takes them, and decode them with ch-go.
func TestBlock_chGoReadsWhatIsSent(t *testing.T) {
	put := func(v ...int64) func(*record.Column) {
		return func(c *record.Column) {
			for _, n := range v {
				c.AppendInt(n)
			}
		}
	}
	list := func(rows ...[]string) func(*record.Column) {
		return func(c *record.Column) {
			for _, row := range rows {
				for _, s := range row {
					c.Elem.AppendString(s)
				}
				c.CloseList()
			}
		}
	}
	nulls := func(c *record.Column) {
		c.AppendNull()
		c.AppendInt(5)
	}
	uuid := func(c *record.Column) { c.AppendFixed([]byte("0123456789abcdef")) }
	cases := []struct {
		typ   string
		parts []func(*record.Column)
		col   proto.ColResult
		want  string
	}{
		{"UInt32", []func(*record.Column){put(1, 2), put(), put(3)}, new(proto.ColUInt32), "[1 2 3]"},
		{"Date", []func(*record.Column){put(0, 1), put(65535)}, new(proto.ColDate), "[1970-01-01 1970-01-02 2149-06-06]"},
		{"Enum8('a' = -1)", []func(*record.Column){put(-1), put(-1)}, new(proto.ColInt8), "[-1 -1]"},
		{"String", []func(*record.Column){
			func(c *record.Column) { c.AppendString("a"); c.AppendString("") },
			func(c *record.Column) { c.AppendString("longer\x00") },
		}, new(proto.ColStr), "[a  longer\x00]"},
		{"Nullable(UInt8)", []func(*record.Column){nulls, put(6)}, new(proto.ColUInt8).Nullable(), "[{false 0} {true 5} {true 6}]"},
		{"UUID", []func(*record.Column){uuid}, new(proto.ColUUID), "[30313233-3435-3637-3839-616263646566]"},
		{"Array(String)", []func(*record.Column){list([]string{"a", "b"}, nil), list([]string{"c"})}, proto.NewArray(new(proto.ColStr)), "[[a b] [] [c]]"},
	}
	for _, c := range cases {
		t.Run(c.typ, func(t *testing.T) {
			s, cols := chunks(t, c.typ, c.parts...)
			col := &blockColumn{shape: s, chunks: cols, sent: new(atomic.Bool)}
			for _, chunk := range cols {
				col.rows += chunk.Len()
			}
			var buf proto.Buffer
			col.EncodeColumn(&buf)
			var wire bytes.Buffer
			w := proto.NewWriter(&wire, new(proto.Buffer))
			col.WriteColumn(w)
			if _, err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(buf.Buf, wire.Bytes()) {
				t.Errorf("the two encodings differ: %x and %x", buf.Buf, wire.Bytes())
			}
			if !col.sent.Load() {
				t.Error("it is not noted that data were asked for")
			}
			r := proto.NewReader(&wire)
			if err := c.col.DecodeColumn(r, col.rows); err != nil {
				t.Fatal(err)
			}
			if got := rowsText(c.col); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if _, err := r.ReadByte(); err == nil {
				t.Error("bytes are left after the column")
			}
		})
	}
}

// rowsText shows the rows of ch-go's columns.
func rowsText(c proto.ColResult) string {
	rows := make([]any, 0, c.Rows())
	for i := range c.Rows() {
		switch c := c.(type) {
		case *proto.ColUInt32:
			rows = append(rows, c.Row(i))
		case *proto.ColInt8:
			rows = append(rows, c.Row(i))
		case *proto.ColDate:
			rows = append(rows, c.Row(i).Format("2006-01-02"))
		case *proto.ColStr:
			rows = append(rows, c.Row(i))
		case *proto.ColUUID:
			rows = append(rows, c.Row(i))
		case *proto.ColArr[string]:
			rows = append(rows, c.Row(i))
		case *proto.ColNullable[uint8]:
			v := c.Row(i)
			rows = append(rows, struct {
				Set   bool
				Value uint8
			}{v.Set, v.Value})
		}
	}
	return fmt.Sprint(rows)
}

// A column without nulls goes to a nullable one and back: the null map is made, or left out.
func TestBlock_nullsOfOneSide(t *testing.T) {
	_, plain := chunks(t, "UInt8", func(c *record.Column) { c.AppendInt(1); c.AppendInt(2) })
	nullable, err := parseShape("Nullable(UInt8)")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := appendNative(nil, nullable, plain), []byte{0, 0, 1, 2}; !bytes.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	_, without := chunks(t, "Nullable(UInt8)", func(c *record.Column) { c.AppendInt(1) })
	bare, err := parseShape("UInt8")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := appendNative(nil, bare, without), []byte{1}; !bytes.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestBlock_inputOfAUnit(t *testing.T) {
	schema := &record.Schema{Fields: []record.Field{{Name: "a", Type: record.Type{Kind: record.Uint8}}}}
	b := record.NewBatch(schema)
	for i := range 3 {
		b.Cols[0].AppendInt(int64(i))
		b.AppendMeta(record.RowMeta{})
	}
	data := &unitData{Block: 77, Columns: []wireColumn{{"a", "UInt8"}}}
	input, sent, err := buildInput(data, []*record.Batch{b, b})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range input {
		names = append(names, fmt.Sprint(c.Name, c.Data.Type(), c.Data.Rows()))
	}
	if want := []string{"aUInt86", "_ingestd_blockUInt646"}; !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
	if sent.Load() {
		t.Error("nothing was sent yet")
	}
	data.Columns[0].Type = "UInt16"
	if _, _, err := buildInput(data, []*record.Batch{b}); err == nil {
		t.Error("a column of another type is sent")
	}
	data.Columns = append(data.Columns, wireColumn{"b", "UInt8"})
	if _, _, err := buildInput(data, []*record.Batch{b}); err == nil {
		t.Error("a batch with fewer columns is sent")
	}
}

func BenchmarkBlock_encode(b *testing.B) {
	const rows = 100_000
	types := []string{"UInt64", "DateTime64(3)", "String", "String", "Float64", "UInt32"}
	var input proto.Input
	for _, name := range types {
		s, err := parseShape(name)
		if err != nil {
			b.Fatal(err)
		}
		c := record.NewColumn(s.typ)
		for i := range rows {
			if s.layout == layoutString {
				c.AppendString(fmt.Sprint("value ", i%1000))
			} else {
				c.AppendInt(int64(i))
			}
		}
		input = append(input, proto.InputColumn{Name: name, Data: &blockColumn{shape: s, chunks: []*record.Column{&c}, rows: rows, sent: new(atomic.Bool)}})
	}
	var buf proto.Buffer
	for b.Loop() {
		buf.Reset()
		block := proto.Block{Columns: len(input), Rows: rows}
		if err := block.EncodeBlock(&buf, proto.Version, input); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
	b.SetBytes(int64(len(buf.Buf)))
}
