//go:build integration

package integration

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// s3Store is the checkpoint section's keys of a store.
func s3Store(endpoint, prefix string) string {
	return fmt.Sprintf(`store = "s3", bucket = %q, prefix = %q, endpoint = %q, access_key_id = %q, secret_access_key = %q`,
		gatewayBucket, prefix, endpoint, gatewayKey, gatewaySecret)
}

// tally counts the requests that go through it to a server.
type tally struct {
	mu   sync.Mutex
	sent map[string]int
}

func (c *tally) start(t *testing.T, g *gateway) (endpoint string) {
	t.Helper()
	to, err := url.Parse(g.url())
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host // it is part of the signature
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		what := r.Method
		if isList(r) {
			what = "LIST"
		}
		if elements := strings.Split(r.URL.Path, "/"); len(elements) > 4 {
			what += " " + elements[4]
		}
		c.mu.Lock()
		c.sent[what]++
		c.mu.Unlock()
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func (c *tally) of(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent[what]
}

// reset returns what was counted and begins again.
func (c *tally) reset() (total int, sent map[string]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	sent, c.sent = c.sent, map[string]int{}
	for _, n := range sent {
		total += n
	}
	return total, sent
}

const smallConfig = `[daemon]
data_dir = "%[1]s/data"
listen = ""

[pipeline.%[7]s]
tasks = 1
source = { type = "kafka", brokers = ["%[2]s"], topics = ["%[3]s"] }
decode = { type = "json", columns = { n = "int64", k = "int64" } }
sink = { %[4]s }
checkpoint = { interval = "1s", %[5]s }
%[6]s`

const s3OnceTable = `CREATE TABLE db.%s (n Int64, k Int64, _ingestd_block UInt64 CODEC(T64, ZSTD(1)),
	INDEX _ingestd_block_index _ingestd_block TYPE minmax GRANULARITY 1)
	ENGINE = MergeTree PARTITION BY k %% 3 ORDER BY n SETTINGS fsync_after_insert = 1, fsync_part_directory = 1`

const dedupStep = `
[[pipeline.%s.step]]
type = "dedup"
id = "first"
key = ["n"]
ttl = "1h"
`

// A checkpoint each second of a small pipeline costs at most three requests, all of them counted on their way to a real server.
func TestS3_checkpointsCostFewRequests(t *testing.T) {
	broker, _ := kafkaServer(t)
	g := gatewayServer(t)
	ch := clickHouseServer(t)
	conn := ch.connect(t)
	defer conn.Close()
	for _, table := range []string{"small", "small_once"} {
		if err := conn.Exec(context.Background(), fmt.Sprintf(s3OnceTable, table)); err != nil {
			t.Fatal(err)
		}
	}
	const topic = "s3-small"
	l := startKeyedLoad(t, broker, topic)
	defer l.end(t)
	path := daemonBinary(t, "faultpoints,invariants")
	clickHouseSink := fmt.Sprintf(`type = "clickhouse", addr = [%q], database = "db", table = %%q, user = %q, password = %q`, ch.addr, clickHouseUser, clickHousePassword)
	cases := []struct {
		name, sink, step string
		most             float64
	}{
		{"file", `type = "file", path = "%s/rows"`, "", 3},
		{"clickhouse", fmt.Sprintf(clickHouseSink, "small"), "", 3},
		{"keyed-file", `type = "file", path = "%s/rows"`, dedupStep, 3},
		// A segment, a delta of state and a manifest: what is above three are deletes of many checkpoints together, which nobody bills.
		{"keyed-clickhouse", fmt.Sprintf(clickHouseSink, "small_once"), dedupStep, 3.3},
	}
	t.Run("together", func(t *testing.T) { // they wait for the clock
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				dir, count := t.TempDir(), &tally{sent: map[string]int{}}
				store := s3Store(count.start(t, g), "requests-"+c.name)
				config := filepath.Join(dir, "my.toml")
				sink := strings.ReplaceAll(c.sink, "%s", dir)
				if err := os.WriteFile(config, fmt.Appendf(nil, smallConfig, dir, broker, topic, sink, store, strings.ReplaceAll(c.step, "%s", c.name), c.name), 0o600); err != nil {
					t.Fatal(err)
				}
				d := startDaemon(t, path, config, "")
				untilTrue(t, "eight log entries", func() bool { return count.of("PUT log") >= 8 })
				count.reset()
				<-time.After(34 * time.Second) // two rounds of deletes
				total, sent := count.reset()
				checkpoints := sent["PUT log"]
				t.Logf("%d requests for %d checkpoints, %.1f each: %v", total, checkpoints, float64(total)/float64(checkpoints), sent)
				if checkpoints < 25 || float64(total) > c.most*float64(checkpoints)+2 {
					t.Errorf("got %d requests for %d checkpoints, want at most %.1f for each", total, checkpoints, c.most)
				}
				d.signal(syscall.SIGTERM)
				if code := d.exit(time.Minute); code != 0 {
					t.Errorf("exit code %d\n%s", code, d.tail())
				}
			})
		}
	})
}
