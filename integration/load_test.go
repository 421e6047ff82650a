//go:build integration

package integration

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The load of the fault tests: numbered records in 4 partitions, each made from its partition and number alone, so that the
// oracle makes it again and compares every column. Every malformedEach-th can't be decoded and is a dead letter.
const (
	loadPartitions = 4
	loadRate       = 24_000 // records a second, over all partitions
	malformedEach  = 1000
)

// row is a record as it must stand in the table.
type row struct {
	seq    uint64
	shard  uint8
	amount string
	name   string
	text   string
	at     int64
	tags   []string
	note   *string
}

func malformed(seq int64) bool { return seq%malformedEach == malformedEach-1 }

// rowOf makes the record with a number in a partition.
func rowOf(partition int32, seq int64) row {
	h := fnv.New64a()
	var b [12]byte
	binary.LittleEndian.PutUint32(b[:], uint32(partition))
	binary.LittleEndian.PutUint64(b[4:], uint64(seq))
	h.Write(b[:])
	r := h.Sum64()
	out := row{
		seq: uint64(seq), shard: uint8(r % 3), amount: fmt.Sprintf("%d.%02d", r>>40, r%100), name: fmt.Sprintf("name-%d", r%50),
		text: strings.Repeat(fmt.Sprintf("%016x", r), 8), at: 1_700_000_000_000 + int64(r%1_000_000_000),
		tags: []string{fmt.Sprintf("t%d", r%7), fmt.Sprintf("ü%d", r%11)},
	}
	if r%5 == 0 {
		note := fmt.Sprintf("note \"%d\"\n", r%1000)
		out.note = &note
	}
	return out
}

func (r row) json() []byte {
	note := "null"
	if r.note != nil {
		note = fmt.Sprintf("%q", *r.note)
	}
	return fmt.Appendf(nil, `{"seq":%d,"shard":%d,"amount":%s,"name":%q,"text":%q,"at":%q,"tags":[%q,%q],"note":%s}`,
		r.seq, r.shard, r.amount, r.name, r.text, time.UnixMilli(r.at).UTC().Format("2006-01-02T15:04:05.000Z"), r.tags[0], r.tags[1], note)
}

// load produces until it is stopped.
type load struct {
	topic    string
	client   *kgo.Client
	produced [loadPartitions]atomic.Int64 // records of each partition that the broker has
	began    time.Time
	stop     context.CancelFunc
	done     chan error
}

func startLoad(t *testing.T, broker, topic string) *load {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic(topic),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()), kgo.MetadataMinAge(200*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kadm.NewClient(client).CreateTopic(context.Background(), loadPartitions, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{topic: topic, client: client, began: time.Now(), stop: cancel, done: make(chan error, 1)}
	go func() { l.done <- l.run(ctx) }()
	t.Cleanup(func() { cancel(); client.Close() })
	return l
}

// run produces what is due every pause and waits for it, so that what was produced is known exactly. After a wait it catches up.
func (l *load) run(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		due := int64(time.Since(l.began).Seconds() * loadRate / loadPartitions)
		if err := l.produceUpTo(due); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (l *load) produceUpTo(due int64) error {
	var records []*kgo.Record
	for p := range int32(loadPartitions) {
		for seq := l.produced[p].Load(); seq < due; seq++ {
			value := rowOf(p, seq).json()
			if malformed(seq) {
				value = value[:len(value)/2]
			}
			records = append(records, &kgo.Record{Partition: p, Value: value, Key: fmt.Appendf(nil, "%d", seq)})
		}
	}
	if err := l.client.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
		return err
	}
	for p := range l.produced {
		l.produced[p].Store(due)
	}
	return nil
}

// end stops the load and returns how many records there are, checking that the rate was kept.
func (l *load) end(t *testing.T) (total int64) {
	t.Helper()
	l.stop()
	if err := <-l.done; err != nil {
		t.Fatal(err)
	}
	for p := range l.produced {
		total += l.produced[p].Load()
	}
	rate := float64(total) / time.Since(l.began).Seconds()
	t.Logf("load: %d records, %.0f a second", total, rate)
	if rate < 20_000 {
		t.Errorf("the load was %.0f records a second, want at least 20000", rate)
	}
	return total
}

// letters returns how many of the produced records can't be decoded.
func (l *load) letters() (n int64) {
	for p := range l.produced {
		n += l.produced[p].Load() / malformedEach
	}
	return n
}

const loadTable = `CREATE TABLE db.%s (seq UInt64, shard UInt8, amount Decimal(18, 2), name LowCardinality(String), text String,
	at DateTime64(3, 'UTC'), tags Array(String), note Nullable(String), _partition Int32, _offset Int64,
	_ingestd_block UInt64 CODEC(T64, ZSTD(1)), INDEX ingestd_block _ingestd_block TYPE minmax GRANULARITY 1)
	ENGINE = MergeTree PARTITION BY shard ORDER BY (_partition, _offset) SETTINGS fsync_after_insert = 1, fsync_part_directory = 1`

// verdict is what the oracle says of a table.
type verdict struct {
	rows, missing, doubled, foreign, altered int64
}

func (v verdict) String() string {
	return fmt.Sprintf("%d rows, %d missing, %d doubled, %d foreign, %d altered", v.rows, v.missing, v.doubled, v.foreign, v.altered)
}

// judge reads every row of the table and compares it with the record that must stand there. It knows nothing of the daemon.
func (l *load) judge(t *testing.T, conn driver.Conn, table string) verdict {
	t.Helper()
	var v verdict
	seen := make([][]uint8, loadPartitions)
	for p := range seen {
		seen[p] = make([]uint8, l.produced[p].Load())
	}
	rows, err := conn.Query(context.Background(), `SELECT _partition, _offset, seq, shard, toString(amount), name, text, toUnixTimestamp64Milli(at), tags, note FROM db.`+table)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var p int32
		var offset int64
		var r row
		if err := rows.Scan(&p, &offset, &r.seq, &r.shard, &r.amount, &r.name, &r.text, &r.at, &r.tags, &r.note); err != nil {
			t.Fatal(err)
		}
		v.rows++
		if p < 0 || p >= loadPartitions || offset < 0 || offset >= int64(len(seen[p])) || malformed(offset) {
			v.foreign++
			continue
		}
		if !r.equal(rowOf(p, offset)) {
			v.altered++
		}
		if seen[p][offset]++; seen[p][offset] > 1 {
			v.doubled++
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for p := range seen {
		for offset, n := range seen[p] {
			if n == 0 && !malformed(int64(offset)) {
				v.missing++
			}
		}
	}
	return v
}

// equal compares all columns. A Decimal's text has no trailing zeros in the table.
func (r row) equal(want row) bool {
	trim := func(s string) string {
		if !strings.Contains(s, ".") {
			return s
		}
		return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
	}
	note := r.note == nil && want.note == nil || r.note != nil && want.note != nil && *r.note == *want.note
	return r.seq == want.seq && r.shard == want.shard && trim(r.amount) == trim(want.amount) && r.name == want.name && r.text == want.text &&
		r.at == want.at && len(r.tags) == 2 && r.tags[0] == want.tags[0] && r.tags[1] == want.tags[1] && note
}
