// Command statebench measures keyed state on the local disk: updates of a counter through tasks, the pause of a task at a checkpoint,
// the cost of checkpoints and bases, and the time of a restore. Each line is one measurement; all of them together are bounded in
// time.
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/state"
	"github.com/ingestd/ingestd/state/local"
)

const (
	groups        = 256
	checkpointOps = 200_000
)

func main() {
	keys := flag.String("keys", "100000,1000000,10000000", "numbers of keys")
	values := flag.String("values", "16,200", "sizes of values in bytes")
	each := flag.Duration("time", 5*time.Second, "time of each measurement of updates")
	held := flag.Int64("state", 1<<30, "bytes of state for the pause and the restore; 0 leaves them out")
	dir := flag.String("dir", "", "folder to work in; a temporary one")
	flag.Parse()
	if err := run(os.Stdout, *keys, *values, *each, work{dir: *dir, held: *held}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type work struct {
	dir  string
	held int64
	out  io.Writer
}

func run(out io.Writer, keys, values string, each time.Duration, w work) (err error) {
	w.out = out
	if w.dir, err = os.MkdirTemp(w.dir, "bench-state-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(w.dir)) }()
	w.say("%-8s %9s %6s %12s %12s %10s %10s %10s\n", "spread", "keys", "value", "updates/s", "per cpu-s", "delta B/op", "disk B/op", "pause max")
	for size := range strings.SplitSeq(values, ",") {
		for number := range strings.SplitSeq(keys, ",") {
			n, err1 := strconv.Atoi(number)
			bytes, err2 := strconv.Atoi(size)
			if err = errors.Join(err1, err2); err != nil {
				return err
			}
			for _, spread := range []string{"uniform", "zipf"} {
				if err = w.updates(spread, n, bytes, each); err != nil {
					return fmt.Errorf("%s over %d keys of %d bytes: %w", spread, n, bytes, err)
				}
			}
		}
	}
	if err = w.lookups(each); err != nil {
		return fmt.Errorf("look-ups of new keys: %w", err)
	}
	if w.held == 0 {
		return nil
	}
	return w.restore(each)
}

func (w work) say(format string, args ...any) {
	fmt.Fprintf(w.out, format, args...) //nolint:errcheck // a report; nothing depends on it
}

// flow is one pipeline: a task over a database, with its chain of deltas in files.
type flow struct {
	dir   string
	cache *local.Cache
	db    *local.DB
	task  *state.Task
	value state.Value[[]byte]
	state local.State
	files files

	deltaBytes         int64
	pauses, checkpoint []time.Duration
}

func (w work) open(name string) (*flow, error) {
	d := state.Describe("count", "n", state.KindValue, state.Bytes{})
	f, err := w.openWith(name, d)
	if err != nil {
		return nil, err
	}
	f.value, err = state.NewValue(f.task, d, state.Bytes{}, state.TTL{})
	return f, err
}

// openWith opens a flow whose task has one state.
func (w work) openWith(name string, d state.Descriptor) (*flow, error) {
	f := &flow{dir: filepath.Join(w.dir, name), cache: local.NewCache(256 << 20), files: files(filepath.Join(w.dir, name+".objects"))}
	if err := os.MkdirAll(string(f.files), 0o700); err != nil {
		return nil, err
	}
	var err error
	if f.db, err = local.Open(local.Options{Dir: f.dir, Cache: f.cache}); err != nil {
		return nil, err
	}
	if err = f.db.Restore(context.Background(), f.state, local.RestoreOptions{Objects: f.files}); err != nil {
		return nil, err
	}
	registry, err := state.NewRegistry(nil, state.Wanted{States: []state.Descriptor{d}})
	if err != nil {
		return nil, err
	}
	f.task = state.NewTask(state.TaskOptions{Reader: f.db, Registry: registry, Groups: groups, CacheBytes: 128 << 20})
	return f, nil
}

func (f *flow) close() error {
	err := f.db.Close()
	f.cache.Close()
	return errors.Join(err, os.RemoveAll(f.dir), os.RemoveAll(string(f.files)))
}

// update reads a key's value and writes it changed.
func (f *flow) update(key, value []byte) error {
	f.task.For(key, state.GroupOf(key, groups))
	held, _, err := f.value.Get()
	if err != nil {
		return err
	}
	copy(value, held)
	value[0]++
	f.value.Set(value)
	return nil
}

// cut makes a checkpoint. Only Freeze stops the task; a pipeline does the rest beside it.
func (f *flow) cut() error {
	began := time.Now()
	frozen := f.task.Freeze()
	f.pauses = append(f.pauses, time.Since(began))
	delta := frozen.Delta()
	data, err := state.EncodeDelta(nil, delta)
	if err != nil {
		return err
	}
	f.deltaBytes += int64(len(data))
	ref := local.Ref{
		Seq: f.state.Seq + 1, Chain: state.NextChain(f.state.Chain, f.state.Seq+1, data), Object: fmt.Sprint("delta-", f.state.Seq+1),
		Bytes: int64(len(data)), Checksum: sha256.Sum256(data),
	}
	if err = f.files.Put(context.Background(), ref.Object, data); err != nil {
		return err
	}
	step := local.Step{Seq: ref.Seq, Chain: ref.Chain, Prev: f.state.Chain}
	f.state = f.state.WithDelta(ref)
	if err = f.db.Apply(context.Background(), step, delta); err != nil {
		return err
	}
	f.task.Applied(frozen)
	f.checkpoint = append(f.checkpoint, time.Since(began))
	return nil
}

func appendKey(dst []byte, n int) []byte { return fmt.Appendf(dst[:0], "user-%012d", n) }

// fill writes each key once.
func (f *flow) fill(keys, size int) error {
	rng := rand.New(rand.NewPCG(3, 4))
	value := make([]byte, size)
	var key []byte
	for i := range keys {
		for j := range size / 2 {
			value[j] = byte(rng.Uint32()) // half of a value can't be compressed
		}
		key = appendKey(key, i)
		f.task.For(key, state.GroupOf(key, groups))
		f.value.Set(value)
		if i%checkpointOps == checkpointOps-1 {
			if err := f.cut(); err != nil {
				return err
			}
		}
	}
	return f.cut()
}

func (w work) updates(spread string, keys, size int, limit time.Duration) (err error) {
	f, err := w.open("updates")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	if err = f.fill(keys, size); err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(1, 2))
	next := func() int { return rng.IntN(keys) }
	if spread == "zipf" {
		zipf := rand.NewZipf(rng, 1.1, 1, uint64(keys-1))
		next = func() int { return int(zipf.Uint64()) }
	}
	before := f.db.Metrics()
	f.deltaBytes, f.pauses = 0, nil
	began, cpu := time.Now(), cpuTime()
	value := make([]byte, size)
	var key []byte
	n := 0
	for time.Since(began) < limit {
		for range checkpointOps {
			key = appendKey(key, next())
			if err = f.update(key, value); err != nil {
				return err
			}
			n++
		}
		if err = f.cut(); err != nil {
			return err
		}
	}
	took, used := time.Since(began).Seconds(), (cpuTime() - cpu).Seconds()
	after := f.db.Metrics()
	disk := after.FlushedBytes + after.CompactedBytes - before.FlushedBytes - before.CompactedBytes
	w.say("%-8s %9d %6d %12.0f %12.0f %10.1f %10.1f %10s\n", spread, keys, size, float64(n)/took, float64(n)/used,
		float64(f.deltaBytes)/float64(n), float64(disk)/float64(n), slices.Max(f.pauses))
	return nil
}

// lookups asks for keys that were never seen before, as dedup does for every record that it keeps.
func (w work) lookups(limit time.Duration) (err error) {
	d := state.DescribeSeen("once", "keys")
	f, err := w.openWith("seen", d)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	seen, err := state.NewSeen(f.task, d, state.TTL{For: time.Hour})
	if err != nil {
		return err
	}
	f.task.SetTime(1, 1)
	began, cpu := time.Now(), cpuTime()
	var key []byte
	n := 0
	for time.Since(began) < limit {
		for range checkpointOps {
			key = appendKey(key, n)
			f.task.For(key, state.GroupOf(key, groups))
			if again, err := seen.Seen(1); err != nil || again {
				return fmt.Errorf("key %d: seen %t: %w", n, again, err)
			}
			n++
		}
		if err = f.cut(); err != nil {
			return err
		}
	}
	w.say("dedup: %.0f look-ups of new keys/s, %.0f per cpu-s, over %d keys\n", float64(n)/time.Since(began).Seconds(), float64(n)/(cpuTime()-cpu).Seconds(), n)
	return nil
}

// restore fills a state of the size asked for, measures small checkpoints over it, a base, and a restore on an empty disk.
func (w work) restore(limit time.Duration) (err error) {
	const size = 200
	f, err := w.open("large")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	keys := int(w.held / (size + 24))
	began := time.Now()
	if err = f.fill(keys, size); err != nil {
		return err
	}
	w.say("\nstate of %d keys of %d bytes: filled in %s\n", keys, size, time.Since(began).Round(time.Millisecond))
	if err = w.small(f, keys, size, limit); err != nil {
		return err
	}
	for _, name := range []string{"first base", "base after 1 % changed"} {
		if err = w.base(f, name); err != nil {
			return err
		}
		// Changes beside each other: the slices of the other keys stay as they are.
		var key []byte
		value := make([]byte, size)
		for i := range keys / 100 {
			key = appendKey(key, i)
			f.task.For(key, 7)
			f.value.Set(value)
		}
		if err = f.cut(); err != nil {
			return err
		}
	}
	return w.fresh(f)
}

func (w work) small(f *flow, keys, size int, limit time.Duration) error {
	rng := rand.New(rand.NewPCG(5, 6))
	f.pauses, f.checkpoint, f.deltaBytes = nil, nil, 0
	value := make([]byte, size)
	var key []byte
	began := time.Now()
	for time.Since(began) < limit {
		for range 10_000 {
			key = appendKey(key, rng.IntN(keys))
			if err := f.update(key, value); err != nil {
				return err
			}
		}
		if err := f.cut(); err != nil {
			return err
		}
	}
	slices.Sort(f.pauses)
	slices.Sort(f.checkpoint)
	n := len(f.pauses)
	w.say("%d checkpoints of 10,000 updates: pause %s at most, checkpoint %s in the middle, %s at most, %d bytes each\n", n, f.pauses[n-1],
		f.checkpoint[n/2].Round(time.Millisecond), f.checkpoint[n-1].Round(time.Millisecond), f.deltaBytes/int64(n))
	return nil
}

func (w work) base(f *flow, name string) error {
	began := time.Now()
	out, err := f.db.Export(context.Background(), local.ExportOptions{Objects: f.files, State: f.state, Budget: 1, Now: began})
	if err != nil {
		return err
	}
	if f.state, err = f.state.WithBase(out.Base); err != nil {
		return err
	}
	took := time.Since(began)
	w.say("%s: %d slices of %d bytes written, %d of %d bytes named again, in %s (%.0f keys/s)\n", name, out.Written, out.WrittenBytes,
		out.Reused, out.ReusedBytes, took.Round(time.Millisecond), float64(out.Keys)/took.Seconds())
	return nil
}

func (w work) fresh(f *flow) (err error) {
	dir := filepath.Join(w.dir, "fresh")
	var last local.Progress
	began := time.Now()
	for _, what := range []string{"restore on an empty disk", "restore on the same disk"} {
		db, err := local.Open(local.Options{Dir: dir, Cache: f.cache})
		if err != nil {
			return err
		}
		last = local.Progress{}
		err = db.Restore(context.Background(), f.state, local.RestoreOptions{
			Objects: f.files, Progress: func(p local.Progress) { last = p },
		})
		took := time.Since(began)
		w.say("%s: %d bytes of base and %d deltas of %d bytes in %s\n", what, last.BaseBytes, last.Deltas, last.DeltaBytes,
			took.Round(time.Millisecond))
		if err = errors.Join(err, db.Flush(context.Background()), db.Close()); err != nil {
			return err
		}
		began = time.Now()
	}
	return os.RemoveAll(dir)
}

// cpuTime returns what the process has used of all processors.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	runtime.Gosched()
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// files keeps objects in a folder.
type files string

// Put implements local.Sink.
func (f files) Put(_ context.Context, name string, data []byte) error {
	return os.WriteFile(filepath.Join(string(f), name), data, 0o600)
}

// Get implements local.Objects.
func (f files) Get(_ context.Context, name string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(string(f), name))
	if errors.Is(err, os.ErrNotExist) {
		return nil, errors.Join(err, checkpoint.ErrNotExist)
	}
	return data, err
}
