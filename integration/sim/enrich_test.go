//go:build synctests

package sim

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/checkpoint/storetest"
	"github.com/ingestd/ingestd/codec"
	codecjson "github.com/ingestd/ingestd/codec/json"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/pipeline"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink/memory"
	"github.com/ingestd/ingestd/source"
	"github.com/ingestd/ingestd/source/file"
	"github.com/ingestd/ingestd/source/kafka"
	"github.com/ingestd/ingestd/step"
)

const (
	tableKeys       = 7 // of keys that records have: the others are never in the table
	tablePartitions = 2
	tableWrites     = 120
	firstKeys       = 100 // from here on: of the first row of each partition, which is never written again
)

// Each record comes out once, with the value that its key had in the table at a moment between the two checkpoints around it, and no
// older than where the table ended when its run began; what finds nothing has null or is a dead letter. What every checkpoint holds of
// the table is what the table's topic gives up to the checkpoint's positions. The topic is compacted between runs, and written in
// transactions by some seeds, some of them aborted.
func TestSim_enrichUnderCrashesAndFaults(t *testing.T) {
	simulateKeyed(t, config.ExactlyOnce, (*keyedWorld).enriches)
}

// The same with a table from files: each record sees all of it.
func TestSim_enrichFromFilesUnderCrashesAndFaults(t *testing.T) {
	simulateKeyed(t, config.ExactlyOnce, (*keyedWorld).enrichesFromFiles)
}

// With at-least-once a record may come out again, with another value of its key, and what checkpoints hold of the table is exact.
func TestSim_enrichAtLeastOnceLosesNothing(t *testing.T) {
	simulateKeyed(t, config.AtLeastOnce, (*keyedWorld).enriches)
}

// write is one row of the table's input.
type write struct {
	offset int64
	key    int
	value  int64
	at     int64 // when it was acknowledged
}

// What a write does that sets no value.
const (
	takesOut  = -1
	malformed = -2
)

// place is where a record stands, and its key.
type place struct {
	split  string
	offset int64
	key    int
}

// ends are offsets by split: all before them is there for a reader.
type ends map[string]int64

// compaction is one of the table's topic.
type compaction struct {
	at   int64
	upTo ends
}

// enrichWorld is what a subject with a table knows besides.
type enrichWorld struct {
	*keyedWorld
	missing step.Missing
	splits  []string // of the table: a key is always in the same
	input   func() source.Source

	mu struct {
		sync.Mutex
		sent    map[int]place // records of the stream, by number
		logs    map[string][]write
		boots   map[string]ends // where the table ended when a process began
		archive map[string][]byte
	}
	compacted []compaction
}

func newEnrichWorld(w *keyedWorld) *enrichWorld {
	e := &enrichWorld{keyedWorld: w, missing: step.MissingNull}
	if w.chance(2) {
		e.missing = step.MissingDeadLetter
	}
	e.mu.sent, e.mu.logs, e.mu.boots, e.mu.archive = map[int]place{}, map[string][]write{}, map[string]ends{}, map[string][]byte{}
	number := record.Type{Kind: record.Int64}
	table := &record.Schema{Fields: []record.Field{{Name: "id", Type: number}, {Name: "version", Type: number}}}
	w.steps = []step.Step{pipeline.Keyed(&step.Enrich{
		ID: "users", Key: []string{"k"}, Table: table, TableKey: []string{"id"}, Columns: []step.EnrichColumn{{Column: "v", From: "version"}}, Missing: e.missing,
	})}
	w.change = e.define
	w.complete = func() bool { return len(e.came()) >= records }
	w.judge = e.judge
	return e
}

// enriches is a table from a compacted topic.
func (w *keyedWorld) enriches() {
	e := newEnrichWorld(w)
	compact, never := "compact", "31536000000"
	if err := w.cluster.CreateTopic("users", tablePartitions, map[string]string{"cleanup.policy": compact, "delete.retention.ms": never}); err != nil {
		w.t.Fatal(err)
	}
	for p := range tablePartitions {
		e.splits = append(e.splits, fmt.Sprint("table:users/users/", p))
	}
	e.input = func() source.Source {
		src, err := kafka.New(kafka.Settings{Brokers: w.brokers, Topics: []string{"users"}, Dial: w.net.DialContext}, slog.New(slog.DiscardHandler))
		if err != nil {
			w.t.Fatal(err)
		}
		return src
	}
	transactions := w.chance(3)
	e.produceFirst()
	w.feed = func() error {
		table := make(chan error, 1)
		go func() { table <- e.produceTable(transactions) }()
		err := e.produceStream()
		return cmp.Or(err, <-table)
	}
	w.between = func() {
		if w.chance(2) {
			return
		}
		w.cluster.Compact()
		e.compacted = append(e.compacted, compaction{time.Now().UnixMilli(), e.ends()})
	}
}

