package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/inject"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// committer writes transactions. It implements sink.Committer.
type committer struct {
	sink *Sink
	// session is kept while everything goes well; Close of the sink, on another goroutine, closes what last holds.
	session *session
	last    atomic.Pointer[session]
	view    ledgerView // what the session has read, and written
	// takeOver is takeProducer. A test puts another order in its place, which must fail.
	takeOver func(ctx context.Context) error
}

func newCommitter(s *Sink) *committer {
	c := &committer{sink: s}
	c.takeOver = c.takeProducer
	return c
}

var _ sink.Committer = (*committer)(nil)

// readyMax is how long a take-over may take, with others' transactions that the ledger's readers wait for.
const readyMax = time.Minute

func (c *committer) close() { c.last.Load().close() }

// drop gives the session up. The next one takes the producer over.
func (c *committer) drop() {
	c.session.close()
	c.session, c.view = nil, ledgerView{}
}

// ready makes sure that nothing older can take effect any more and that the view shows what the ledger holds. An error ends the
// session.
func (c *committer) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyMax)
	defer cancel()
	err := c.open(ctx)
	if err == nil {
		err = c.takeOver(ctx)
	}
	if err == nil {
		err = c.sink.judge(c.view.entry)
	}
	if err != nil {
		c.drop()
	}
	return err
}

// open connects if there is no session. The first look at the ledger proves nothing and changes nothing: a run that was taken over
// learns it here, mostly, before it takes the producer away from the newer one.
func (c *committer) open(ctx context.Context) error {
	if c.session != nil {
		return nil
	}
	s, err := openSession(ctx, c.sink.settings, c.sink.log, transactionalID(c.sink.settings, c.sink.env.Identity))
	if err != nil {
		return err
	}
	c.session = s
	c.last.Store(s)
	r, err := c.reader()
	if err != nil {
		return err
	}
	r.stable = true
	look := ledgerView{}
	if err := r.read(ctx, c.sink.ledger.Partition, &look); err != nil {
		return err
	}
	return c.sink.judge(look.entry)
}

// takeProducer takes the producer over if need be, and only then reads the ledger: what was begun before is decided, and whoever
// commits later has taken the producer away from this session.
func (c *committer) takeProducer(ctx context.Context) error {
	renewed, err := c.session.begin(ctx)
	if err != nil || !renewed {
		return err
	}
	r, err := c.reader()
	if err != nil {
		return err
	}
	return r.read(ctx, c.sink.ledger.Partition, &c.view)
}

// reader reads the ledger, which must be the one that the sink was opened with.
func (c *committer) reader() (*ledgerReader, error) {
	place := c.sink.ledger
	topic := c.session.topics[place.Topic]
	if topic == nil {
		return nil, fmt.Errorf("the ledger %s: %w", place.Topic, errNoTopic)
	}
	if topic.id.String() != place.ID {
		return nil, fault.E("", fault.Corrupt, fmt.Errorf("%w: %s was deleted and created again (ID %s, before %s)", errLedger, place.Topic, topic.id, place.ID))
	}
	return &ledgerReader{client: c.session.client, topic: topic, key: ledgerKey(c.sink.env.Identity)}, nil
}

// Fence takes the producer over, judges the ledger and writes this run's lease into it.
func (c *committer) Fence(ctx context.Context) error {
	if err := c.fence(ctx); err != nil {
		return at("sink/kafka.Fence", fault.Unknown, fmt.Errorf("ledger %s: %w", c.sink.ledger.Topic, err))
	}
	return nil
}

func (c *committer) fence(ctx context.Context) error {
	if err := c.ready(ctx); err != nil {
		return err
	}
	e := c.view.entry
	if e != nil && e.Store == c.sink.env.Identity.StoreID && e.Writer == c.sink.env.Lease && e.Nonce == c.sink.nonce {
		return nil
	}
	last, err := c.sink.start(e)
	if err != nil {
		c.drop()
		return err
	}
	return c.transaction(ctx, nil, nil, c.entry(last, e != nil && e.Early && e.Last == last))
}

// entry is the ledger's record after this run has written.
func (c *committer) entry(last unitName, early bool) *entry {
	env := &c.sink.env
	return &entry{Version: entryVersion, Store: env.Identity.StoreID, Writer: env.Lease, Nonce: c.sink.nonce, Last: last, Early: early}
}

// Commit writes a unit in one transaction, or finds that it is there.
func (c *committer) Commit(ctx context.Context, u sink.Committable) (sink.Outcome, []sink.RejectedRow, error) {
	outcome, err := c.commit(ctx, &u)
	if err != nil {
		err = at("sink/kafka.Commit", fault.Unknown, fmt.Errorf("unit %d/%d/%d: %w", u.Lease, u.Checkpoint, u.Unit, err))
	}
	return outcome, nil, err
}

