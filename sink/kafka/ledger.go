package kafka

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// unitName is a unit's name within the sink. The zero value names none.
type unitName struct {
	Lease      record.Lease      `json:"lease"`
	Checkpoint record.Checkpoint `json:"checkpoint"`
	Unit       record.Unit       `json:"unit"`
}

// after reports whether u comes after v in the order of commits.
func (u unitName) after(v unitName) bool {
	return cmp.Or(cmp.Compare(u.Lease, v.Lease), cmp.Compare(u.Checkpoint, v.Checkpoint), cmp.Compare(u.Unit, v.Unit)) > 0
}

// String returns the name for messages.
func (u unitName) String() string {
	if u == (unitName{}) {
		return "none"
	}
	return fmt.Sprintf("checkpoint %d of lease %d (unit %d)", u.Checkpoint, u.Lease, u.Unit)
}

func nameOf(c *sink.Committable) unitName { return unitName{c.Lease, c.Checkpoint, c.Unit} }

// entry is the value of the ledger's record of one pipeline, lane and sink. It is append-only: later versions add members.
type entry struct {
	Version int `json:"version"`
	// Store is the checkpoint store of the writer.
	Store string `json:"store"`
	// Writer is the lease of the run that wrote the record, and Nonce tells two runs under one lease apart.
	Writer record.Lease `json:"writer"`
	Nonce  string       `json:"nonce"`
	// Last is the highest unit that took effect.
	Last unitName `json:"last"`
	// Early says that Last was committed before its manifest was published, with at-least-once delivery.
	Early bool `json:"early,omitempty"`
}

const entryVersion = 1

// earlier tells that the newest unit is one that a run before this lease committed and never published, after the given one: with
// at-least-once delivery that may be.
func (e *entry) earlier(known unitName, lease record.Lease) bool {
	return e.Early && e.Last.after(known) && e.Last.Lease < lease
}

// ledgerKey is the key of the ledger's record.
func ledgerKey(id sink.Identity) []byte {
	key, err := json.Marshal([]any{id.Pipeline, id.Lane, id.Sink})
	if err != nil {
		panic("sink/kafka: plain values can't be encoded: " + err.Error())
	}
	return key
}

func (e *entry) encode() []byte {
	data, err := json.Marshal(e)
	if err != nil {
		panic("sink/kafka: plain values can't be encoded: " + err.Error())
	}
	return data
}

func decodeEntry(data []byte) (*entry, error) {
	e := new(entry)
	if err := json.Unmarshal(data, e); err != nil {
		return nil, fault.E("", fault.Corrupt, fmt.Errorf("the ledger's record %q: %w", data, err))
	}
	if e.Version != entryVersion {
		return nil, fault.WithRemedy("", fault.Misconfigured, fmt.Errorf("the ledger's record has version %d, this build knows %d", e.Version, entryVersion),
			"run the version of ingestd that wrote it, or a later one")
	}
	return e, nil
}

// ledgerView is how far a partition of the ledger was read, and what was found.
type ledgerView struct {
	next  int64
	entry *entry // nil for none
}

// Where ListOffsets looks.
const (
	atEnd   = -1
	atStart = -2
)

const (
	readUncommitted = 0
	readCommitted   = 1
)

// ledgerReader reads the record of one key from partitions of the ledger.
type ledgerReader struct {
	client *kgo.Client
	topic  *topicMeta
	key    []byte
	// stable reads up to the last stable offset only and waits for nobody's open transaction: for a first look.
	stable bool
}

// Limits of one fetch of the ledger.
const (
	ledgerFetchBytes = 4 << 20
	ledgerFetchWait  = 100 * time.Millisecond
)

// read goes on where the view ends, up to the partition's end as it is now. Transactions of others that are open there are waited
// for as long as ctx allows.
func (r *ledgerReader) read(ctx context.Context, partition int32, v *ledgerView) error {
	leader, err := r.topic.leader(partition)
	if err != nil {
		return err
	}
	isolation := int8(readUncommitted)
	if r.stable {
		isolation = readCommitted
	}
	end, err := r.offset(ctx, leader, partition, atEnd, isolation)
	if err != nil {
		return err
	}
	start, err := r.offset(ctx, leader, partition, atStart, isolation)
	if err != nil {
		return err
	}
	if v.next < start { // compaction may have moved the start
		v.next = start
	}
	for v.next < end {
		if err := r.step(ctx, leader, partition, v, end); err != nil {
			return fmt.Errorf("read the ledger %s/%d at %d of %d: %w", r.topic.name, partition, v.next, end, err)
		}
	}
	return nil
}

// step fetches once.
func (r *ledgerReader) step(ctx context.Context, leader, partition int32, v *ledgerView, end int64) error {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = int32(ledgerFetchWait.Milliseconds()), 1, ledgerFetchBytes
	req.IsolationLevel, req.SessionID, req.SessionEpoch = readCommitted, 0, -1
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = r.topic.name, r.topic.id
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes = partition, v.next, ledgerFetchBytes
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	resp, err := send[*kmsg.FetchResponse](ctx, r.client, leader, req)
	if err != nil {
		return err
	}
	if err := coded(resp.ErrorCode, "fetch"); err != nil {
		return err
	}
	if len(resp.Topics) == 0 || len(resp.Topics[0].Partitions) == 0 {
		return nil // the broker throttles us
	}
	rp := &resp.Topics[0].Partitions[0]
	got, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		Offset: v.next, IsolationLevel: kgo.ReadCommitted(), Topic: r.topic.name, Partition: partition,
	}, rp, kgo.DefaultDecompressor(), nil)
	if got.Err != nil {
		return got.Err
	}
	for _, found := range got.Records {
		if !bytes.Equal(found.Key, r.key) || found.Value == nil {
			continue
		}
		if v.entry, err = decodeEntry(found.Value); err != nil {
			return err
		}
	}
	switch {
	case next > v.next:
		v.next = next
	case rp.LastStableOffset >= end:
		v.next = end // nothing is open, and nothing is left there: it was compacted away
	}
	return ctx.Err()
}

// offset asks where a partition starts or ends.
func (r *ledgerReader) offset(ctx context.Context, leader, partition int32, at int64, isolation int8) (int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID, req.IsolationLevel = -1, isolation
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = r.topic.name
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Partition, p.Timestamp = partition, at
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	resp, err := send[*kmsg.ListOffsetsResponse](ctx, r.client, leader, req)
	if err != nil {
		return 0, fmt.Errorf("ask for the ledger's end: %w", err)
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return 0, errors.New("the broker did not say where the ledger ends")
	}
	got := &resp.Topics[0].Partitions[0]
	return got.Offset, coded(got.ErrorCode, "ask for the end of %s/%d", r.topic.name, partition)
}

// find looks through all partitions, up to their last stable offsets: for who does not know where the record is.
func (r *ledgerReader) find(ctx context.Context) (*entry, error) {
	look := *r
	look.stable = true
	var newest *entry
	for partition := range r.topic.leaders {
		v := ledgerView{}
		if err := look.read(ctx, int32(partition), &v); err != nil {
			return nil, err
		}
		if v.entry != nil && (newest == nil || v.entry.Writer > newest.Writer) {
			newest = v.entry
		}
	}
	return newest, nil
}