// enrichesFromFiles is a table from files, which are there before anything begins.
func (w *keyedWorld) enrichesFromFiles() {
	e := newEnrichWorld(w)
	folder := filepath.Join(w.dir, "table")
	if err := os.Mkdir(folder, 0o700); err != nil {
		w.t.Fatal(err)
	}
	var texts [tablePartitions]bytes.Buffer
	for p := range tablePartitions {
		e.splits = append(e.splits, fmt.Sprintf("table:users/%s/%d.ndjson", folder, p))
	}
	for n := range tableWrites {
		key := w.pick(tableKeys)
		text := &texts[key%tablePartitions]
		e.note(e.splits[key%tablePartitions], write{offset: int64(text.Len()), key: key, value: int64(n)})
		fmt.Fprintf(text, "{\"id\":%d,\"version\":%d}\n", key, n)
	}
	for p := range texts {
		if err := os.WriteFile(fmt.Sprintf("%s/%d.ndjson", folder, p), texts[p].Bytes(), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
	e.input = func() source.Source {
		src, err := file.New(file.Settings{Paths: []string{folder + "/*"}}, slog.New(slog.DiscardHandler))
		if err != nil {
			w.t.Fatal(err)
		}
		return src
	}
	w.feed, w.constant = e.produceStream, true
}

// define gives a process's pipeline its table, dead letters, and a store that keeps what is deleted for the judge.
func (e *enrichWorld) define(d *pipeline.Definition, p *process) {
	e.t.Helper()
	dec, err := codecjson.New(codecjson.Settings{Columns: []codecjson.Column{{Name: "id", Type: "int64"}, {Name: "version", Type: "int64"}}})
	if err != nil {
		e.t.Fatal(err)
	}
	letters, err := memory.New(memory.Settings{SegmentRows: 16}, e.letters, e.calls(p))
	if err != nil {
		e.t.Fatal(err)
	}
	d.Tables, d.DeadLetter = []pipeline.Table{{Step: "users", Source: e.input(), Codec: slow{dec, time.Duration(e.pick(5)) * time.Millisecond}}}, letters
	d.Store = archivingStore{dyingStore{e.store, p}, e}
	at := e.ends()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mu.boots[p.who] = at
}

// slow is a codec that takes its time for each row, so that a table is not there at once.
type slow struct {
	codec.Factory
	takes time.Duration
}

func (s slow) New(schema *record.Schema) (codec.Decoder, error) {
	d, err := s.Factory.New(schema)
	return slowDecoder{d, s.takes}, err
}

type slowDecoder struct {
	codec.Decoder
	takes time.Duration
}

func (d slowDecoder) Decode(b *record.Batch, value []byte) (record.Refusal, bool) {
	if d.takes > 0 {
		<-time.After(d.takes)
	}
	return d.Decoder.Decode(b, value)
}

// archivingStore keeps what is deleted.
type archivingStore struct {
	dyingStore
	e *enrichWorld
}

func (s archivingStore) Delete(ctx context.Context, name string) error {
	data, there := s.Objects()[name]
	s.e.mu.Lock()
	if there {
		s.e.mu.archive[name] = data
	}
	s.e.mu.Unlock()
	return s.dyingStore.Delete(ctx, name)
}

var _ checkpoint.Store = archivingStore{dyingStore: dyingStore{Memory: (*storetest.Memory)(nil)}}

// note notes writes that are acknowledged, in the order of their offsets.
func (e *enrichWorld) note(split string, writes ...write) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mu.logs[split] = append(e.mu.logs[split], writes...)
}

// ends is where the table ends now.
func (e *enrichWorld) ends() ends {
	e.mu.Lock()
	defer e.mu.Unlock()
	at := ends{}
	for split, log := range e.mu.logs {
		at[split] = log[len(log)-1].offset + 1
	}
	return at
}

// produceStream sends each number once, with a key that may be in the table.
func (e *enrichWorld) produceStream() error {
	client, err := kgo.NewClient(kgo.SeedBrokers(e.brokers...), kgo.Dialer(e.net.DialContext), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic("t"))
	if err != nil {
		return err
	}
	defer client.Close()
	<-time.After(time.Duration(e.pick(1000)) * time.Millisecond)
	for n := 0; n < records; {
		var batch []*kgo.Record
		for range min(1+e.pick(12), records-n) {
			k := e.pick(keys)
			batch = append(batch, &kgo.Record{Partition: int32(e.pick(partitions)), Key: []byte(strconv.Itoa(n)), Value: fmt.Appendf(nil, `{"n":%d,"k":%d}`, n, k)})
			n++
		}
		if err := client.ProduceSync(context.Background(), batch...).FirstErr(); err != nil {
			return err
		}
		e.mu.Lock()
		for _, r := range batch {
			var row enrichedRow
			if err := json.Unmarshal(r.Value, &row); err != nil {
				e.t.Error(err)
			}
			e.mu.sent[row.N] = place{fmt.Sprint("t/", r.Partition), r.Offset, row.K}
		}
		e.mu.Unlock()
		e.sent.Add(int64(len(batch)))
		<-time.After(time.Duration(e.pick(300)) * time.Millisecond)
	}
	return nil
}

// produceFirst writes one row into each partition of the table. As nothing replaces it compaction leaves it, and the log's start where
// it is: that of a real broker is not moved by compaction, that of this one is.
func (e *enrichWorld) produceFirst() {
	e.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(e.brokers...), kgo.Dialer(e.net.DialContext), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic("users"))
	if err != nil {
		e.t.Fatal(err)
	}
	defer client.Close()
	for p := range tablePartitions {
		key := firstKeys + p
		r := &kgo.Record{Partition: int32(p), Key: []byte(strconv.Itoa(key)), Value: fmt.Appendf(nil, `{"id":%d,"version":%d}`, key, key)}
		if err := client.ProduceSync(context.Background(), r).FirstErr(); err != nil {
			e.t.Fatal(err)
		}
		e.note(e.splits[p], write{offset: r.Offset, key: key, value: int64(key)})
	}
}

