package machine

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// records is a set of input records, one bit each.
type records uint8

func (r records) count() int64 { return int64(bits.OnesCount8(uint8(r))) }

// unit is the name of a unit everywhere: lease, checkpoint and unit number, ordered as ledgers order them.
type unit uint32

func makeUnit(lease record.Lease, n record.Checkpoint, u record.Unit) unit {
	return unit(lease)<<20 | unit(n)<<8 | unit(u>>16)<<4 | unit(u&15)
}

func unitOf(c *sink.Committable) unit { return makeUnit(c.Lease, c.Checkpoint, c.Unit) }

func (u unit) lease() record.Lease { return record.Lease(u >> 20) }

func (u unit) checkpoint() unit { return u >> 8 & 0xfff }

func rowsIn(c *sink.Committable) records { return records(c.Data[0]) }

// kind is how a sink works.
type kind uint8

const (
	// ledger is a transactional target: one transaction checks the writer's lease and the highest unit, and writes rows and
	// both (postgres, memory).
	ledger kind = iota
	// clickhouse is a target without transactions: a fence row with (lease, attempt) that each insert checks when it starts,
	// KILL for what is running, rows that name their unit, and an insert that is conditional on them.
	clickhouse
	// kafka is a target with producer epochs: whoever initialises last is the only one whose transactions can commit.
	kafka
	// file is a folder: rename of a temporary file onto its name. What is decided and not there any more has been renamed; what is
	// not decided, in at-least-once, may also have been removed by a successor.
	file
)

// fenceRow is the newest fence in a target: (lease, attempt), or for kafka (slot of the run, initialisation).
type fenceRow struct{ who, attempt uint8 }

// request is something that a target has got and not done yet.
type request struct {
	unit        unit
	rows        records
	by          fenceRow
	lease       uint8 // of the run that sent it
	conditional bool
	running     bool // clickhouse: it has passed the fence
}

func (r request) compare(o request) int {
	return cmp.Compare(r.num(), o.num())
}

func (r request) num() uint64 {
	n := uint64(r.unit)<<34 | uint64(r.lease)<<26 | uint64(r.rows)<<18 | uint64(r.by.who)<<10 | uint64(r.by.attempt)<<2
	if r.conditional {
		n |= 2
	}
	if r.running {
		n |= 1
	}
	return n
}

// target is one sink's target with what is under way to it.
type target struct {
	kind    kind
	fence   fenceRow
	writer  record.Lease // of the newest fence or transaction
	ledger  unit
	present []unit // clickhouse: units with rows in the table; file: temporary files
	late    []request
	counts  [recordsMax]uint8 // how often each record has had its effect
}

const recordsMax = 4

func (t *target) key() key {
	k := key(nil).num(uint64(t.fence.who), uint64(t.fence.attempt), uint64(t.writer), uint64(t.ledger), uint64(len(t.present)))
	for _, u := range t.present {
		k = k.num(uint64(u))
	}
	k = k.num(uint64(len(t.late)))
	for _, r := range t.late {
		k = k.num(r.num())
	}
	return append(k, t.counts[:]...)
}

func (t *target) clone() *target {
	c := *t
	c.present, c.late = slices.Clone(t.present), slices.Clone(t.late)
	return &c
}

// effective returns the records that have had their effect at least once.
func (t *target) effective() records {
	var r records
	for i, n := range t.counts {
		if n > 0 {
			r |= 1 << i
		}
	}
	return r
}

func (t *target) doubled() bool {
	return slices.ContainsFunc(t.counts[:], func(n uint8) bool { return n > 1 })
}

func (t *target) add(rows records) {
	for i := range t.counts {
		if rows>>i&1 == 1 {
			t.counts[i]++
		}
	}
}

func (t *target) put(u unit) {
	if i, ok := slices.BinarySearch(t.present, u); !ok {
		t.present = slices.Insert(t.present, i, u)
	}
}

func (t *target) has(u unit) bool {
	_, ok := slices.BinarySearch(t.present, u)
	return ok
}

func (t *target) drop(u unit) {
	if i, ok := slices.BinarySearch(t.present, u); ok {
		t.present = slices.Delete(t.present, i, i+1)
	}
}

func (t *target) send(r request) {
	i, _ := slices.BinarySearchFunc(t.late, r, request.compare)
	t.late = slices.Insert(t.late, i, r)
}

func (t *target) take(r request) bool {
	i, ok := slices.BinarySearchFunc(t.late, r, request.compare)
	if ok {
		t.late = slices.Delete(t.late, i, i+1)
	}
	return ok
}

// client is what a run's committer knows of one sink.
type client struct {
	attempt   uint8 // clickhouse: of its newest fence row; kafka: initialisations
	uncertain bool  // the last commit's outcome is not known
	seen      bool  // only in mutants that look before they fence: what they saw
	looked    bool
}

// caller is who asks a target.
type caller struct {
	slot     uint8
	lease    record.Lease
	client   *client
	data     bool    // the unit's segments are there
	refuses  records // what the target refuses
	alo      bool
	mutant   mutant
	pendings []unit // of a fence: what is decided and not known committed
}

func (c *caller) row() fenceRow { return fenceRow{uint8(c.lease), c.client.attempt} }

func (c *caller) token() fenceRow { return fenceRow{c.slot + 1, c.client.attempt} }

