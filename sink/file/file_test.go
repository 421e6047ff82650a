package file

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// process is one run of a sink in a test that plays the coordinator by hand.
type process struct {
	t       *testing.T
	disk    disk
	sink    *Sink
	commits *Committer
	writers map[int]sink.Writer
	lease   record.Lease
	number  record.Checkpoint
	time    int64
	offset  int64
}

func plugin(t *testing.T, d disk, settings Settings) *Plugin {
	t.Helper()
	settings.Path = "memory"
	p, err := New(settings)
	if err != nil {
		t.Fatal(err)
	}
	p.disk = d
	return p
}

func identityOf(store string) sink.Identity {
	return sink.Identity{StoreID: store, Pipeline: "orders", Lane: 0, Sink: "sink"}
}

// begin opens a sink without restoring it.
func begin(t *testing.T, d disk, settings Settings, lease record.Lease, tasks int) *process {
	t.Helper()
	s, err := plugin(t, d, settings).Open(t.Context(), sink.Env{Identity: identityOf("store"), Lease: lease, Tasks: tasks})
	if err != nil {
		t.Fatal(err)
	}
	opened, ok := s.(*Sink)
	if !ok {
		t.Fatalf("got %T", s)
	}
	return &process{t: t, disk: d, sink: opened, lease: lease, time: 1_700_000_000_000, writers: map[int]sink.Writer{}}
}

