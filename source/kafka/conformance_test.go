package kafka

import (
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/source"
	"github.com/ingestd/ingestd/source/sourcetest"
)

// The data hold every codec, keys, tombstones, headers, empty values, a partition without records, aborted transactions (one of
// them at the end), control records, and a record above the limit.
func TestSource_conforms(t *testing.T) {
	c := cluster(t, kfake.NumBrokers(2), kfake.SeedTopics(3, "codecs"), kfake.SeedTopics(2, "transactions"))
	want := map[string][]sourcetest.Record{"codecs/1": nil, "transactions/1": nil}
	codecs := []kgo.CompressionCodec{
		kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(),
	}
	for n, codec := range codecs {
		cl := client(t, c, kgo.ProducerBatchCompression(codec))
		for _, partition := range []int32{0, 2} {
			var records []*kgo.Record
			for i := range 200 {
				r := &kgo.Record{
					Topic: "codecs", Partition: partition,
					Key: fmt.Appendf(nil, "key-%d", i), Value: fmt.Appendf(nil, "%d: %s", n, strings.Repeat("v", i)),
				}
				switch i % 10 {
				case 3:
					r.Value = nil
				case 4:
					r.Value, r.Key = []byte{}, nil
				case 5:
					r.Headers = []kgo.RecordHeader{{Key: "h", Value: []byte("1")}, {Key: "h", Value: nil}}
				case 6:
					r.Value = []byte(strings.Repeat("large", 300))
				}
				records = append(records, r)
			}
			send(t, cl, records...)
			split := fmt.Sprintf("codecs/%d", partition)
			for _, r := range records {
				w := sourcetest.Record{Offset: record.Offset(r.Offset), Key: string(r.Key), Value: string(r.Value), Null: r.Value == nil}
				if len(w.Key)+len(w.Value) > 1024 {
					w.Refused, w.Value = true, w.Value[:1024-len(w.Key)]
				}
				want[split] = append(want[split], w)
			}
		}
	}
	cl := client(t, c, kgo.TransactionalID("t"))
	for i := range 20 {
		end := kgo.TryCommit
		if i%3 == 1 {
			end = kgo.TryAbort
		}
		texts := numbered(fmt.Sprintf("t%d", i), 0, 5)
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		first := produce(t, cl, "transactions", 0, texts...)
		if err := cl.EndTransaction(t.Context(), end); err != nil {
			t.Fatal(err)
		}
		for k, text := range texts {
			if end == kgo.TryCommit {
				r := sourcetest.Record{Offset: record.Offset(first + int64(k)), Value: text}
				want["transactions/0"] = append(want["transactions/0"], r)
			}
		}
	}
	transaction(t, cl, kgo.TryAbort, "transactions", "never")
	sourcetest.Run(t, sourcetest.Harness{
		New: func(t *testing.T) source.Source {
			t.Helper()
			s := settings(c, "codecs", "transactions")
			s.Until, s.RecordBytesMax = untilEnd, 1024
			src, err := New(s, quietLog())
			if err != nil {
				t.Fatal(err)
			}
			return src
		},
		Want:     want,
		Capacity: 3 << 20,
	})
}