// raise raises the fence. It reports false when a newer lease is there.
func (t *target) raise(c caller) bool {
	switch t.kind {
	case ledger:
		if t.writer > c.lease {
			return false
		}
		t.writer = c.lease
	case clickhouse:
		if t.fence.who > uint8(c.lease) {
			return false
		}
		if c.mutant != fenceWithoutAttempt || c.client.attempt == 0 {
			c.client.attempt++
		}
		t.fence = c.row()
		t.kill(c)
	case kafka:
		c.client.attempt++
		t.fence = c.token()
		t.late = nil // the coordinator ends what an older epoch has open
		c.client.uncertain = false
	case file:
		t.present = slices.DeleteFunc(t.present, func(u unit) bool { return u.lease() < c.lease && !slices.Contains(c.pendings, u) })
	}
	return true
}

// kill ends running inserts of leases up to the caller's. What has not started is not seen.
func (t *target) kill(c caller) {
	if c.mutant == noKill {
		return
	}
	t.late = slices.DeleteFunc(t.late, func(r request) bool { return r.running && r.by.who <= uint8(c.lease) })
}

// commit makes a unit visible in one atomic act. Clickhouse does it in two steps, see [target.insert].
func (t *target) commit(c caller, u unit, rows records) sink.Outcome {
	switch t.kind {
	case ledger:
		return t.transact(c, u, rows)
	case kafka:
		return t.produce(c, u, rows)
	case file:
		switch {
		case t.has(u):
			t.drop(u)
			t.add(rows)
		case c.alo:
			return sink.Lost
		}
		return sink.Committed
	case clickhouse:
	}
	return sink.Unknown
}

func (t *target) seen(c caller, u unit) bool {
	if c.mutant == keyIsNumber {
		return t.ledger.checkpoint() >= u.checkpoint()
	}
	return t.ledger >= u
}

func (t *target) transact(c caller, u unit, rows records) sink.Outcome {
	if t.writer > c.lease && (c.mutant != newerIsCommitted || !t.seen(c, u)) {
		return sink.Fenced
	}
	return t.apply(c, u, rows)
}

// apply writes rows and ledger in one transaction, unless the ledger has the unit.
func (t *target) apply(c caller, u unit, rows records) sink.Outcome {
	switch {
	case t.seen(c, u):
		return sink.Committed
	case !c.data:
		return sink.Lost
	case rows&c.refuses != 0:
		return sink.Rejected
	}
	t.add(rows)
	t.ledger, t.writer = u, max(t.writer, c.lease)
	return sink.Committed
}

// produce is a transaction of the caller's producer. After an unknown outcome it initialises again, and only then reads the
// ledger: before, the old transaction may still commit.
func (t *target) produce(c caller, u unit, rows records) sink.Outcome {
	if c.mutant == ledgerBeforeInit && c.client.uncertain && !c.client.looked {
		c.client.looked, c.client.seen = true, t.seen(c, u)
		return sink.Retry
	}
	if c.client.uncertain && c.mutant != retryInOldEpoch {
		t.raise(c)
	}
	if t.fence != c.token() {
		return sink.Fenced
	}
	if c.client.looked {
		looked := *c.client
		c.client.looked, c.client.uncertain = false, false
		if !looked.seen {
			t.add(rows)
			t.ledger = max(t.ledger, u)
		}
		return sink.Committed
	}
	c.client.uncertain = false
	if t.writer > c.lease {
		return sink.Fenced
	}
	return t.apply(c, u, rows)
}

// insert sends clickhouse the insert of a unit. It returns the request that runs now, or an outcome.
func (t *target) insert(c caller, u unit, rows records) (request, sink.Outcome) {
	look := false
	if c.client.uncertain {
		if c.mutant == lookBeforeFence && !c.client.looked {
			c.client.looked, c.client.seen = true, t.has(u)
			return request{}, sink.Retry
		}
		if c.mutant != blindRetry && !t.raise(c) {
			return request{}, sink.Fenced
		}
		look = c.mutant != blindRetry
	}
	r := request{unit: u, rows: rows, by: c.row(), conditional: look || u.lease() != c.lease}
	switch {
	case t.fence != r.by:
		return request{}, sink.Fenced
	case c.client.looked:
		seen := c.client.seen
		c.client.looked, r.conditional = false, false
		if seen {
			return request{}, sink.Committed
		}
	case r.conditional && t.has(u):
		c.client.uncertain = false
		return request{}, sink.Committed
	}
	switch {
	case !c.data:
		return request{}, sink.Lost
	case rows&c.refuses != 0:
		return request{}, sink.Rejected
	}
	r.running = true
	t.send(r)
	return r, sink.Unknown
}

// finish is the end of an insert that its client waits for: false when it was killed.
func (t *target) finish(r request) bool {
	if !t.take(r) {
		return false
	}
	t.put(r.unit)
	t.add(r.rows)
	return true
}

// land lets a request take effect that nobody waits for.
func (t *target) land(i int, c caller) {
	r := t.late[i]
	t.late = slices.Delete(t.late, i, i+1)
	switch t.kind {
	case ledger:
		c.lease, c.data = record.Lease(r.lease), true
		t.transact(c, r.unit, r.rows)
	case kafka:
		if t.fence == r.by {
			t.add(r.rows)
			t.ledger, t.writer = max(t.ledger, r.unit), max(t.writer, record.Lease(r.lease))
		}
	case file:
		t.commit(c, r.unit, r.rows)
	case clickhouse:
		switch {
		case r.running:
			t.put(r.unit)
			t.add(r.rows)
		case t.fence == r.by && (!r.conditional || !t.has(r.unit)):
			r.running = true
			t.send(r)
		}
	}
}
