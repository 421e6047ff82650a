// Package clickhouse writes rows to a ClickHouse table, exactly once.
//
// Prepared are segments in the checkpoint store. A unit of a checkpoint is inserted as one native block, which becomes one part
// in each partition that it touches; each part appears by one atomic rename. The ledger is the table itself: its column
// _ingestd_block holds the number of the unit in every row, and a partition that has one row of a unit has them all. It is
// asked only after no older insert can take effect any more: every insert reads the newest row of ingestd_fence when it starts
// and fails unless that is its own, and one that has read an older row is killed first. Nothing expires.
//
// The server's own means were measured to be wrong: a deduplication token loses a block when the server dies between its log
// and the rename, moving a partition can leave rows on both sides, an insert over several partitions is not atomic, and a look
// after a lost connection comes before rows that still appear.
package clickhouse

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/ClickHouse/ch-go"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// Plugin is a configured ClickHouse sink.
type Plugin struct {
	settings Settings
	dialer   *dialer
}

var _ sink.Plugin = (*Plugin)(nil)

// New checks the settings and returns the sink. It connects nowhere. The error is fault.Misconfigured.
func New(s Settings) (*Plugin, error) {
	if err := s.check(); err != nil {
		return nil, fault.E("sink/clickhouse.New", fault.Misconfigured, err)
	}
	p := &Plugin{settings: s}
	config, err := s.TLS.config()
	if err != nil {
		return nil, fault.E("sink/clickhouse.New", fault.Misconfigured, err)
	}
	p.dialer = &dialer{settings: &p.settings, tls: config, network: new(net.Dialer).DialContext}
	return p, nil
}

// DialWith makes the sink open its connections through d, a tunnel for instance. It must be called before anything else.
func (p *Plugin) DialWith(d Dial) { p.dialer.network = d }

// Capabilities tells what the sink promises for a table that Inspect finds nothing against.
func (p *Plugin) Capabilities() sink.Capabilities {
	return sink.Capabilities{
		Form:   sink.Staged,
		Ledger: "the column " + provenanceColumn + " of the table, asked after every older insert is fenced and killed",
		Fence:  "a row in " + fenceTable + " that every insert reads when it starts",
		Expiry: "none: a block can be inserted days later", ExactlyOnce: true, DeadLetters: true,
		Visible:     "rows appear after their checkpoint is published, partition by partition of a block, each partition at once",
		CommitBytes: commitBytes(&p.settings),
		Tested:      "ClickHouse 26.7",
		Limits: []string{
			"tables of the plain MergeTree engine only; Replicated, Replacing and the other engines are refused for exactly-once",
			"the table has the column " + provenanceColumn + " and the settings fsync_after_insert and fsync_part_directory",
			"all addresses lead to one server",
			"a materialized view may miss the rows of a block in whose insert the server died",
		},
	}
}

// commitBytes is the memory of one commit: the rows of a unit, their provenance, the segment that is being read, stored and
// decompressed, and the frames that are being sent.
func commitBytes(s *Settings) int64 {
	const perRow, frames = 100, 4 * frameBytes
	return int64(s.UnitBytes) + perRow*s.UnitRows + 2*int64(s.Segment) + frames
}

// Open connects, makes the two tables of ingestd if they are missing, and registers the pipeline's number.
func (p *Plugin) Open(ctx context.Context, env sink.Env) (sink.Sink, error) {
	const op = "sink/clickhouse.Open"
	c, err := p.dialer.any(ctx)
	if err != nil {
		return nil, fault.E(op, kindOf(err), err)
	}
	defer c.close()
	name := tableName{p.settings.Database, p.settings.Table}
	if p.settings.Provenance == provenanceAdd {
		if err := c.exec(ctx, addProvenance(name)); err != nil {
			return nil, fault.E(op, kindOf(err), fmt.Errorf("add the column %s: %w", provenanceColumn, err))
		}
	}
	t, err := readTable(ctx, c, name)
	if err != nil {
		return nil, fault.E(op, kindOf(err), err)
	}
	s := &Sink{settings: &p.settings, dialer: p.dialer, env: env, server: c.server, nonce: rand.Text()}
	s.mu.table, s.mu.provenance = t, t.hasProvenance()
	if !s.mu.provenance && !env.AtLeastOnce {
		return nil, fault.WithRemedy(op, fault.Misconfigured,
			fmt.Errorf("table %s has no column %s UInt64", name, provenanceColumn), addProvenance(name))
	}
	if s.extra, err = p.insertSettings(ctx, c); err != nil {
		return nil, fault.E(op, kindOf(err), err)
	}
	if s.number, err = s.register(ctx, c); err != nil {
		err = fmt.Errorf("register in %s: %w", registryTable, err)
		return nil, fault.WithRemedy(op, kindOf(err), err, fault.RemedyOf(err))
	}
	return s, nil
}

