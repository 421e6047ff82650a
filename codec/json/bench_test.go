package json

import (
	"fmt"
	"testing"

	"github.com/ingestd/ingestd/record"
)

// flatRecords are events of about 300 bytes for 8 columns.
func flatRecords(n int) (*record.Schema, [][]byte) {
	s := &record.Schema{Fields: []record.Field{
		{Name: "id", Type: record.Type{Kind: record.Uint64}},
		{Name: "ts", Type: record.Type{Kind: record.Timestamp, Precision: 3}},
		{Name: "user", Type: record.Type{Kind: record.String}},
		{Name: "event", Type: record.Type{Kind: record.String}},
		{Name: "amount", Type: record.Type{Kind: record.Decimal, Precision: 18, Scale: 2}},
		{Name: "ratio", Type: record.Type{Kind: record.Float64}},
		{Name: "ok", Type: record.Type{Kind: record.Bool}},
		{Name: "tag", Path: "tags.a", Type: record.Type{Kind: record.String, Nullable: true}, Optional: true},
	}}
	records := make([][]byte, n)
	for i := range records {
		records[i] = fmt.Appendf(nil, `{"id":%d,"ts":"2026-11-%02dT12:%02d:07.%03dZ","user":"user-%d@example.com","event":"click",`+
			`"amount":%d.%02d,"ratio":0.%d,"ok":%t,"tags":{"a":"value %d","b":"unused","c":[1,2,3]},`+
			`"session":"0f8fad5b-d9cb-469f-a165-70867728950e","agent":"Mozilla/5.0 (X11; Linux x86_64)","referer":"https://example.com/"}`,
			1_000_000_000+i, i%28+1, i%60, i%1000, i*7919%100_000, i%5000, i%100, 100_000+i, i%2 == 0, i)
	}
	return s, records
}

// wideRecords are nested records of about 1,400 bytes for 10 columns.
func wideRecords(n int) (*record.Schema, [][]byte) {
	text := record.Type{Kind: record.String}
	s := &record.Schema{Fields: []record.Field{
		{Name: "op", Path: "payload.op", Type: text},
		{Name: "id", Path: "payload.after.id", Type: record.Type{Kind: record.Int64}},
		{Name: "name", Path: "payload.after.name", Type: text},
		{Name: "price", Path: "payload.after.price", Type: record.Type{Kind: record.Decimal, Precision: 18, Scale: 4}},
		{Name: "tags", Path: "payload.after.tags", Type: record.Type{Kind: record.Array, Elem: &text}},
		{Name: "created", Path: "payload.after.created", Type: record.Type{Kind: record.Timestamp, Precision: 6}},
		{Name: "db", Path: "payload.source.db", Type: text},
		{Name: "tbl", Path: "payload.source.table", Type: text},
		{Name: "lsn", Path: "payload.source.lsn", Type: record.Type{Kind: record.Uint64}},
		{Name: "at", Path: "payload.ts_ms", Type: record.Type{Kind: record.Int64}},
	}}
	row := func(i int, state string) string {
		return fmt.Sprintf(`{"id":%d,"name":"product number %d","price":"%d.%04d","tags":["red","green","blue-%d"],`+
			`"created":"2026-11-03T10:11:12.%06dZ","description":"A product that is %s and has a description of some length, `+
			`with \"quotes\" and caf\u00e9","stock":{"a":%d,"b":%d,"c":[1,2,3,4,5,6,7,8]},"supplier":null,"weight":%d.5}`,
			i, i, i%900, i%10_000, i%50, i%1_000_000, state, i, i*3, i%80)
	}
	records := make([][]byte, n)
	for i := range records {
		records[i] = fmt.Appendf(nil, `{"schema":{"type":"struct","optional":false,"name":"shop.public.products.Envelope","fields":`+
			`[{"field":"before","type":"struct"},{"field":"after","type":"struct"},{"field":"source","type":"struct"}]},`+
			`"payload":{"before":%s,"after":%s,"source":{"version":"2.7.0","connector":"postgresql","name":"shop","ts_ms":17%011d,`+
			`"snapshot":"false","db":"shop","sequence":"[\"1\",\"2\"]","schema":"public","table":"products","txId":%d,"lsn":%d},`+
			`"op":"u","ts_ms":17%011d,"transaction":null}}`, row(i, "old"), row(i, "new"), i, i, 90_000_000+i, i)
	}
	return s, records
}

func benchmark(b *testing.B, s *record.Schema, records [][]byte) {
	b.Helper()
	d := newTestDecoder(b, s, Settings{})
	batch := record.NewBatch(s)
	total := 0
	for _, r := range records {
		total += len(r)
	}
	b.SetBytes(int64(total / len(records)))
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if i%1024 == 0 {
			batch.Reset()
		}
		if r, ok := d.Decode(batch, records[i%len(records)]); !ok {
			b.Fatalf("record %s refused: %+v", records[i%len(records)], r)
		}
		batch.AppendMeta(record.RowMeta{})
	}
}

func BenchmarkDecode_flat300(b *testing.B) {
	s, records := flatRecords(65_536)
	benchmark(b, s, records)
}

func BenchmarkDecode_nested1400(b *testing.B) {
	s, records := wideRecords(16_384)
	benchmark(b, s, records)
}

func newTestDecoder(tb testing.TB, s *record.Schema, settings Settings) *Decoder {
	tb.Helper()
	f, err := New(settings)
	if err != nil {
		tb.Fatal(err)
	}
	d, err := f.New(s)
	if err != nil {
		tb.Fatal(err)
	}
	return d.(*Decoder)
}