func (c *committer) commit(ctx context.Context, u *sink.Committable) (sink.Outcome, error) {
	if u.Rows == 0 {
		return sink.Committed, nil
	}
	d, err := readUnitData(u)
	if err != nil {
		return sink.Unknown, err
	}
	if err := c.ready(ctx); err != nil {
		return unsure(err)
	}
	e, name := c.view.entry, nameOf(u)
	switch {
	case e == nil || e.Store != c.sink.env.Identity.StoreID || e.Writer != c.sink.env.Lease:
		c.drop()
		return sink.Unknown, fault.E("", fault.Corrupt, fmt.Errorf("%w: the record of this run is gone", errLedger))
	case !name.after(e.Last):
		return sink.Committed, nil
	case e.Last != d.Previous && !e.earlier(d.Previous, u.Lease):
		c.drop()
		return sink.Unknown, fault.E("", fault.Corrupt, fmt.Errorf("%w: the newest committed unit is %s, and it should be %s", errLedger, e.Last, d.Previous))
	}
	if err := c.transaction(ctx, u, d, c.entry(name, d.Early)); err != nil {
		if fault.KindOf(err) == fault.Lost { // a segment is gone, and the ledger does not have the unit
			return sink.Lost, err
		}
		return sink.Unknown, err
	}
	return sink.Committed, nil
}

// unsure is the outcome of an attempt that did not come to an end. Only the ledger says Fenced, never an error of Kafka.
func unsure(err error) (sink.Outcome, error) {
	if errors.Is(err, errFenced) || errors.Is(err, errStore) {
		return sink.Fenced, fault.E("", fault.Fenced, err)
	}
	return sink.Unknown, err
}

// transaction writes a unit, which may be none, and the ledger's record. After an error the session is over, and what became of the
// transaction is asked by the next one.
func (c *committer) transaction(ctx context.Context, u *sink.Committable, d *unitData, next *entry) error {
	ctx, cancel := context.WithTimeout(ctx, c.sink.settings.TransactionTimeout)
	defer cancel()
	c.session.clean = false
	if err := c.write(ctx, u, d, next); err != nil {
		c.drop()
		return err
	}
	c.view.entry = next
	return nil
}

func (c *committer) write(ctx context.Context, u *sink.Committable, d *unitData, next *entry) error {
	n, place := c.session, c.sink.ledger
	all := []partitions{{n.topics[place.Topic], []int32{place.Partition}}}
	var topic *topicMeta
	if u != nil {
		var err error
		if topic, err = c.targetOf(ctx, d); err != nil {
			return err
		}
		all = append(all, partitions{topic, d.Layout.partitions()})
	}
	if err := n.add(ctx, all...); err != nil {
		return err
	}
	if u != nil {
		if err := c.deliver(ctx, u, d, topic); err != nil {
			return err
		}
	}
	o := open{partition: place.Partition}
	o.append(&row{key: ledgerKey(c.sink.env.Identity), value: next.encode(), timestamp: time.Now().UnixMilli()})
	batch := o.seal(nil, &compressor{})
	if err := newDelivery(n, n.topics[place.Topic]).send(ctx, []piece{{place.Partition, batch}}); err != nil {
		return fmt.Errorf("the ledger: %w", err)
	}
	if u != nil {
		inject.Point(inject.BeforeEndTxn)
	}
	return n.end(ctx)
}

// targetOf is the topic that a unit was prepared for.
func (c *committer) targetOf(ctx context.Context, d *unitData) (*topicMeta, error) {
	topic := c.session.topics[d.Topic]
	if topic == nil { // the config names another one since
		var err error
		if topic, err = oneTopic(ctx, c.session.client, d.Topic); err != nil {
			return nil, err
		}
	}
	if id := topic.id.String(); id != d.ID && id != c.sink.settings.AcceptTopicID {
		return nil, fault.WithRemedy("", fault.Misconfigured,
			fmt.Errorf("topic %s was deleted and created again: rows were prepared for the ID %s, it has %s", d.Topic, d.ID, id),
			fmt.Sprintf("set accept_topic_id = %q to write them to the new one", id))
	}
	return topic, nil
}

// deliver sends a unit's batches.
func (c *committer) deliver(ctx context.Context, u *sink.Committable, d *unitData, topic *topicMeta) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	to := newDelivery(c.session, topic)
	sums := map[int32]int64{}
	for l := range load(ctx, c.sink.env.Segments, u.Segments) {
		if l.err != nil {
			return l.err
		}
		for _, p := range l.pieces {
			sums[p.partition] += int64(count(p.batch))
		}
		if err := to.send(ctx, l.pieces); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if !d.Layout.equal(newLayout(sums)) {
		return fault.E("", fault.Corrupt, fmt.Errorf("the segments hold the records %v by partition, the committable says %v", newLayout(sums), d.Layout))
	}
	return nil
}

// Replace is never needed: what a topic refuses is refused when it is written, or stops the pipeline.
func (c *committer) Replace(context.Context, sink.Committable, []sink.RejectedRow, record.Unit) (sink.Committable, error) {
	return sink.Committable{}, fault.E("sink/kafka.Replace", fault.Misconfigured, errReplace)
}