// start opens, restores and fences.
func start(t *testing.T, d disk, settings Settings, lease record.Lease, from sink.Assembled) *process {
	t.Helper()
	p := begin(t, d, settings, lease, 2)
	if err := p.sink.Restore(t.Context(), from.State, from.Committables); err != nil {
		t.Fatal(err)
	}
	p.commits = &Committer{sink: p.sink}
	if err := p.commits.Fence(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

func rows(from, n int64) *record.Batch {
	b := record.NewBatch(&record.Schema{Fields: []record.Field{{Name: "n", Type: record.Type{Kind: record.Int64}}}})
	for i := range n {
		b.Cols[0].AppendInt(from + i)
		b.AppendMeta(record.RowMeta{Offset: record.Offset(from + i), Timestamp: -1})
	}
	return b
}

func (p *process) write(task int, n int64) {
	p.t.Helper()
	if p.writers[task] == nil {
		w, err := p.sink.Writer(p.t.Context(), task, rows(0, 0).Schema)
		if err != nil {
			p.t.Fatal(err)
		}
		p.writers[task] = w
	}
	if refused, err := p.writers[task].Write(p.t.Context(), rows(p.offset, n)); err != nil || len(refused) > 0 {
		p.t.Fatalf("%v, %v", refused, err)
	}
	p.offset += n
}

func (p *process) cut(after time.Duration, final bool) sink.Assembled {
	p.t.Helper()
	p.number++
	p.time += after.Milliseconds()
	c := sink.Cut{Lease: p.lease, Checkpoint: p.number, Time: p.time, Final: final}
	var parts []sink.Part
	for task := range p.sink.env.Tasks {
		if w := p.writers[task]; w != nil {
			part, err := w.Prepare(p.t.Context(), c)
			if err != nil {
				p.t.Fatal(err)
			}
			parts = append(parts, part)
		}
	}
	a, err := p.sink.Assemble(c, parts)
	if err != nil {
		p.t.Fatal(err)
	}
	return a
}

func (p *process) commit(c sink.Committable) {
	p.t.Helper()
	if outcome, _, err := p.commits.Commit(p.t.Context(), c); outcome != sink.Committed {
		p.t.Fatalf("got %s, %v, want committed", outcome, err)
	}
}

func (p *process) want(c sink.Committable, outcome sink.Outcome, kind fault.Kind) {
	p.t.Helper()
	got, _, err := p.commits.Commit(p.t.Context(), c)
	if got != outcome || err == nil || fault.KindOf(err) != kind {
		p.t.Fatalf("got %s, %v, want %s of kind %s", got, err, outcome, kind)
	}
}

func list(t *testing.T, d disk, dir string) []string {
	t.Helper()
	names, err := d.List(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return slices.DeleteFunc(names, func(name string) bool { return dir == "." && (name[0] == '.' || name[0] == '_') })
}

func content1(t *testing.T, d disk, name string) string {
	t.Helper()
	data, err := readFile(d, name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func progressOf(p *process) string { return p.sink.layout.progress() }

// A file collects checkpoints until it is old or large enough, whether or not its task still writes, and appears as lines of
// JSON under a name that sorts.
func TestFile_rollsBySizeAgeAndEnd(t *testing.T) {
	settings := Settings{Roll: Roll{Size: 100, Age: time.Minute}}
	p := start(t, newMemDisk(), settings, 3, sink.Assembled{})
	p.write(0, 2)
	if a := p.cut(time.Second, false); len(a.Committables) != 0 {
		t.Fatalf("a small young file is complete: %+v", a.Committables)
	}
	p.write(0, 1)
	p.write(1, 20) // above 100 bytes
	a := p.cut(time.Second, false)
	if len(a.Committables) != 1 || a.Committables[0].Rows != 20 || a.Committables[0].Unit != 0 {
		t.Fatalf("a large file is not complete, or another is: %+v", a.Committables)
	}
	if a := p.cut(58*time.Second, false); len(a.Committables) != 0 {
		t.Fatalf("59 seconds are a minute: %+v", a.Committables)
	}
	old := p.cut(time.Second, false) // idle since, and without a part
	if len(old.Committables) != 1 || old.Committables[0].Rows != 3 {
		t.Fatalf("an old file of an idle task is not complete: %+v", old.Committables)
	}
	p.write(0, 1)
	p.cut(time.Second, false)
	end := p.cut(time.Second, true)
	if len(end.Committables) != 1 || end.Committables[0].Rows != 1 {
		t.Fatalf("the last checkpoint does not complete all: %+v", end.Committables)
	}
	for _, c := range slices.Concat(a.Committables, old.Committables, end.Committables) {
		p.commit(c)
	}
	want := []string{
		"orders.0.sink-0000000003-000000000002-0000000.ndjson",
		"orders.0.sink-0000000003-000000000004-0000000.ndjson",
		"orders.0.sink-0000000003-000000000006-0000000.ndjson",
	}
	if diff := cmp.Diff(want, list(t, p.disk, ".")); diff != "" {
		t.Fatal(diff)
	}
	if got := content1(t, p.disk, want[1]); got != "{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n" {
		t.Fatalf("got %q", got)
	}
}

// What a dead run wrote beyond the recorded length is not copied, and its file is not touched (I9): it stays until a manifest of
// the new run is published, which names it no more.
func TestFile_successorCopiesTheRecordedPrefix(t *testing.T) {
	d, settings := newMemDisk(), Settings{Roll: Roll{Age: time.Hour}}
	old := start(t, d, settings, 1, sink.Assembled{})
	old.write(0, 3)
	old.write(1, 2)
	newest := old.cut(time.Second, false)
	old.write(0, 2)
	old.cut(time.Second, false) // not published: the tail of the file
	theirs := list(t, d, progressOf(old))

	p := start(t, d, settings, 2, newest)
	for _, name := range theirs {
		if !slices.Contains(list(t, d, progressOf(p)), name) {
			t.Fatalf("%s is named by the newest manifest and was removed", name)
		}
	}
	p.offset = 5
	p.write(0, 1)
	p.cut(time.Second, false)
	old.write(0, 4) // the zombie's file is still open
	end := p.cut(time.Second, true)
	for _, c := range end.Committables {
		p.commit(c)
	}
	names := list(t, d, ".")
	if len(names) != 2 {
		t.Fatalf("got %q", names)
	}
	if got := content1(t, d, names[0]); got != "{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n{\"n\":5}\n" {
		t.Fatalf("got %q", got)
	}
	if got := content1(t, d, names[1]); got != "{\"n\":3}\n{\"n\":4}\n" {
		t.Fatalf("got %q", got)
	}
	if left := list(t, d, progressOf(p)); len(left) != 0 {
		t.Fatalf("files that no manifest names any more are left: %q", left)
	}
}

// A run that dies again and again leaves no more copies behind than one.
func TestFile_crashLoopLeavesOneCopy(t *testing.T) {
	d, settings := newMemDisk(), Settings{Roll: Roll{Age: time.Hour}}
	p := start(t, d, settings, 1, sink.Assembled{})
	p.write(0, 3)
	newest := p.cut(time.Second, false)
	for lease := record.Lease(2); lease < 10; lease++ {
		p = start(t, d, settings, lease, newest)
		if names := list(t, d, progressOf(p)); len(names) != 2 {
			t.Fatalf("lease %d: got %q, want the recorded file and its copy", lease, names)
		}
	}
}

// A folder that is not there, or an empty one in its place, is not taken for the target in which everything was done, and is not
// written to.
func TestFile_missingFolderIsLoud(t *testing.T) {
	d := newMemDisk()
	p := start(t, d, everyCheckpoint(), 1, sink.Assembled{})
	p.write(0, 3)
	newest := p.cut(time.Second, false)

	unmounted := newMemDisk()
	q := begin(t, unmounted, everyCheckpoint(), 2, 1)
	err := q.sink.Restore(t.Context(), newest.State, newest.Committables)
	if err == nil || fault.KindOf(err) != fault.Misconfigured || fault.RemedyOf(err) == "" {
		t.Fatalf("got %v", err)
	}
	if names, err := unmounted.List("."); err != nil || len(names) > 0 {
		t.Fatalf("%q were made, %v", names, err)
	}
	start(t, unmounted, everyCheckpoint(), 1, sink.Assembled{}) // somebody else's first start
	q = begin(t, unmounted, everyCheckpoint(), 2, 1)
	if err := q.sink.Restore(t.Context(), newest.State, newest.Committables); err == nil || fault.KindOf(err) != fault.Misconfigured {
		t.Fatalf("another folder is taken: %v", err)
	}
	mounted := p.sink.disk
	p.sink.disk = unmounted // while it runs
	p.want(newest.Committables[0], sink.Unknown, fault.Misconfigured)
	p.sink.disk = newMemDisk()
	p.want(newest.Committables[0], sink.Unknown, fault.Misconfigured)
	p.sink.disk = mounted
	p.commit(newest.Committables[0])
}

// A file in progress that somebody removed is lost, and damaged bytes are never shown.
func TestFile_removedAndDamagedFilesAreNamed(t *testing.T) {
	t.Run("decided and removed", func(t *testing.T) {
		p, a := decided(t)
		remove(t, p)
		p.want(a.Committables[0], sink.Lost, fault.Lost)
	})
	t.Run("decided and damaged", func(t *testing.T) {
		p, a := decided(t)
		damage(t, p)
		q := start(t, p.disk, everyCheckpoint(), 2, a)
		q.want(a.Committables[0], sink.Lost, fault.Corrupt)
	})
	t.Run("decided and cut", func(t *testing.T) {
		p, a := decided(t)
		for _, n := range p.nodes() {
			n.data = n.data[:len(n.data)-1]
		}
		p.want(a.Committables[0], sink.Lost, fault.Corrupt)
	})
	for _, c := range []struct {
		kind  fault.Kind
		spoil func(*testing.T, *process)
	}{{fault.Corrupt, damage}, {fault.Lost, remove}} {
		t.Run("in progress, "+c.kind.String(), func(t *testing.T) {
			p := start(t, newMemDisk(), Settings{}, 1, sink.Assembled{})
			p.write(0, 3)
			a := p.cut(time.Second, false)
			c.spoil(t, p)
			q := begin(t, p.disk, Settings{}, 2, 1)
			if err := q.sink.Restore(t.Context(), a.State, nil); err == nil || fault.KindOf(err) != c.kind {
				t.Fatalf("got %v, want %s", err, c.kind)
			}
		})
	}
}

func decided(t *testing.T) (*process, sink.Assembled) {
	t.Helper()
	p := start(t, newMemDisk(), everyCheckpoint(), 1, sink.Assembled{})
	p.write(0, 3)
	return p, p.cut(time.Second, false)
}

func remove(t *testing.T, p *process) {
	t.Helper()
	for _, name := range list(t, p.disk, progressOf(p)) {
		if err := p.disk.Remove(p.sink.layout.inProgress(name)); err != nil {
			t.Fatal(err)
		}
	}
}

func damage(_ *testing.T, p *process) {
	for _, n := range p.nodes() {
		n.data[1] ^= 1
	}
}

// nodes are the files in progress.
func (p *process) nodes() []*node {
	m, ok := p.disk.(*memDisk)
	if !ok {
		p.t.Fatal("the disk is not in memory")
	}
	var nodes []*node
	for _, name := range list(p.t, p.disk, progressOf(p)) {
		n, err := m.find(p.sink.layout.inProgress(name))
		if err != nil {
			p.t.Fatal(err)
		}
		nodes = append(nodes, n)
	}
	return nodes
}

// A file that is not ours keeps its name and its content.
func TestFile_foreignFileIsNotReplaced(t *testing.T) {
	p, a := decided(t)
	d, err := decode(&a.Committables[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := writeFile(p.disk, d.Final, []byte("not ours\n")); err != nil {
		t.Fatal(err)
	}
	p.want(a.Committables[0], sink.Unknown, fault.Misconfigured)
	if got := content1(t, p.disk, d.Final); got != "not ours\n" {
		t.Fatalf("got %q", got)
	}
	if err := p.disk.Remove(d.Final); err != nil {
		t.Fatal(err)
	}
	p.commit(a.Committables[0])
}

// The ledger stays small, and everything that was ever committed is still known.
func TestFile_ledgerIsShortened(t *testing.T) {
	d := newMemDisk()
	var all []sink.Committable
	var newest sink.Assembled
	for lease := record.Lease(1); lease <= 3; lease++ {
		p := start(t, d, everyCheckpoint(), lease, newest)
		for range 150 {
			p.write(0, 1)
			newest = p.cut(time.Second, false)
			for _, c := range newest.Committables {
				p.commit(c)
				all = append(all, c)
			}
			if n := len(list(t, d, p.sink.layout.committed())); n > shortenAt+2 {
				t.Fatalf("%d entries", n)
			}
		}
		for _, c := range all {
			p.commit(c)
		}
	}
	if n := len(list(t, d, ".")); n != len(all) {
		t.Fatalf("%d files, want %d", n, len(all))
	}
}

// The manifest before the newest of this run has a file in progress that a commit before its manifest took away: the ledger keeps
// its entry as long as a run may restore from there.
func TestFile_ledgerKeepsWhatARestoreMayNeed(t *testing.T) {
	d, settings := newMemDisk(), Settings{Roll: Roll{Size: 60, Age: time.Hour}}
	p := start(t, d, settings, 1, sink.Assembled{})
	p.write(0, 2)
	published := p.cut(time.Second, false)
	p.write(0, 20)
	unpublished := p.cut(time.Second, false)
	p.commit(unpublished.Committables[0]) // at-least-once: the run dies before it publishes
	for lease := record.Lease(2); lease < 4; lease++ {
		q := start(t, d, settings, lease, published)
		q.offset = 100
		for range 2 * shortenAt {
			q.write(1, 20)
			a := q.cutWithoutManifest()
			q.commit(a.Committables[0])
		}
	}
	if got := content1(t, d, list(t, d, ".")[0]); !strings.HasPrefix(got, "{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n") {
		t.Fatalf("the first rows are not there: %q", got)
	}
}

// cutWithoutManifest is what a run's first checkpoint is to the sink until it is published: it is not told of any later.
func (p *process) cutWithoutManifest() sink.Assembled {
	p.t.Helper()
	a := p.cut(time.Second, false)
	p.sink.mu.assembled = 1
	return a
}

// Files of another compression than the configured one are completed, not continued.
func TestFile_compressionMayChange(t *testing.T) {
	d, settings := newMemDisk(), Settings{Roll: Roll{Age: time.Hour}}
	p := start(t, d, settings, 1, sink.Assembled{})
	p.write(0, 3)
	a := p.cut(time.Second, false)
	settings.Compression = compressionGzip
	q := start(t, d, settings, 2, a)
	q.offset = 3
	q.write(0, 2)
	b := q.cut(time.Second, true)
	for _, c := range b.Committables {
		q.commit(c)
	}
	names := list(t, d, ".")
	if len(names) != 2 || !strings.HasSuffix(names[0], "0000000.ndjson") || !strings.HasSuffix(names[1], "0065536.ndjson.gz") {
		t.Fatalf("got %q", names)
	}
	if got := content1(t, d, names[0]); got != "{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n" {
		t.Fatalf("got %q", got)
	}
	if got, err := unpack(names[1], []byte(content1(t, d, names[1]))); err != nil || string(got) != "{\"n\":3}\n{\"n\":4}\n" {
		t.Fatalf("got %q, %v", got, err)
	}
}

// State and committables of a later version are refused, with the way on.
func TestFile_laterVersionsAreRefused(t *testing.T) {
	p, a := decided(t)
	c := a.Committables[0]
	c.Version++
	p.want(c, sink.Lost, fault.Misconfigured)
	q := begin(t, p.disk, everyCheckpoint(), 2, 1)
	later := strings.Replace(string(a.State), `"version":1`, `"version":3`, 1)
	if err := q.sink.Restore(t.Context(), []byte(later), nil); err == nil || fault.KindOf(err) != fault.Misconfigured || fault.RemedyOf(err) == "" {
		t.Fatalf("got %v", err)
	}
	if err := q.sink.Restore(t.Context(), []byte("{"), nil); err == nil || fault.KindOf(err) != fault.Corrupt {
		t.Fatalf("got %v", err)
	}
}

// Two sinks share a folder without knowing of each other.
func TestFile_sinksShareAFolder(t *testing.T) {
	d := newMemDisk()
	for i, name := range []string{"sink", "dead_letter"} {
		id := identityOf("store")
		id.Sink = name
		s, err := plugin(t, d, everyCheckpoint()).Open(t.Context(), sink.Env{Identity: id, Lease: 1, Tasks: 1})
		if err != nil {
			t.Fatal(err)
		}
		opened, ok := s.(*Sink)
		if !ok {
			t.Fatalf("got %T", s)
		}
		p := &process{t: t, disk: d, sink: opened, lease: 1, writers: map[int]sink.Writer{}, commits: &Committer{sink: opened}}
		if err := errors.Join(s.Restore(t.Context(), nil, nil), p.commits.Fence(t.Context())); err != nil {
			t.Fatal(err)
		}
		p.write(0, 1)
		p.commit(p.cut(time.Second, true).Committables[0])
		if n := len(list(t, d, ".")); n != i+1 {
			t.Fatalf("%d files", n)
		}
	}
}

// A restore that fails leaves no copies behind, which would fill the disk when it is tried again.
func TestFile_failedRestoreLeavesNoCopies(t *testing.T) {
	p := start(t, newMemDisk(), Settings{}, 1, sink.Assembled{})
	p.write(0, 3)
	p.write(1, 3)
	a := p.cut(time.Second, false)
	names := list(t, p.disk, progressOf(p))
	nodes := p.nodes()
	nodes[len(nodes)-1].data[0] ^= 1 // the second copy fails
	for range 3 {
		q := begin(t, p.disk, Settings{}, 2, 2)
		if err := q.sink.Restore(t.Context(), a.State, nil); err == nil || fault.KindOf(err) != fault.Corrupt {
			t.Fatalf("got %v", err)
		}
		if diff := cmp.Diff(names, list(t, p.disk, progressOf(p))); diff != "" {
			t.Fatal(diff)
		}
	}
}
