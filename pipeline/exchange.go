package pipeline

import (
	"context"
	"sync/atomic"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/state"
)

// edgeParcels is how many parcels may be on an edge: one is worked on while the next one waits.
const edgeParcels = 2

// parcel is what goes from a source task to a keyed task. Parcels of one edge arrive in the order in which they were sent, so rows
// before a barrier belong to its checkpoint, and rows before a watermark are not later than it (I10).
type parcel struct {
	from      int // the source task
	rows      *shipment
	watermark int64 // after the rows
	barrier   *sink.Cut
	ended     bool // no row follows: the bounded input of the source task is over
}

// shipment is a batch of rows for one keyed task. Its provenance aliases the memory of a fetch, which goes back with the last
// shipment of it.
type shipment struct {
	batch *record.Batch
	keys  state.Keys
	table string // the step whose table these rows are of; "": rows of the source
	gone  []bool // of a table: by row, whether it takes its key out
	fetch *fetchHold
	home  chan *shipment
}

// done gives the shipment back to the source task that made it, and what it held of the fetch.
func (s *shipment) done() {
	s.batch.Reset()
	s.keys.Reset()
	s.gone = s.gone[:0]
	s.fetch.drop()
	s.fetch = nil
	select {
	case s.home <- s:
	default: // there are enough
	}
}

// fetchHold counts who needs the memory of a fetch.
type fetchHold struct {
	users   atomic.Int32
	release func()
}

func (h *fetchHold) drop() {
	if h != nil && h.users.Add(-1) == 0 && h.release != nil {
		h.release()
	}
}

// exchange is what all source tasks and keyed tasks of a run share: an inbox for each keyed task, and for each pair of them the
// credits that bound what is on its edge. A parcel takes a credit when it is sent and gives it back when it is done; a keyed task
// that waits for barriers keeps what comes behind one, with its credits, so that its edge stands still and the others do not.
type exchange struct {
	inboxes []chan parcel
	credits [][]chan struct{} // by keyed task, then by source task
}

func newExchange(sources, keyed int) *exchange {
	x := &exchange{}
	for range keyed {
		x.inboxes = append(x.inboxes, make(chan parcel, sources*edgeParcels))
		edges := make([]chan struct{}, sources)
		for i := range edges {
			edges[i] = make(chan struct{}, edgeParcels)
		}
		x.credits = append(x.credits, edges)
	}
	return x
}

// send puts a parcel on an edge, and waits while the edge is full.
func (x *exchange) send(ctx context.Context, to int, p parcel) error {
	select {
	case x.credits[to][p.from] <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	x.inboxes[to] <- p // has room for every credit
	return nil
}

// credit lets the next parcel onto the edge from a source task.
func (x *exchange) credit(to, from int) { <-x.credits[to][from] }

// router divides the rows of one source task among the keyed tasks, by the key groups of their keys.
type router struct {
	x      *exchange
	from   int
	key    []int // columns
	groups int
	table  string // see shipment
	gone   []bool // of the rows that are routed next; nil: none is
	free   chan *shipment
	open   []*shipment // by keyed task: what is being filled
	hold   *fetchHold  // of the fetch under way
	told   int64       // the newest watermark that was sent
}

func newRouter(x *exchange, from int, key []int, groups int) *router {
	n := len(x.inboxes)
	return &router{x: x, from: from, key: key, groups: groups, free: make(chan *shipment, n*(edgeParcels+1)), open: make([]*shipment, n), told: state.NoTime}
}

// begin takes over the memory of a fetch, finish gives up the router's own share in it.
func (r *router) begin(release func()) {
	r.hold = &fetchHold{release: release}
	r.hold.users.Store(1)
}

func (r *router) finish() {
	r.hold.drop()
	r.hold = nil
}

// owner returns the keyed task that has a key group.
func owner(group state.Group, keyed int) int { return int(group) % keyed }

// ownGroups returns the key groups of a keyed task.
func ownGroups(task, keyed, groups int) []state.Group {
	var own []state.Group
	for g := task; g < groups; g += keyed {
		own = append(own, state.Group(g))
	}
	return own
}

// route sends the rows of a batch to the keyed tasks that own them, each in order, with the watermark after them.
func (r *router) route(ctx context.Context, b *record.Batch, watermark int64) error {
	var key []byte
	for row := range b.Rows {
		key = state.AppendKey(key[:0], b, r.key, row)
		group := state.GroupOf(key, r.groups)
		s := r.shipment(owner(group, len(r.open)), b)
		appendRow(s.batch, b, row)
		s.keys.Append(key, group)
		if r.gone != nil {
			s.gone = append(s.gone, r.gone[row])
		}
	}
	for to, s := range r.open {
		if s == nil && watermark == r.told {
			continue
		}
		r.open[to] = nil
		if err := r.x.send(ctx, to, parcel{from: r.from, rows: s, watermark: watermark}); err != nil {
			return err
		}
	}
	r.told = watermark
	return nil
}

// shipment returns what is being filled for a keyed task.
func (r *router) shipment(to int, like *record.Batch) *shipment {
	s := r.open[to]
	if s != nil {
		return s
	}
	select {
	case s = <-r.free:
	default:
		s = &shipment{batch: record.NewBatch(like.Schema), table: r.table, home: r.free}
	}
	s.batch.Reshape(like.Schema)
	s.batch.Meta.Split, s.batch.Meta.Topic, s.batch.Meta.Partition = like.Meta.Split, like.Meta.Topic, like.Meta.Partition
	s.fetch = r.hold
	if r.hold != nil {
		r.hold.users.Add(1)
	}
	r.open[to] = s
	return s
}

// appendRow copies one row with its provenance.
func appendRow(dst, src *record.Batch, row int) {
	for i := range src.Cols {
		dst.Cols[i].AppendFrom(&src.Cols[i], row)
	}
	m := &src.Meta
	dst.AppendMeta(record.RowMeta{Offset: m.Offsets[row], Timestamp: m.Timestamps[row], Key: m.Keys[row], Value: m.Values[row], Headers: m.Headers[row]})
}

// tell sends what is no row to every keyed task.
func (r *router) tell(ctx context.Context, p parcel) error {
	p.from, p.watermark = r.from, r.told
	for to := range r.x.inboxes {
		if err := r.x.send(ctx, to, p); err != nil {
			return err
		}
	}
	return nil
}