// produceTable writes rows of the table, takes keys out, and writes what is none, in transactions or without.
func (e *enrichWorld) produceTable(transactions bool) error { //nolint:revive // flag-parameter: the two ways of a test
	options := []kgo.Opt{
		kgo.SeedBrokers(e.brokers...), kgo.Dialer(e.net.DialContext), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic("users"),
	}
	if transactions {
		options = append(options, kgo.TransactionalID("table"))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return err
	}
	defer client.Close()
	for n := 0; n < tableWrites; {
		var batch []*kgo.Record
		var writes []write
		for range min(1+e.pick(6), tableWrites-n) {
			r, w := e.tableRecord(n)
			batch, writes = append(batch, r), append(writes, w)
			n++
		}
		visible, err := e.send(client, batch, transactions)
		if err != nil {
			return err
		}
		for i := range writes {
			if writes[i].offset, writes[i].at = batch[i].Offset, time.Now().UnixMilli(); visible {
				e.note(e.splits[batch[i].Partition], writes[i])
			}
		}
		<-time.After(time.Duration(e.pick(300)) * time.Millisecond)
	}
	return nil
}

// send writes a batch and tells whether readers see it.
func (e *enrichWorld) send(client *kgo.Client, batch []*kgo.Record, transaction bool) (visible bool, err error) { //nolint:revive // flag-parameter: the two ways of a test
	ctx := context.Background()
	if !transaction {
		return true, client.ProduceSync(ctx, batch...).FirstErr()
	}
	if err := client.BeginTransaction(); err != nil {
		return false, err
	}
	if err := client.ProduceSync(ctx, batch...).FirstErr(); err != nil {
		return false, err
	}
	<-time.After(time.Duration(e.pick(200)) * time.Millisecond)
	end := kgo.TryCommit
	if e.chance(4) {
		end = kgo.TryAbort
	}
	return end == kgo.TryCommit, client.EndTransaction(ctx, end)
}

func (e *enrichWorld) tableRecord(n int) (*kgo.Record, write) {
	key := e.pick(tableKeys)
	r := &kgo.Record{Partition: int32(key % tablePartitions), Key: []byte(strconv.Itoa(key)), Value: fmt.Appendf(nil, `{"id":%d,"version":%d}`, key, n)}
	w := write{key: key, value: int64(n)}
	switch e.pick(10) {
	case 0, 1:
		r.Value, w.value = nil, takesOut
	case 2:
		r.Key, r.Value, w.value = fmt.Append(nil, "bad ", n), []byte(`{"id":`), malformed
	}
	return r, w
}
