//go:build integration

package integration

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/moby/moby/api/types/container"
	"github.com/testcontainers/testcontainers-go"

	"github.com/ingestd/ingestd/sink"
	chsink "github.com/ingestd/ingestd/sink/clickhouse"
	"github.com/ingestd/ingestd/sink/sinktest"
)

// The suite runs on the real server. Every round trip of the native protocol (hello, ping, statement, block) is one call that
// the suite can break: before it is sent, after the server's answer has come, or by sending it later.
func TestClickHouse_conformance(t *testing.T) {
	// Some server versions end when a connection is cut in the midst of a block. Docker starts this one again, and the suite's
	// next connection waits for it.
	s := startClickHouse(t, testcontainers.WithHostConfigModifier(func(h *container.HostConfig) {
		h.RestartPolicy = container.RestartPolicy{Name: container.RestartPolicyOnFailure}
	}))
	conn := s.connect(t)
	t.Cleanup(func() {
		conn.Close()
		s.terminate(t)
	})
	var databases atomic.Int64
	target := func(partition string) func(tb testing.TB) sinktest.Target {
		return func(tb testing.TB) sinktest.Target {
			tb.Helper()
			c := &chTarget{addr: s.addr, conn: conn, database: fmt.Sprintf("suite_%d", databases.Add(1))}
			c.create(tb, partition)
			return c
		}
	}
	for _, c := range sinktest.Cases() {
		h := sinktest.Harness{Target: target("id % 3"), Exact: true, Late: true, Poison: "poison", Histories: 8, Stride: 41}
		if strings.HasPrefix(c.Name, "deadLetters_") {
			h.Target = target("partition") // letters have no id
		}
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			c.Check(t, h)
		})
	}
}

// chTarget is a table in a database of its own: the fence is kept per database.
type chTarget struct {
	addr     string
	conn     driver.Conn
	database string
}

// create makes the table. It takes the suite's rows and its dead letters.
func (c *chTarget) create(tb testing.TB, partition string) {
	tb.Helper()
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
			tb.Fatalf("%s: %v", q, err)
		}
	}
	tb.Cleanup(func() { _ = c.conn.Exec(context.Background(), "DROP DATABASE "+c.database+" SYNC") })
}

func (c *chTarget) Plugin(f *sinktest.Faults) (sink.Plugin, error) {
	s := chSettings(c.addr, "target")
	s.Database, s.ReceiveTimeout, s.ReadTimeout, s.InsertTimeout = c.database, time.Second, 20*time.Second, 20*time.Second
	s.Columns = []string{"id", "text"}
	p, err := chsink.New(s)
	if err != nil {
		return nil, err
	}
	dial := dialCalls(func(out []byte, send func() error) error { return f.Do(callName(out), send) })
	p.DialWith(func(ctx context.Context, network, address string) (net.Conn, error) {
		if err := c.alive(ctx); err != nil {
			return nil, err
		}
		return dial(ctx, network, address)
	})
	return p, nil
}

// alive waits until the server answers.
func (c *chTarget) alive(ctx context.Context) error {
	var err error
	for range 600 {
		if err = c.conn.Ping(ctx); err == nil || ctx.Err() != nil {
			return err
		}
		waitABit()
	}
	return err
}

func (c *chTarget) Rows(ctx context.Context) ([]sinktest.Row, error) {
	if err := c.alive(ctx); err != nil {
		return nil, err
	}
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
