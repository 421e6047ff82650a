//go:build integration

package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ingestd/ingestd/internal/inject"
)

// kafkaRig is one pipeline under load: from topic to topic, with dead letters in a third.
type kafkaRig struct {
	t        *testing.T
	path     string // of the daemon
	config   string
	dir      string
	delivery string
	cluster  *sinkCluster
	load     *load
	out      *topicTally
	letters  string // topic of the dead letters
	kills    int
}

const kafkaRigConfig = `[daemon]
data_dir = %[1]q
listen = ""
memory_limit = "1GiB"

[pipeline.load]
delivery = %[2]q
tasks = 2

[pipeline.load.source]
type = "kafka"
brokers = [%[3]q]
topics = [%[4]q]

[pipeline.load.decode]
type = "json"

[pipeline.load.decode.columns]
seq = "uint64"
shard = "uint8"
amount = "decimal(18, 2)"
name = "string"
text = "string"
at = "timestamp(3)"
tags = "array(string)"
note = "nullable(string)"

[pipeline.load.sink]
type = "kafka"
brokers = [%[3]q]
topic = %[5]q
keep_key = true
partitioner = "source"
transaction_timeout = "20s"
segment_bytes_max = "256KiB"
create = { partitions = 4, replication_factor = 1 }
ledger = { topic = "%[5]s-ledger", partitions = 4, replication_factor = 1 }

[pipeline.load.dead_letter]
type = "kafka"
brokers = [%[3]q]
topic = %[6]q
create = { partitions = 1, replication_factor = 1 }
ledger = { topic = "%[5]s-ledger", partitions = 4, replication_factor = 1 }

[pipeline.load.checkpoint]
interval = "250ms"
path = %[7]q

[pipeline.load.restart]
backoff_min = "50ms"
backoff_max = "500ms"
`

func newKafkaRig(t *testing.T, delivery, tags string) *kafkaRig {
	t.Helper()
	r := &kafkaRig{t: t, path: daemonBinary(t, tags), delivery: delivery, dir: t.TempDir(), cluster: startSinkKafka(t, nil)}
	name := fmt.Sprintf("%s-%d", strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name())), time.Now().UnixNano())
	r.load = startLoad(t, r.cluster.addr, name)
	r.letters = name + "-letters"
	r.config = r.writeConfig("data", name+"-out")
	r.cluster.create(t, name+"-out", loadPartitions, "delete") // the reader of the tally wants it before the daemon makes it
	r.out = startTopicTally(t, r.cluster, name+"-out")
	return r
}

func (r *kafkaRig) writeConfig(data, out string) string {
	r.t.Helper()
	text := fmt.Sprintf(kafkaRigConfig, filepath.Join(r.dir, data), r.delivery, r.cluster.addr, r.load.topic, out, r.letters, filepath.Join(r.dir, "checkpoints"))
	path := filepath.Join(r.dir, data+".toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return path
}

// topicTally is a consumer of committed records that counts every record of a topic, while it is written.
type topicTally struct {
	t       *testing.T
	cluster *sinkCluster
	topic   string

	mu       sync.Mutex
	next     [loadPartitions]int64 // offsets that were read
	last     [loadPartitions]int64 // numbers, to see their order
	seen     [loadPartitions][]uint8
	v        verdict
	disorder int64
	err      error
}

func startTopicTally(t *testing.T, c *sinkCluster, topic string) *topicTally {
	t.Helper()
	from := map[int32]kgo.Offset{}
	a := &topicTally{t: t, cluster: c, topic: topic}
	for p := range int32(loadPartitions) {
		from[p] = kgo.NewOffset().At(0)
		a.last[p] = -1
	}
	reader, err := kgo.NewClient(kgo.SeedBrokers(c.addr), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.DisableClientMetrics(), kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() {
		for ctx.Err() == nil {
			fetches := reader.PollFetches(ctx)
			a.mu.Lock()
			fetches.EachRecord(a.countLocked)
			a.mu.Unlock()
		}
	})
	t.Cleanup(func() { cancel(); work.Wait(); reader.Close() })
	return a
}

// countLocked judges one record by its partition and key alone: the value must be the source's.
func (a *topicTally) countLocked(r *kgo.Record) {
	a.next[r.Partition] = r.Offset + 1
	if r.Attrs.IsControl() {
		return
	}
	a.v.rows++
	seq, err := strconv.ParseInt(string(r.Key), 10, 64)
	if err != nil || seq < 0 || malformed(seq) {
		a.v.foreign++
		return
	}
	if !bytes.Equal(r.Value, rowOf(r.Partition, seq).json()) {
		if a.v.altered++; a.v.altered == 1 {
			a.err = fmt.Errorf("got %s, want %s", r.Value, rowOf(r.Partition, seq).json())
		}
	}
	seen := &a.seen[r.Partition]
	for int64(len(*seen)) <= seq {
		*seen = append(*seen, 0)
	}
	if (*seen)[seq]++; (*seen)[seq] > 1 {
		a.v.doubled++
	}
	if seq <= a.last[r.Partition] {
		a.disorder++
	}
	a.last[r.Partition] = seq
}

// settle waits until everything that is committed now is counted.
func (a *topicTally) settle() {
	a.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; waitABit() {
		ends, err := a.cluster.admin.ListCommittedOffsets(context.Background(), a.topic)
		if err != nil || ends.Error() != nil {
			a.t.Fatal(err, ends.Error())
		}
		for ; ; waitABit() {
			a.mu.Lock()
			done := true
			for p, end := range ends[a.topic] {
				done = done && a.next[p] >= end.Offset
			}
			a.mu.Unlock()
			if done {
				return
			}
			if time.Now().After(deadline) {
				a.t.Fatal("the reader of committed records does not come to the end")
			}
		}
	}
}

func (a *topicTally) verdict() verdict {
	a.t.Helper()
	a.settle()
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.v
}

func (a *topicTally) rows() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.v.rows
}

