package kafka

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// nowhere is a staging folder that keeps nothing.
type nowhere struct{}

func (n *nowhere) Put(_ context.Context, data []byte, rows int64) (sink.Segment, error) {
	return sink.Segment{Rows: rows, Bytes: int64(len(data))}, nil
}

func (n *nowhere) Get(context.Context, sink.Segment) ([]byte, error) { return nil, nil }

// Rows of about 280 bytes become batches in segments: everything that a record costs before its commit.
func BenchmarkWriter_lz4(b *testing.B) {
	s := Settings{Brokers: []string{"localhost:1"}, Topic: "out", Key: []string{"id"}}
	s.defaults()
	sk := &Sink{settings: &s, target: target{partitions: 8, messageMax: messageMaxDefault}}
	sk.env.Segments = &nowhere{}
	schema := schemaOf(b, "id int64", "name string", "body string", "at timestamp(3)")
	w, err := newWriter(sk, 0, schema)
	if err != nil {
		b.Fatal(err)
	}
	const rows = 1000
	batch := record.NewBatch(schema)
	for i := range rows {
		batch.Cols[0].AppendInt(int64(i * 7919))
		batch.Cols[1].AppendString(fmt.Sprintf("name-%d", i%50))
		batch.Cols[2].AppendString(strings.Repeat(fmt.Sprintf("%016x", i*2654435761), 12))
		batch.Cols[3].AppendInt(1_700_000_000_000 + int64(i))
		batch.AppendMeta(record.RowMeta{Timestamp: 1_700_000_000_000})
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Write(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := w.Prepare(b.Context(), sink.Cut{}); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)*rows/b.Elapsed().Seconds(), "rows/s")
}
