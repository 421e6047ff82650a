package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// result is what one run of the daemon took.
type result struct {
	records int
	bytes   int64
	wall    time.Duration // of the process, start and final checkpoint included
	cpu     time.Duration
	peak    int64         // resident bytes
	pause   time.Duration // the longest time without a record read, between the first and the last
}

func (r result) rate() float64 { return float64(r.records) / r.wall.Seconds() }

func (r result) cpuPerMillion() float64 { return r.cpu.Seconds() / float64(r.records) * 1e6 }

func median(all []result) result {
	sorted := slices.Clone(all)
	slices.SortFunc(sorted, func(a, b result) int { return int(a.cpu - b.cpu) })
	return sorted[len(sorted)/2]
}

const config = `[daemon]
data_dir = %q
listen = %q
memory_limit = "1GiB"

[pipeline.bench]
id = %q
delivery = %q
tasks = 2

[pipeline.bench.source]
type = "kafka"
brokers = [%q]
topics = [%q]
%s

[pipeline.bench.decode]
type = "json"

[pipeline.bench.decode.columns]
%s
%s
[pipeline.bench.sink]
%s
[pipeline.bench.checkpoint]
interval = "1s"
`

// prepare writes a config for a row with a fresh data directory and target, and returns its path.
func (b *bench) prepare(ctx context.Context, r *row, listen, until string) (string, error) {
	dir, err := os.MkdirTemp(b.dir, "run-")
	if err != nil {
		return "", err
	}
	columns, table := smallColumns, smallTable
	if r.size == "large" {
		columns, table = largeColumns, largeTable
	}
	typ, steps := r.parts()
	sink := fmt.Sprintf("type = %q\n", typ)
	name := "t" + strconv.FormatInt(time.Now().UnixNano(), 36) // of the table, and of the pipeline: each run has its own store
	switch typ {
	case "kafka":
		sink += fmt.Sprintf("brokers = [%q]\ntopic = %q\ncreate = { partitions = %d, replication_factor = 1 }\n", b.servers.broker, name, partitions)
	case "postgres":
		table := smallPostgresTable
		if r.size == "large" {
			table = largePostgresTable
		}
		if _, err := b.servers.psql(ctx, fmt.Sprintf(table, name)); err != nil {
			return "", err
		}
		b.servers.postgresTable = name
		columns = strings.NewReplacer(`"uint64"`, `"int64"`, `"uint32"`, `"int64"`).Replace(columns)
		sink += fmt.Sprintf("addr = [%q]\ndatabase = \"db\"\ntable = %q\nuser = %q\npassword = %q\n", b.servers.postgresAddr, name, user, password)
	case "file":
		sink += fmt.Sprintf("path = %q\n", filepath.Join(dir, "rows"))
	case "clickhouse":
		if err := b.servers.conn.Exec(ctx, fmt.Sprintf(table, name)); err != nil {
			return "", err
		}
		sink += fmt.Sprintf("addr = [%q]\ndatabase = \"db\"\ntable = %q\nuser = %q\npassword = %q\n", b.servers.addr, name, user, password)
	}
	path := filepath.Join(dir, "ingestd.toml")
	text := fmt.Sprintf(config, filepath.Join(dir, "data"), listen, name, r.delivery, b.servers.broker, r.size, until, columns, steps, sink)
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// once runs the daemon over a whole topic.
func (b *bench) once(ctx context.Context, r *row) (result, error) {
	port, err := freePort(ctx)
	if err != nil {
		return result{}, err
	}
	listen := "127.0.0.1:" + port
	path, err := b.prepare(ctx, r, listen, `until = "end"`)
	if err != nil {
		return result{}, err
	}
	res := result{records: b.servers.counts[r.size], bytes: b.servers.bytes[r.size]}
	cmd := b.command(ctx, path)
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return result{}, err
	}
	watchCtx, cancel := context.WithCancel(ctx)
	paused := make(chan time.Duration, 1)
	go func() { paused <- longestPause(watchCtx, listen, res.records) }()
	err = cmd.Wait()
	res.wall = time.Since(began)
	cancel()
	res.pause = <-paused
	if err != nil {
		return result{}, fmt.Errorf("the daemon: %w (run again with -log)", err)
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return result{}, errors.New("no resource usage on this system")
	}
	res.cpu = time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	res.peak = usage.Maxrss << 10
	return res, os.RemoveAll(filepath.Dir(path))
}

func (b *bench) command(ctx context.Context, path string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, b.daemon, "run", "-c", path)
	if b.daemonLog {
		cmd.Stderr = os.Stderr
	}
	return cmd
}

// readTotal finds how many records the daemon has read.
func readTotal(ctx context.Context, listen string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+listen+"/metrics", http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }() //nolint:errcheck // it was read
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	m := regexp.MustCompile(`(?m)^ingestd_source_records_total\{[^}]*\} (\S+)$`).FindSubmatch(body)
	if m == nil {
		return 0, nil
	}
	f, err := strconv.ParseFloat(string(m[1]), 64)
	return int(f), err
}

// longestPause looks every 20 ms how many records were read, and returns the longest time in which that stood still, between
// the first record and the last: a checkpoint that stops reading shows here.
func longestPause(ctx context.Context, listen string, records int) (longest time.Duration) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	last, moved := 0, time.Now()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return longest
		}
		n, err := readTotal(ctx, listen)
		if err != nil {
			continue
		}
		if n != last {
			if last > 0 {
				longest = max(longest, time.Since(moved))
			}
			last, moved = n, time.Now()
		}
		if n >= records {
			return longest
		}
	}
}

// stoppedSink pauses ClickHouse under the daemon and shows how its memory develops.
func (b *bench) stoppedSink(ctx context.Context) error {
	const before, paused = 5 * time.Second, 20 * time.Second
	progress(fmt.Sprintf("ClickHouse stands still for %s", paused))
	path, err := b.prepare(ctx, &row{size: "small", sink: "clickhouse", delivery: "exactly-once"}, "", "")
	if err != nil {
		return err
	}
	cmd := b.command(ctx, path)
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		_ = cmd.Process.Kill() //nolint:errcheck // it may have ended
		_ = cmd.Wait()         //nolint:errcheck // it was killed
	}()
	id := b.servers.clickhouse.GetContainerID()
	var sizes []string
	for at := time.Duration(0); at < before+paused; at += time.Second {
		if at == time.Second {
			if err := docker(ctx, "pause", id); err != nil {
				return err
			}
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
		size, err := resident(cmd.Process.Pid)
		if err != nil {
			return err
		}
		sizes = append(sizes, strconv.FormatInt(size>>20, 10))
	}
	if _, err := fmt.Fprintf(os.Stdout, "\nmemory in MiB, each second, with a stopped sink (memory_limit 1 GiB): %s\n", strings.Join(sizes, " ")); err != nil {
		return err
	}
	return docker(ctx, "unpause", id)
}

func docker(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "docker", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("docker %s: %w: %s", args[0], err, out)
	}
	return nil
}

// resident reads a process's resident bytes.
func resident(pid int) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(data))
	if len(f) < 2 {
		return 0, errors.New("statm is too short")
	}
	pages, err := strconv.ParseInt(f[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}