// moves waits until new rows are visible, so that what was recovered runs.
func (r *kafkaRig) moves(d *daemon) {
	r.t.Helper()
	before := r.out.rows()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); waitABit() {
		if r.out.rows() > before {
			return
		}
		select {
		case <-d.done:
			r.t.Fatalf("the daemon ended: %v\n%s", d.err, d.tail())
		default:
		}
	}
	d.kill()
	r.t.Fatalf("no new rows in a minute:\n%s", d.tail())
}

// killAt lets the daemon die at a point and go on after it, and returns how many rows that doubled.
func (r *kafkaRig) killAt(point string, nth int) int64 {
	r.t.Helper()
	before := r.out.verdict().doubled
	if point == inject.DuringRecovery { // there must be something to recover
		d := startDaemon(r.t, r.path, r.config, inject.AfterPublish+":kill:5")
		d.diedAt(inject.AfterPublish, time.Minute)
	}
	d := startDaemon(r.t, r.path, r.config, fmt.Sprintf("%s:kill:%d", point, nth))
	d.diedAt(point, time.Minute)
	r.kills++
	d = startDaemon(r.t, r.path, r.config, "")
	r.moves(d)
	r.moves(d) // the second commit of this run is surely behind what was read again
	d.kill()   // one more, at no point
	after := r.out.verdict().doubled
	r.t.Logf("%s: %s: %d rows doubled", r.delivery, point, after-before)
	return after - before
}

func (r *kafkaRig) randomKills(n int, random *rand.Rand) {
	for range n {
		d := startDaemon(r.t, r.path, r.config, "")
		r.moves(d)
		<-time.After(time.Duration(random.Int64N(int64(700 * time.Millisecond))))
		d.kill()
		r.kills++
	}
}

// finish ends the load, lets the daemon take everything and stops it in order, then judges rows, order and dead letters.
func (r *kafkaRig) finish() verdict {
	r.t.Helper()
	total := r.load.end(r.t)
	d := startDaemon(r.t, r.path, r.config, "")
	r.drained(d, total)
	d.signal(syscall.SIGTERM)
	if code := d.exit(time.Minute); code != 0 {
		r.t.Errorf("exit code %d after SIGTERM, want 0:\n%s", code, d.tail())
	}
	v := r.out.verdict()
	for p := range r.load.produced {
		for seq := range r.load.produced[p].Load() {
			if !malformed(seq) && (seq >= int64(len(r.out.seen[p])) || r.out.seen[p][seq] == 0) {
				v.missing++
			}
		}
	}
	r.t.Logf("%s: %d kills: %s, %d out of order", r.delivery, r.kills, v, r.out.disorder)
	if r.out.err != nil {
		r.t.Error(r.out.err)
	}
	if r.delivery == "exactly-once" && r.out.disorder > 0 {
		r.t.Errorf("%d records are out of the order of their partition", r.out.disorder)
	}
	r.judgeLetters()
	return v
}

