//go:build integration

package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/ingestd/ingestd/sink"
	chsink "github.com/ingestd/ingestd/sink/clickhouse"
	"github.com/ingestd/ingestd/sink/sinktest"
)

// The suite runs on the real server. Every round trip of the native protocol (hello, ping, statement, block) is one call that
// the suite can break: before it is sent, after the server's answer has come, or by sending it later.
func TestClickHouse_conformance(t *testing.T) {
	s := clickHouseServer(t)
	conn := s.connect(t)
	t.Cleanup(func() { conn.Close() })
	var databases atomic.Int64
	target := func(partition string) func(t testing.TB) sinktest.Target {
		return func(t testing.TB) sinktest.Target {
			c := &chTarget{addr: s.addr, conn: conn, database: fmt.Sprintf("suite_%d", databases.Add(1))}
			c.create(t, partition)
			return c
		}
	}
	for _, c := range sinktest.Cases() {
		h := sinktest.Harness{Target: target("id % 3"), Exact: true, Late: true, Poison: "poison", Histories: 8, Stride: 13}
		if strings.HasPrefix(c.Name, "deadLetters_") {
			h.Target = target("partition") // letters have no id
		}
		t.Run(c.Name, func(t *testing.T) { c.Check(t, h) })
	}
}

// chTarget is a table in a database of its own: the fence is kept per database.
type chTarget struct {
	addr     string
	conn     driver.Conn
	database string
}

// create makes the table. It takes the suite's rows and its dead letters.
func (c *chTarget) create(t testing.TB, partition string) {
	t.Helper()
	for _, q := range []string{
		"CREATE DATABASE " + c.database,
		"CREATE TABLE " + c.database + `.target (id Int64 DEFAULT 0, text LowCardinality(String) DEFAULT '', split String DEFAULT '', topic String DEFAULT '',
			partition Int32 DEFAULT 0, offset Int64 DEFAULT 0, timestamp Nullable(DateTime64(3)), key Nullable(String), key_base64 Nullable(String),
			value Nullable(String), value_base64 Nullable(String), headers String DEFAULT '', stage String DEFAULT '', reason String DEFAULT '',
			column Nullable(String), byte Nullable(Int64), _ingestd_block UInt64 CODEC(T64, ZSTD(1)), INDEX b _ingestd_block TYPE minmax,
			CONSTRAINT no_poison CHECK text != 'poison')
			ENGINE = MergeTree PARTITION BY ` + partition + ` ORDER BY id SETTINGS fsync_after_insert = 1, fsync_part_directory = 1`,
	} {
		if err := c.conn.Exec(context.Background(), q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	t.Cleanup(func() { _ = c.conn.Exec(context.Background(), "DROP DATABASE "+c.database+" SYNC") })
}

func (c *chTarget) Plugin(f *sinktest.Faults) (sink.Plugin, error) {
	s := chSettings(c.addr, "target")
	s.Database, s.ReceiveTimeout, s.ReadTimeout, s.InsertTimeout = c.database, time.Second, 20*time.Second, 20*time.Second
	s.Columns = []string{"id", "text"}
	p, err := chsink.New(s)
	if err != nil {
		return nil, err
	}
	p.DialWith(func(ctx context.Context, network, address string) (net.Conn, error) {
		var d net.Dialer
		real, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return newCallConn(real, f), nil
	})
	return p, nil
}

func (c *chTarget) Rows(ctx context.Context) ([]sinktest.Row, error) {
	rows, err := c.conn.Query(ctx, "SELECT if(stage = '', id, offset), if(stage = '', text, ifNull(value, '')) FROM "+c.database+".target")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []sinktest.Row
	for rows.Next() {
		var r sinktest.Row
		if err := rows.Scan(&r.ID, &r.Text); err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, rows.Err()
}

// callConn makes calls of what is written between two settings of the write deadline: ch-go sets it before it flushes and
// takes it away after.
type callConn struct {
	net.Conn
	faults *sinktest.Faults
	// flushes counts what ch-go flushed. Its second flush of a connection ends the handshake and has no answer, so it goes with
	// the first statement.
	flushes int

	mu       sync.Mutex
	out      []byte
	arrived  *sync.Cond
	in       []byte
	received int   // bytes since the beginning
	err      error // of the server's side
	broken   error // by the suite
	closed   bool
}

var errCut = errors.New("the test cut the connection")

func newCallConn(real net.Conn, f *sinktest.Faults) *callConn {
	c := &callConn{Conn: real, faults: f}
	c.arrived = sync.NewCond(&c.mu)
	go c.pump()
	return c
}

// pump takes in what the server sends.
func (c *callConn) pump() {
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Conn.Read(buf)
		c.mu.Lock()
		c.in = append(c.in, buf[:n]...)
		c.received += n
		if err != nil {
			c.err = err
		}
		c.arrived.Broadcast()
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (c *callConn) Read(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.broken != nil:
			return 0, c.broken
		case c.closed:
			return 0, net.ErrClosed
		case len(c.in) > 0:
			n := copy(b, c.in)
			c.in = c.in[n:]
			return n, nil
		case c.err != nil:
			return 0, c.err
		}
		c.arrived.Wait()
	}
}

func (c *callConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return 0, c.broken
	}
	c.out = append(c.out, b...)
	return len(b), nil
}

// SetReadDeadline is for the context of a call, which the suite does not need: what it breaks it breaks at once.
func (c *callConn) SetReadDeadline(time.Time) error { return nil }

func (c *callConn) SetWriteDeadline(at time.Time) error {
	c.mu.Lock()
	out := c.out
	if at.IsZero() && len(out) > 0 {
		c.flushes++
	}
	const handshakeEnd = 2
	if !at.IsZero() || len(out) == 0 || c.flushes == handshakeEnd {
		c.mu.Unlock()
		return nil
	}
	c.out = nil
	c.mu.Unlock()
	if err := c.faults.Do(callName(out), func() error { return c.send(out) }); err != nil {
		c.mu.Lock()
		c.broken = fmt.Errorf("%w: %w", errCut, err)
		c.arrived.Broadcast()
		c.mu.Unlock()
	}
	return nil
}

// send sends one call and waits for the beginning of the answer.
func (c *callConn) send(out []byte) error {
	c.mu.Lock()
	before := c.received
	c.mu.Unlock()
	if _, err := c.Conn.Write(out); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.received == before && c.err == nil {
		c.arrived.Wait()
	}
	return c.err
}

// Close closes the server's side too, unless the suite broke the connection: then a call may still be sent late. The server
// gives such a connection up by itself.
func (c *callConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.closed = true
	c.arrived.Broadcast()
	if c.broken != nil {
		return nil
	}
	return c.Conn.Close()
}

// callName shows the readable part of a call in the suite's messages.
func callName(out []byte) string {
	name := make([]byte, 0, 60)
	for _, b := range out {
		if b >= ' ' && b < 0x7f {
			name = append(name, b)
		}
		if len(name) == cap(name) {
			break
		}
	}
	return string(name)
}
