//go:build integration

package integration

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ingestd/ingestd/sink"
	pgsink "github.com/ingestd/ingestd/sink/postgres"
	"github.com/ingestd/ingestd/sink/sinktest"
)

// The suite runs on the real server. Every message that the server answers is one call that the suite can break: before it is sent,
// after the answer has come, or by sending it later on its old connection.
func TestPostgres_conformance(t *testing.T) {
	s := postgresServer(t)
	for _, c := range sinktest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			c.Check(t, sinktest.Harness{
				Target: pgTargets(s, "append"),
				Exact:  true, Late: true, Poison: "poison", Invalid: "zero\x00byte", Histories: 8, Stride: 41,
			})
		})
	}
}

// With upsert rows go over a temporary table. That a row is doubled can't be seen then; that one is lost, or comes back, can.
func TestPostgres_conformanceOfUpserts(t *testing.T) {
	s := postgresServer(t)
	for _, c := range sinktest.Cases() {
		if strings.HasPrefix(c.Name, "deadLetters_") {
			continue // letters have no key
		}
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			c.Check(t, sinktest.Harness{
				Target: pgTargets(s, "upsert"),
				Exact:  true, Late: true, Poison: "poison", Invalid: "zero\x00byte", Histories: 4, Stride: 97,
			})
		})
	}
}

// pgTarget is a table in a schema of its own, which holds its ledger too.
type pgTarget struct {
	server   *postgres
	settings pgsink.Settings

	mu    sync.Mutex
	conns []net.Conn // of all processes, also those that died
}

// pgTargets makes targets for one case, which has two at a time at most. Those before are dropped, with the connections that their dead
// processes have left.
func pgTargets(s *postgres, mode string) func(tb testing.TB) sinktest.Target {
	var made []*pgTarget
	return func(tb testing.TB) sinktest.Target {
		tb.Helper()
		const atATime = 2
		if len(made) == atATime {
			made[0].drop(tb)
			made = made[1:]
		}
		p := newPGTarget(tb, s, mode)
		if len(made) == 0 {
			tb.Cleanup(func() {
				for _, p := range made {
					p.drop(tb)
				}
			})
		}
		made = append(made, p)
		return p
	}
}

func (p *pgTarget) drop(tb testing.TB) {
	tb.Helper()
	p.mu.Lock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	if _, err := p.query(context.Background(), "DROP SCHEMA "+p.settings.Schema+" CASCADE"); err != nil {
		tb.Log(err)
	}
}

var pgSchemas atomic.Int64

func newPGTarget(tb testing.TB, s *postgres, mode string) *pgTarget {
	tb.Helper()
	schema := fmt.Sprintf("suite_%d", pgSchemas.Add(1))
	p := &pgTarget{server: s, settings: s.settings("target")}
	p.settings.Schema, p.settings.Mode, p.settings.Columns = schema, mode, []string{"id", "text"}
	p.settings.ReadTimeout, p.settings.StatementTimeout, p.settings.LockTimeout = 20*time.Second, 20*time.Second, 200*time.Millisecond
	id := "bigint"
	if mode == "upsert" {
		id = "bigint PRIMARY KEY"
	}
	if _, err := p.query(context.Background(), "CREATE SCHEMA "+schema+"; CREATE TABLE "+schema+`.target (id `+id+`, text text DEFAULT '' CHECK (text <> 'poison'),
		split text, topic text, partition int, "offset" bigint, timestamp timestamptz, key text, key_base64 text, value text, value_base64 text, headers text, stage text,
		reason text, "column" text, byte bigint)`); err != nil {
		tb.Fatal(err)
	}
	return p
}

func (p *pgTarget) query(ctx context.Context, statements string) ([][][]byte, error) {
	c, err := p.server.dial(p.server.user, p.server.password)
	if err != nil {
		return nil, err
	}
	defer c.Close(ctx)
	results, err := c.Exec(ctx, statements).ReadAll()
	if err != nil {
		return nil, err
	}
	return results[len(results)-1].Rows, nil
}

func (p *pgTarget) Plugin(f *sinktest.Faults) (sink.Plugin, error) {
	plugin, err := pgsink.New(p.settings)
	if err != nil {
		return nil, err
	}
	dial := dialPGCalls(func(name []byte, send func() error) error { return f.Do(string(name), send) })
	plugin.DialWith(func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.conns = append(p.conns, c.(*pgConn).Conn)
		return c, nil
	})
	return plugin, nil
}

func (p *pgTarget) Rows(ctx context.Context) ([]sinktest.Row, error) {
	rows, err := p.query(ctx, `SELECT coalesce(id, "offset"), CASE WHEN stage IS NULL THEN text ELSE coalesce(value, '') END FROM `+p.settings.Schema+".target")
	if err != nil {
		return nil, err
	}
	var list []sinktest.Row
	for _, r := range rows {
		id, err := strconv.ParseInt(string(r[0]), 10, 64)
		if err != nil {
			return nil, err
		}
		list = append(list, sinktest.Row{ID: id, Text: string(r[1])})
	}
	return list, nil
}