func (r *kafkaRig) drained(d *daemon, total int64) {
	r.t.Helper()
	var at int64
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); <-time.After(300 * time.Millisecond) {
		at = 0
		m := newestManifest(r.t, r.path, r.config, "load")
		for _, p := range m.Positions() {
			at += int64(p.Offset)
		}
		if at >= total {
			return
		}
		select {
		case <-d.done:
			r.t.Fatalf("the daemon ended: %v\n%s", d.err, d.tail())
		default:
		}
	}
	d.kill()
	r.t.Fatalf("the daemon read %d of %d records in 3 minutes:\n%s", at, total, d.tail())
}

// judgeLetters compares the dead letters with the records that can't be decoded.
func (r *kafkaRig) judgeLetters() {
	r.t.Helper()
	records, err := r.cluster.committed(context.Background(), r.letters)
	if err != nil {
		r.t.Fatal(err)
	}
	seen, doubled := map[string]bool{}, 0
	for _, record := range records {
		var l struct {
			Partition int32  `json:"partition"`
			Offset    int64  `json:"offset"`
			Stage     string `json:"stage"`
			Value     string `json:"value"`
		}
		if err := json.Unmarshal(record.Value, &l); err != nil {
			r.t.Fatalf("dead letter %q: %v", record.Value, err)
		}
		if want := rowOf(l.Partition, l.Offset).json(); !malformed(l.Offset) || l.Stage != "decode" || l.Value != string(want[:len(want)/2]) {
			r.t.Errorf("a dead letter that is none: %s", record.Value)
		}
		key := fmt.Sprint(l.Partition, "/", l.Offset)
		if seen[key] {
			doubled++
		}
		seen[key] = true
	}
	missing := r.load.letters() - int64(len(seen))
	r.t.Logf("%s: %d dead letters, %d missing, %d doubled", r.delivery, len(seen), missing, doubled)
	if missing != 0 || doubled > 0 && r.delivery == "exactly-once" {
		r.t.Errorf("%d dead letters missing, %d doubled", missing, doubled)
	}
}

// kafkaPoints are the protocol's points, and the one between the writing of a transaction and its end.
func kafkaPoints() []struct {
	name    string
	nth     int
	doubles bool
} {
	return append(points(), struct {
		name    string
		nth     int
		doubles bool
	}{inject.BeforeEndTxn, 4, false})
}

func TestFaults_kafkaLosesAndDoublesNothingExactlyOnce(t *testing.T) {
	r := newKafkaRig(t, "exactly-once", "faultpoints")
	for _, p := range kafkaPoints() {
		if n := r.killAt(p.name, p.nth); n != 0 {
			t.Errorf("a kill at %s doubled %d rows", p.name, n)
		}
	}
	r.randomKills(8, rand.New(rand.NewPCG(1, 2)))
	if v := r.finish(); v.missing+v.doubled+v.foreign+v.altered != 0 {
		t.Errorf("exactly-once: %s", v)
	}
}

// The control arm: where an effect precedes the publish, at-least-once must show duplicates. If it does not, the kills missed and the
// zeros of the other arm prove nothing.
func TestFaults_kafkaDoublesButLosesNothingAtLeastOnce(t *testing.T) {
	r := newKafkaRig(t, "at-least-once", "faultpoints")
	for _, p := range kafkaPoints() {
		if p.name == inject.DuringRecovery { // nothing is pending with at-least-once
			continue
		}
		if n := r.killAt(p.name, p.nth); p.doubles && n == 0 {
			t.Errorf("a kill at %s doubled nothing, though the effect precedes the publish there", p.name)
		}
	}
	r.randomKills(8, rand.New(rand.NewPCG(3, 4)))
	v := r.finish()
	if v.missing+v.foreign+v.altered != 0 || v.doubled == 0 {
		t.Errorf("at-least-once: %s", v)
	}
}

// A daemon stands still before it ends a transaction, with everything written; a successor takes over and does it; the first wakes up,
// takes no effect and learns that it is fenced.
func TestFaults_kafkaZombieTakesNoEffect(t *testing.T) {
	r := newKafkaRig(t, "exactly-once", "faultpoints")
	for nth := 4; nth < 6; nth++ {
		first := startDaemon(t, r.path, r.config, fmt.Sprintf("%s:stop:%d", inject.BeforeEndTxn, nth))
		first.stopped(time.Minute)
		second := startDaemon(t, r.path, r.writeConfig("second", r.out.topic), "")
		r.moves(second)
		first.signal(syscall.SIGCONT)
		if code := first.exit(time.Minute); code != 5 {
			t.Errorf("the zombie ended with exit code %d, want 5 (fenced)\n%s", code, first.tail())
		}
		r.moves(second)
		second.kill()
		r.kills++
	}
	if v := r.finish(); v.missing+v.doubled+v.foreign+v.altered != 0 {
		t.Errorf("after zombies: %s", v)
	}
}
