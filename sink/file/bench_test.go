package file

import (
	"bytes"
	"testing"
	"time"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// BenchmarkWriter writes rows of about 300 bytes to the machine's disk, with a checkpoint every 100,000 rows.
func BenchmarkWriter(b *testing.B) {
	for _, compression := range []string{compressionNone, compressionGzip, compressionZstd} {
		b.Run(compression, func(b *testing.B) {
			p, err := New(Settings{Path: b.TempDir(), Compression: compression})
			if err != nil {
				b.Fatal(err)
			}
			s, err := p.Open(b.Context(), sink.Env{Identity: identityOf("store"), Lease: 1, Tasks: 1})
			if err != nil {
				b.Fatal(err)
			}
			if err := s.Restore(b.Context(), nil, nil); err != nil {
				b.Fatal(err)
			}
			batch := benchBatch()
			w, err := s.Writer(b.Context(), 0, batch.Schema)
			if err != nil {
				b.Fatal(err)
			}
			const rowBytes, checkpointRows = 300, 100_000
			b.SetBytes(rowBytes)
			b.ReportAllocs()
			for n, cut := 0, 0; n < b.N; n += batch.Rows {
				if _, err := w.Write(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
				if n/checkpointRows > cut {
					cut++
					if _, err := w.Prepare(b.Context(), sink.Cut{Lease: 1, Checkpoint: record.Checkpoint(cut), Time: time.Now().UnixMilli()}); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func benchBatch() *record.Batch {
	text := record.Type{Kind: record.String}
	batch := record.NewBatch(&record.Schema{Fields: []record.Field{
		{Name: "id", Type: record.Type{Kind: record.Int64}},
		{Name: "amount", Type: record.Type{Kind: record.Float64}},
		{Name: "time", Type: record.Type{Kind: record.Timestamp, Precision: 3}},
		{Name: "user", Type: text},
		{Name: "text", Type: text},
	}})
	for i := range int64(1000) {
		batch.Cols[0].AppendInt(i)
		batch.Cols[1].AppendFloat(float64(i) * 1.25)
		batch.Cols[2].AppendInt(1_700_000_000_000 + i)
		batch.Cols[3].AppendString("user-" + time.UnixMilli(i).String())
		batch.Cols[4].AppendBytes(bytes.Repeat([]byte("some text "), 15))
		batch.AppendMeta(record.RowMeta{Offset: record.Offset(i), Timestamp: i})
	}
	return batch
}
