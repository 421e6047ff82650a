// Command bench measures the daemon as a process against real servers in containers: records and megabytes a second, CPU
// seconds for a million records and peak memory, for each sink, record size and delivery, in one table. It needs a Docker
// engine with the images of `make images`. Machines are noisy: compare rows of one run, not of two.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"text/tabwriter"
)

func main() {
	var b bench
	flag.IntVar(&b.small, "small", 3_000_000, "records of about 300 bytes")
	flag.IntVar(&b.large, "large", 1_000_000, "records of about 1.4 kB")
	flag.IntVar(&b.repeat, "repeat", 3, "runs of each row, deliveries in turn; the median by CPU is shown")
	flag.StringVar(&b.only, "only", "", "run only rows whose name contains this")
	flag.BoolVar(&b.daemonLog, "log", false, "show the daemon's log")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := b.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type bench struct {
	small, large, repeat int
	only                 string
	daemonLog            bool
	dir                  string
	daemon               string // the binary
	servers              *servers
	floors               []string // lines of the report
}

// row is one line of the table.
type row struct {
	size     string // of a record
	sink     string
	delivery string
	results  []result
}

// parts returns the type of the sink and the steps that its name says behind it.
func (r *row) parts() (sink, steps string) {
	sink, what, _ := strings.Cut(r.sink, ", ")
	switch what {
	case "counted":
		steps = `[[pipeline.bench.step]]
type = "aggregate"
key = ["user"]
columns = { n = "count()", total = "sum(amount)" }
emit = "update"
`
	case "deduplicated":
		steps = `[[pipeline.bench.step]]
type = "dedup"
key = ["id"]
ttl = "1d"
`
	}
	return sink, steps
}

func (r *row) name() string { return r.size + " → " + r.sink + ", " + r.delivery }

func (b *bench) run(ctx context.Context) (err error) {
	if b.dir, err = os.MkdirTemp("", "ingestd-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	b.daemon = filepath.Join(b.dir, "ingestd")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", b.daemon, "github.com/ingestd/ingestd/cmd/ingestd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	progress("starting Kafka, ClickHouse and PostgreSQL")
	if b.servers, err = startServers(ctx); err != nil {
		return err
	}
	defer b.servers.stop()
	for _, in := range []struct {
		topic string
		n     int
	}{{"small", b.small}, {"large", b.large}} {
		progress(fmt.Sprintf("producing %d records to topic %s", in.n, in.topic))
		if err := b.servers.fill(ctx, in.topic, in.n); err != nil {
			return err
		}
	}
	rows, err := b.measure(ctx)
	if err != nil {
		return err
	}
	if err := b.table(rows); err != nil {
		return err
	}
	if b.only == "" || strings.Contains("stopped sink", b.only) {
		return b.stoppedSink(ctx)
	}
	return nil
}

// floorOf measures the floor under the rows that were measured last.
func (b *bench) floorOf(ctx context.Context, size, sink string) error {
	switch {
	case sink == "postgres":
		return b.floor(ctx, size+": psql's COPY of the same rows, binary, from a file beside the server (without the server's CPU)", b.postgresFloor)
	case sink == "kafka" && size == "small":
		return b.floor(ctx, size+": a plain franz-go producer of the same values", b.kafkaFloor)
	}
	return nil
}

// floor notes what the work below a sink takes by itself.
func (b *bench) floor(ctx context.Context, name string, once func(context.Context) (result, error)) error {
	var all []result
	for range b.repeat {
		progress("floor: " + name)
		res, err := once(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, res)
	}
	m := median(all)
	b.floors = append(b.floors, fmt.Sprintf("floor, %s: %.0f records/s, %.2f CPU-s per M records", name, m.rate(), m.cpuPerMillion()))
	return nil
}

// measure runs every row.
func (b *bench) measure(ctx context.Context) ([]*row, error) {
	var rows []*row
	for _, size := range []string{"small", "large"} {
		for _, sink := range []string{"blackhole", "file", "clickhouse", "postgres", "kafka", "kafka, counted", "kafka, deduplicated"} {
			pair := []*row{{size: size, sink: sink, delivery: "exactly-once"}, {size: size, sink: sink, delivery: "at-least-once"}}
			keyed := strings.Contains(sink, ", ")
			if keyed && size == "large" || !strings.Contains(pair[0].name(), b.only) && !strings.Contains(pair[1].name(), b.only) {
				continue
			}
			if err := b.pair(ctx, pair); err != nil {
				return nil, err
			}
			rows = append(rows, pair...)
			if err := b.floorOf(ctx, size, sink); err != nil {
				return nil, err
			}
		}
	}
	return rows, nil
}

// pair runs rows in turn, so that a machine that slows down hits both deliveries.
func (b *bench) pair(ctx context.Context, rows []*row) error {
	for range b.repeat {
		for _, r := range rows {
			progress(r.name())
			res, err := b.once(ctx, r)
			if err != nil {
				return fmt.Errorf("%s: %w", r.name(), err)
			}
			r.results = append(r.results, res)
		}
	}
	return nil
}

func (b *bench) table(rows []*row) error {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "\nrecord\tsink\tdelivery\trecords/s\tMB/s\tCPU-s per M records\tpeak memory\tlongest pause of reading") //nolint:errcheck // Flush tells
	for _, r := range rows {
		m := median(r.results)
		fmt.Fprintf(w, "%d B\t%s\t%s\t%.0f\t%.0f\t%.2f\t%d MiB\t%d ms\n", //nolint:errcheck // Flush tells
			m.bytes/int64(m.records), r.sink, r.delivery,
			m.rate(), m.rate()*float64(m.bytes)/float64(m.records)/1e6, m.cpuPerMillion(), m.peak>>20, m.pause.Milliseconds())
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for i := 0; i+1 < len(rows); i += 2 {
		eo, alo := median(rows[i].results), median(rows[i+1].results)
		fmt.Fprintf(&text, "%s → %s: exactly-once takes %.2f of at-least-once's CPU and runs at %.2f of its rate\n", rows[i].size, rows[i].sink,
			eo.cpuPerMillion()/alo.cpuPerMillion(), eo.rate()/alo.rate())
	}
	for _, line := range b.floors {
		text.WriteString(line + "\n")
	}
	_, err := os.Stdout.WriteString(text.String())
	return err
}

func progress(what string) { fmt.Fprintln(os.Stderr, "bench:", what) }
