package kafka

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ingestd/ingestd/record"
)

// The vectors of Kafka's own UtilsTest.testMurmur2.
func TestMurmur2_isTheJavaClients(t *testing.T) {
	for key, want := range map[string]int32{
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971, "abc": 479470107,
	} {
		if got := int32(murmur2([]byte(key))); got != want {
			t.Errorf("murmur2(%q): got %d, want %d", key, got, want)
		}
	}
}

// Where the Java client puts keys is where the client library's partitioner puts them, of every length and number of partitions.
func TestByKey_agreesWithTheClientLibrary(t *testing.T) {
	p := kgo.StickyKeyPartitioner(nil).ForTopic("t")
	for n := 1; n < 60; n += 7 {
		for i := range 200 {
			key := []byte(strings.Repeat(fmt.Sprint(i*7919), 6)[:min(i%23, 6*len(fmt.Sprint(i*7919)))])
			if len(key) == 0 {
				continue // the library takes it for none
			}
			if got, want := int(byKey(key, int32(n))), p.Partition(&kgo.Record{Key: key}, n); got != want {
				t.Fatalf("key %q of %d partitions: got %d, want %d", key, n, got, want)
			}
		}
	}
}

func testRows() []row {
	long := []byte(strings.Repeat("a value that is long ", 20))
	return []row{
		{key: []byte("k"), value: []byte("v"), timestamp: 1_700_000_000_000},
		{key: nil, value: nil, timestamp: 1_600_000_000_000},
		{key: []byte{}, value: []byte{}, timestamp: 1_800_000_000_123},
		{key: []byte("key"), value: long, timestamp: 0, headers: []record.Header{{Key: "a", Value: []byte("1")}, {Key: "", Value: nil}, {Key: "a", Value: []byte{}}}},
		{key: long, value: []byte("v"), timestamp: 1_700_000_000_000, headers: []record.Header{{Key: strings.Repeat("h", 200), Value: long}}},
	}
}

// What is sealed and patched is decoded by the client library: all records with all that they have, under producer, epoch and
// sequence, with a right CRC.
func TestBatch_isReadByTheClientLibrary(t *testing.T) {
	for _, compression := range []string{compressionNone, compressionGzip, compressionSnappy, compressionLZ4, compressionZstd} {
		var o open
		var rows []row
		for range 30 {
			rows = append(rows, testRows()...)
		}
		for i := range rows {
			before := len(o.body)
			size := o.size(&rows[i])
			o.append(&rows[i])
			if got := len(o.body) - before; got != size {
				t.Fatalf("record %d takes %d bytes, size says %d", i, got, size)
			}
		}
		b := o.seal([]byte("before"), newCompressor(compression))[len("before"):]
		patch(b, producer{id: 1234567890123, epoch: 77}, 4_000_000)
		var raw kmsg.RecordBatch
		if err := raw.ReadFrom(b); err != nil {
			t.Fatal(err)
		}
		if raw.ProducerID != 1234567890123 || raw.ProducerEpoch != 77 || raw.FirstSequence != 4_000_000 || raw.PartitionLeaderEpoch != -1 ||
			raw.Attributes&transactional == 0 || raw.FirstTimestamp != 1_700_000_000_000 || raw.MaxTimestamp != 1_800_000_000_123 ||
			int(raw.LastOffsetDelta) != len(rows)-1 {
			t.Errorf("%s: header %+v", compression, raw)
		}
		if smaller := len(b) < len(o.body); smaller != (compression != compressionNone) {
			t.Errorf("%s: %d bytes of %d", compression, len(b), len(o.body))
		}
		compareRecords(t, compression, b, rows)
	}
}

func compareRecords(t *testing.T, name string, batch []byte, rows []row) {
	t.Helper()
	got, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{Topic: "t"},
		&kmsg.FetchResponseTopicPartition{RecordBatches: batch, HighWatermark: 1 << 40, LastStableOffset: 1 << 40}, kgo.DefaultDecompressor(), nil)
	if got.Err != nil || len(got.Records) != len(rows) || next != int64(len(rows)) {
		t.Fatalf("%s: %d records of %d, next %d, %v", name, len(got.Records), len(rows), next, got.Err)
	}
	for i, r := range got.Records {
		back := row{key: r.Key, value: r.Value, timestamp: r.Timestamp.UnixMilli()}
		for _, h := range r.Headers {
			back.headers = append(back.headers, record.Header{Key: h.Key, Value: h.Value})
		}
		if diff := cmp.Diff(rows[i], back, cmp.AllowUnexported(row{}), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("%s: record %d (-want +got):\n%s", name, i, diff)
		}
		if (r.Key == nil) != (rows[i].key == nil) || (r.Value == nil) != (rows[i].value == nil) {
			t.Fatalf("%s: record %d: nil and empty are mixed up", name, i)
		}
	}
}

// What does not get smaller is stored as it is.
func TestBatch_neverGrows(t *testing.T) {
	var o open
	o.append(&row{value: []byte{1, 2, 3}, timestamp: time.Now().UnixMilli()})
	for _, compression := range []string{compressionGzip, compressionSnappy, compressionLZ4, compressionZstd} {
		if b := o.seal(nil, newCompressor(compression)); len(b) != batchHeader+len(o.body) {
			t.Errorf("%s: %d bytes of a body of %d", compression, len(b), len(o.body))
		}
	}
}

// Every change of a segment's content that makes it another list of batches is found.
func TestSegment_damageIsFound(t *testing.T) {
	var content []byte
	for p := range int32(3) {
		o := open{partition: p}
		for i := range testRows() {
			o.append(&testRows()[i])
		}
		content = appendPiece(content, &o, newCompressor(compressionLZ4))
	}
	pieces, rows, err := splitContent(bytes.Clone(content))
	if err != nil || len(pieces) != 3 || rows != 15 {
		t.Fatalf("%d pieces, %d rows, %v", len(pieces), rows, err)
	}
	for i := range content {
		if _, n, err := splitContent(content[:i]); err == nil && n == 15 {
			t.Fatalf("%d of %d bytes are taken for all", i, len(content))
		}
	}
	for _, at := range []int{0 + 3, 4, 7, pieceHeader + atLength, pieceHeader + atMagic, pieceHeader + atCount} {
		bad := bytes.Clone(content)
		bad[at] ^= 0x80
		if _, n, err := splitContent(bad); err == nil && n == 15 {
			t.Errorf("a change of byte %d is not seen", at)
		}
	}
	data, err := pack(content, 15)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unpack(data); err != nil {
		t.Fatal(err)
	}
	if data, err = pack(content, 14); err != nil {
		t.Fatal(err)
	}
	if _, err := unpack(data); err == nil {
		t.Error("a segment with another number of rows is taken")
	}
}
