package avro

import (
	"math/big"
	"testing"
	"time"

	"github.com/hamba/avro/v2"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/record"
)

// event is a flat record of 10 fields, about 100 bytes.
const event = `{"type":"record","name":"Event","fields":[
	{"name":"id","type":"long"},{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},{"name":"user","type":"string"},
	{"name":"event","type":{"type":"enum","name":"Kind","symbols":["view","click","buy"]}},
	{"name":"amount","type":{"type":"bytes","logicalType":"decimal","precision":18,"scale":2}},{"name":"score","type":"double"},
	{"name":"ok","type":"boolean"},{"name":"tag","type":["null","string"]},{"name":"page","type":"string"},
	{"name":"tags","type":{"type":"record","name":"Tags","fields":[{"name":"a","type":"string"},{"name":"b","type":"int"}]}}]}`

func eventColumns() []codec.Column {
	return []codec.Column{
		{Name: "id", Type: "int64"},
		{Name: "at", Type: "timestamp(3)"},
		{Name: "user", Type: "string"},
		{Name: "event", Type: `enum("view" = 1, "click" = 2, "buy" = 3)`},
		{Name: "amount", Type: "decimal(18, 2)"},
		{Name: "score", Type: "float64"},
		{Name: "ok", Type: "bool"},
		{Name: "tag", Type: "nullable(string)"},
		{Name: "page", Type: "string"},
		{Name: "a", Path: "tags.a", Type: "string"},
		{Name: "b", Path: "tags.b", Type: "int32"},
	}
}

func eventValue() []byte {
	return join(long(12345678901), long(1793700672500), text("user-1@example.com"), long(1), text("\x30\x39"), double(0.12345), []byte{1},
		long(1), text("value of a tag"), text("/shop/category/item-12345"), text("something"), long(77))
}

func BenchmarkDecoder(b *testing.B) {
	f := plain(b, event, eventColumns()...)
	s, err := f.Schema(nil)
	if err != nil {
		b.Fatal(err)
	}
	d, err := f.New(s)
	if err != nil {
		b.Fatal(err)
	}
	batch, value := record.NewBatch(s), eventValue()
	b.SetBytes(int64(len(value)))
	b.ReportAllocs()
	for b.Loop() {
		if batch.Cols[0].Len() == 1024 {
			for i := range batch.Cols {
				batch.Cols[i].Truncate(0)
			}
		}
		if r, ok := d.Decode(batch, value); !ok {
			b.Fatal(r)
		}
	}
}

// The floor beside it: the library into generic values and into a struct, none of which are columns yet.
func BenchmarkLibraryDecode(b *testing.B) {
	type tags struct {
		A string `avro:"a"`
		B int    `avro:"b"`
	}
	type fixed struct {
		ID     int64     `avro:"id"`
		At     time.Time `avro:"at"`
		User   string    `avro:"user"`
		Event  string    `avro:"event"`
		Amount *big.Rat  `avro:"amount"`
		Score  float64   `avro:"score"`
		OK     bool      `avro:"ok"`
		Tag    *string   `avro:"tag"`
		Page   string    `avro:"page"`
		Tags   tags      `avro:"tags"`
	}
	s, value := avro.MustParse(event), eventValue()
	for _, test := range []struct {
		name string
		make func() any
	}{{"generic", func() any { return new(any) }}, {"struct", func() any { return new(fixed) }}} {
		b.Run(test.name, func(b *testing.B) {
			b.SetBytes(int64(len(value)))
			b.ReportAllocs()
			for b.Loop() {
				if err := avro.Unmarshal(s, value, test.make()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEncoder(b *testing.B) {
	f := plain(b, event, eventColumns()...)
	s, err := f.Schema(nil)
	if err != nil {
		b.Fatal(err)
	}
	d, err := f.New(s)
	if err != nil {
		b.Fatal(err)
	}
	batch := record.NewBatch(s)
	if r, ok := d.Decode(batch, eventValue()); !ok {
		b.Fatal(r)
	}
	e, err := unframed(b, EncoderSettings{}).New(s)
	if err != nil {
		b.Fatal(err)
	}
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		out, _, _ = e.Encode(out[:0], batch, 0)
	}
	b.SetBytes(int64(len(out)))
}