// insertSettings are the settings of every insert: ours that the server has, and those of the config.
func (p *Plugin) insertSettings(ctx context.Context, c *conn) ([]ch.Setting, error) {
	ours := insertSettings(&p.settings)
	have, err := readSettings(ctx, c, settingNames(ours))
	if err != nil {
		return nil, err
	}
	list := present(ours, have)
	for _, name := range sortedKeys(p.settings.Server) {
		list = append(list, ch.Setting{Key: name, Value: p.settings.Server[name], Important: true})
	}
	return list, nil
}

// Sink is an open sink of one run. It implements sink.Sink.
type Sink struct {
	settings  *Settings
	dialer    *dialer
	env       sink.Env
	server    server // that new units belong to
	nonce     string // of the run, in its fence rows
	extra     []ch.Setting
	number    uint64 // registered for this store, pipeline, lane and sink
	counter   counter
	committer *committer // once it was asked for

	mu struct {
		sync.Mutex
		table   *table
		columns []wireColumn // what the writers send, once one is open
		// provenance is true when new units get a block number. It is always true with exactly-once delivery.
		provenance bool
	}
}

var _ sink.Sink = (*Sink)(nil)

// Writer returns the writer of one task. All writers of a run must have the same columns.
func (s *Sink) Writer(ctx context.Context, task int, schema *record.Schema) (sink.Writer, error) {
	const op = "sink/clickhouse.Writer"
	s.mu.Lock()
	defer s.mu.Unlock() // writers are opened one after the other, so I/O under the lock holds up nothing else
	columns, shapes, err := s.mu.table.wire(schema)
	if err != nil && s.reload(ctx) == nil { // the table may have been mended since it was read
		columns, shapes, err = s.mu.table.wire(schema)
	}
	if err != nil {
		return nil, fault.E(op, fault.Misconfigured, err)
	}
	if s.mu.columns != nil && !slices.Equal(s.mu.columns, columns) {
		return nil, fault.E(op, fault.Misconfigured, errors.New("the tasks' columns differ"))
	}
	if missing := s.mu.table.partitionColumnsOutside(schema); len(missing) > 0 {
		if !s.env.AtLeastOnce {
			return nil, fault.E(op, fault.Misconfigured, fmt.Errorf("the partition key %s uses columns that are not written: %s",
				s.mu.table.partitionKey, strings.Join(missing, ", ")))
		}
		s.mu.provenance = false
	}
	s.mu.columns = columns
	w := newWriter(task, s.env.Segments, schema, shapes)
	w.limits(s.settings)
	w.raw.Raw = s.settings.OnReject == rejectDeadLetter && s.mu.table.canRefuse()
	return w, nil
}

// reload reads the table again. The lock must be held.
func (s *Sink) reload(ctx context.Context) error {
	c, err := s.dialer.to(ctx, s.server)
	if err != nil {
		return err
	}
	defer c.close()
	t, err := readTable(ctx, c, s.tableName())
	if err == nil {
		s.mu.table = t
	}
	return err
}

// wire is what the writers send, and whether new units get a block number.
func (s *Sink) wire() (columns []wireColumn, provenance bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.columns, s.mu.provenance
}

// Restore begins at the end of the newest manifest's block numbers and refuses a table that knows more than the manifest.
func (s *Sink) Restore(ctx context.Context, state []byte, _ []sink.Committable) error {
	const op = "sink/clickhouse.Restore"
	var last sinkState
	if len(state) > 0 {
		if err := json.Unmarshal(state, &last); err != nil {
			return fault.E(op, fault.Corrupt, fmt.Errorf("the sink's state: %w", err))
		}
	}
	s.counter.restore(last.BlockEnd)
	if !s.table().hasProvenance() {
		return nil
	}
	c, err := s.dialer.to(ctx, s.server)
	if err != nil {
		return fault.E(op, kindOf(err), err)
	}
	defer c.close()
	if last.Number != 0 && last.Number != s.number {
		if s.number, err = s.registered(ctx, c, last.Number); err != nil {
			return fault.E(op, kindOf(err), err)
		}
	}
	above, err := c.number(ctx, countBlocks(s.tableName(), blockNumber(s.number, max(last.BlockEnd, 1)), blockNumber(s.number+1, 0)))
	if err != nil {
		return fault.E(op, kindOf(err), fmt.Errorf("look for newer blocks: %w", err))
	}
	if above > 0 {
		return fault.E(op, fault.Lost, fmt.Errorf("%s holds %d rows of blocks that the checkpoint store does not know (number %d, from %d on): "+
			"the store is older than the table", s.tableName(), above, s.number, max(last.BlockEnd, 1)))
	}
	return nil
}

// tableName is the target's.
func (s *Sink) tableName() tableName { return tableName{s.settings.Database, s.settings.Table} }

// Committer returns the run's committer.
func (s *Sink) Committer() sink.Committer {
	s.committer = newCommitter(s)
	return s.committer
}

// Close ends the committer's connection.
func (s *Sink) Close() error {
	if s.committer != nil {
		s.committer.close()
	}
	return nil
}

// table is what was last read of the target.
func (s *Sink) table() *table {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.table
}
