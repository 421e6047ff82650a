package clickhouse

import (
	"bytes"
	"errors"
	"fmt"
	"io"
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

// Goal: what is sent is what ch-go's own columns read from it. Method: encode columns of several chunks and decode them with
// ch-go.
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
			var wire bytes.Buffer
			w := newFrameWriter(&wire, compressionNone)
			w.native(s, cols)
			if err := w.flush(); err != nil {
				t.Fatal(err)
			}
			rows := 0
			for _, chunk := range cols {
				rows += chunk.Len()
			}
			r := proto.NewReader(&wire)
			if err := c.col.DecodeColumn(r, rows); err != nil {
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
	native := func(s *shape, cols []*record.Column) []byte {
		w := newFrameWriter(io.Discard, compressionNone)
		w.native(s, cols)
		return w.buf
	}
	if got, want := native(nullable, plain), []byte{0, 0, 1, 2}; !bytes.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	_, without := chunks(t, "Nullable(UInt8)", func(c *record.Column) { c.AppendInt(1) })
	bare, err := parseShape("UInt8")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := native(bare, without), []byte{1}; !bytes.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// testBlock is a unit of two equal batches of one column.
func testBlock(t *testing.T, rows int) *block {
	t.Helper()
	schema := &record.Schema{Fields: []record.Field{{Name: "a", Type: record.Type{Kind: record.String}}}}
	b := record.NewBatch(schema)
	for i := range rows {
		b.Cols[0].AppendString(fmt.Sprint("value ", i))
		b.AppendMeta(record.RowMeta{})
	}
	made, err := newBlock(&unitData{Block: 77, Columns: []wireColumn{{"a", "String"}}}, []*record.Batch{b, b})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// A block of many frames is one block to ch-go, with the number in every row, whatever the compression.
func TestBlock_framesAreOneBlock(t *testing.T) {
	const rows = 150_000
	for _, compression := range []string{compressionNone, compressionLZ4, compressionZSTD} {
		var wire bytes.Buffer
		if err := testBlock(t, rows).encode(newFrameWriter(&wire, compression), proto.Version); err != nil {
			t.Fatal(err)
		}
		r := proto.NewReader(&wire)
		if compression != compressionNone {
			r.EnableCompression()
		}
		var text proto.ColStr
		var numbers proto.ColUInt64
		var b proto.Block
		results := proto.Results{{Name: "a", Data: &text}, {Name: provenanceColumn, Data: &numbers}}
		if err := b.DecodeBlock(r, proto.Version, results); err != nil {
			t.Fatalf("%s: %v", compression, err)
		}
		if b.Rows != 2*rows || text.Rows() != 2*rows || text.Row(rows-1) != text.Row(2*rows-1) || text.Row(5) != "value 5" {
			t.Errorf("%s: got %d rows, the last %q", compression, text.Rows(), text.Row(text.Rows()-1))
		}
		for i, n := range numbers {
			if n != 77 {
				t.Fatalf("%s: row %d has number %d, want 77", compression, i, n)
			}
		}
		if _, err := r.ReadByte(); err == nil {
			t.Errorf("%s: bytes are left after the block", compression)
		}
	}
}

// A broken connection is noticed, and nothing more is written.
func TestBlock_firstErrorStays(t *testing.T) {
	broken := errors.New("broken")
	writes := 0
	w := newFrameWriter(writerFunc(func([]byte) (int, error) {
		writes++
		return 0, broken
	}), compressionLZ4)
	if err := testBlock(t, 200_000).encode(w, proto.Version); !errors.Is(err, broken) || writes != 1 {
		t.Errorf("got %v after %d writes, want the error of the first", err, writes)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestBlock_unitThatDoesNotFitItsColumns(t *testing.T) {
	schema := &record.Schema{Fields: []record.Field{{Name: "a", Type: record.Type{Kind: record.Uint8}}}}
	b := record.NewBatch(schema)
	data := &unitData{Columns: []wireColumn{{"a", "UInt16"}}}
	if _, err := newBlock(data, []*record.Batch{b}); err == nil {
		t.Error("a column of another type is sent")
	}
	data.Columns = []wireColumn{{"a", "UInt8"}, {"b", "UInt8"}}
	if _, err := newBlock(data, []*record.Batch{b}); err == nil {
		t.Error("a batch with fewer columns is sent")
	}
	data.Columns = []wireColumn{{"a", "Point"}}
	if _, err := newBlock(data, []*record.Batch{b}); err == nil {
		t.Error("a type that is not known is sent")
	}
}

func BenchmarkBlock_encode(b *testing.B) {
	const rows = 100_000
	made := &block{rows: rows, number: 1}
	for _, name := range []string{"UInt64", "DateTime64(3)", "String", "String", "Float64", "UInt32"} {
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
		made.columns = append(made.columns, blockColumn{name: name, shape: s, chunks: []*record.Column{&c}})
	}
	for _, compression := range []string{compressionNone, compressionLZ4, compressionZSTD} {
		b.Run(compression, func(b *testing.B) {
			for b.Loop() {
				if err := made.encode(newFrameWriter(io.Discard, compression), proto.Version); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
		})
	}
}
