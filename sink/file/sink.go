package file

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/cespare/xxhash/v2"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// Sink is the sink of one run.
type Sink struct {
	settings Settings
	format   format
	disk     disk
	env      sink.Env
	layout   layout
	nonce    string // of this value: names that it makes are nobody else's, also when a lease opens the sink twice

	folder string          // set by Restore
	listed map[string]bool // in-progress files of earlier leases that the restored manifest names

	mu struct {
		sync.Mutex
		slots     []slot     // by task: what its writer may continue
		recorded  []*content // by task: what was assembled last, nil for none
		strangers []content  // restored under another compression or format: complete at the first checkpoint
		numbers   int        // of files made
		assembled int        // checkpoints of this run; the manifests of all but the last are published
	}
}

var _ sink.Sink = (*Sink)(nil)

// content is the recorded part of an in-progress file. The file may be longer: what follows was not recorded and is not there.
type content struct {
	Name        string `json:"name"` // below progress
	Rows        int64  `json:"rows"`
	Length      int64  `json:"length"`
	Checksum    uint64 `json:"checksum"` // XXH64 of the bytes
	Opened      int64  `json:"opened"`   // time of the first cut that recorded it
	Compression string `json:"compression"`
	// What the form of the rows is; all absent for lines of JSON without an encoder.
	Format    string `json:"format,omitempty"`    // tells formats apart, header included
	Extension string `json:"extension,omitempty"` // of the name, without that of the compression
	Headed    bool   `json:"headed,omitempty"`    // it begins with a header
}

// extension returns how the file's name ends, without its compression.
func (c *content) extension() string {
	if c.Extension == "" {
		return defaultExtension
	}
	return c.Extension
}

// slot is a task's current file. While it is taken its writer may append to it, and nothing else may be decided about it.
type slot struct {
	content *content
	digest  *xxhash.Digest // of the content, to go on with
	taken   bool
}

// state is the sink's part of a manifest.
type state struct {
	Version int       `json:"version"`
	Folder  string    `json:"folder"`
	Files   []content `json:"files,omitempty"`
}

// partData is what a task prepared, if it has written.
type partData struct {
	Content  content `json:"content"`
	Complete bool    `json:"complete"` // its writer has let go of it for good
}

const (
	// stateVersion is the version of state and of [decision].
	stateVersion = 1
	// stateFormats is the version of a state in which files have a format: a build that does not know it would go on with them
	// in another one.
	stateFormats = 2
)

func newSink(p *Plugin, env sink.Env, nonce string) *Sink {
	s := &Sink{settings: p.settings, format: p.format, disk: p.disk, env: env, layout: newLayout(env.Identity), nonce: nonce, listed: map[string]bool{}}
	s.mu.slots, s.mu.recorded = make([]slot, env.Tasks), make([]*content, env.Tasks)
	return s
}

// Committer returns the run's committer.
func (s *Sink) Committer() sink.Committer { return &Committer{sink: s} }

// Close releases nothing: writers close their files.
func (s *Sink) Close() error { return nil }

// Restore finds the folder and copies what is recorded of the files in progress to files of this run. Without a state it is the
// first start, and the folder is made if it is missing. Error kinds: Lost for another store ID or a recorded file that is gone,
// Corrupt for one whose bytes are not the recorded ones, Misconfigured for a folder that is missing or another one, Transient.
func (s *Sink) Restore(ctx context.Context, data []byte, pending []sink.Committable) error {
	const op = "sink/file.Restore"
	old, err := readState(op, data)
	if err != nil {
		return err
	}
	if err := s.find(old.Folder); err != nil {
		return fault.E(op, kindOf(err), err)
	}
	for _, f := range old.Files {
		s.listed[f.Name] = true
	}
	for i := range pending {
		if d, err := decode(&pending[i]); err == nil {
			s.listed[d.Temp] = true
		}
	}
	if err := s.adopt(ctx, old.Files); err != nil {
		return fault.E(op, kindOf(err), err)
	}
	return nil
}

// readState reads what a manifest holds of the sink; none is the zero state.
func readState(op fault.Op, data []byte) (state, error) {
	var old state
	if len(data) == 0 {
		return old, nil
	}
	if err := json.Unmarshal(data, &old); err != nil {
		return old, fault.E(op, fault.Corrupt, fmt.Errorf("the state in the manifest: %w", err))
	}
	if old.Version < stateVersion || old.Version > stateFormats {
		return old, fault.WithRemedy(op, fault.Misconfigured, fmt.Errorf("the state in the manifest has version %d, this build knows up to %d", old.Version, stateFormats),
			"run the version of ingestd that wrote it, or a later one")
	}
	return old, nil
}

// find finds the folder that the manifest names, or claims one.
func (s *Sink) find(folder string) error {
	id := s.env.Identity
	if folder == "" {
		wanted := identity{Format: identityFormat, StoreID: id.StoreID, Pipeline: id.Pipeline, Lane: id.Lane, Sink: id.Sink, Folder: s.nonce}
		found, err := claimFolder(s.disk, s.layout, wanted)
		if err == nil && s.env.Adopt && found.StoreID != id.StoreID {
			found, err = wanted, takeFolder(s.disk, s.layout, wanted)
		}
		if err != nil {
			return err
		}
		folder = found.Folder
	}
	s.folder = folder
	return checkFolder(s.disk, s.layout, id, folder)
}

// newName returns the name of a new file in progress.
func (s *Sink) newName() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.numbers++
	return fmt.Sprintf("%s-%06d", runName(s.env.Lease, s.nonce), s.mu.numbers)
}

// take gives a task's file to its writer, nil when it has to make one. From now on the writer's next part tells what becomes of it.
func (s *Sink) take(task int) (*content, *xxhash.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &s.mu.slots[task]
	t.taken = true
	return t.content, t.digest
}

// put gives a prepared file back; nil when it is complete.
func (s *Sink) put(task int, c *content, digest *xxhash.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.slots[task] = slot{content: c, digest: digest}
}

// complete decides whether a file ends at a checkpoint.
func (s *Sink) complete(c *content, cut sink.Cut) bool {
	r := s.settings.Roll
	return cut.Final || cut.Roll || r.EveryCheckpoint || c.Length >= int64(r.Size) || cut.Time-c.Opened >= r.Age.Milliseconds()
}

// Assemble records what was prepared, and makes a committable of each file that is complete: its writer let go of it, or it is
// due and its writer has not gone on with it. It is called when the manifest of the call before is published.
func (s *Sink) Assemble(cut sink.Cut, parts []sink.Part) (sink.Assembled, error) {
	const op = "sink/file.Assemble"
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.assembled++
	complete := make([]bool, len(s.mu.recorded))
	for i := range parts {
		if len(parts[i].Data) == 0 {
			continue
		}
		var d partData
		if err := json.Unmarshal(parts[i].Data, &d); err != nil {
			return sink.Assembled{}, fault.E(op, fault.Corrupt, fmt.Errorf("part of task %d: %w", parts[i].Task, err))
		}
		s.mu.recorded[parts[i].Task], complete[parts[i].Task] = &d.Content, d.Complete
	}
	done := s.mu.strangers
	s.mu.strangers = nil
	next := state{Version: stateVersion, Folder: s.folder}
	for task, c := range s.mu.recorded {
		switch {
		case c == nil:
		case complete[task] || s.complete(c, cut) && s.endLocked(task, c):
			done = append(done, *c)
			s.mu.recorded[task] = nil
		default:
			next.Files = append(next.Files, *c)
			if c.Format != "" {
				next.Version = stateFormats
			}
		}
	}
	return s.assembled(cut, done, next)
}

// endLocked keeps a task's writer from going on with a file, unless it has.
func (s *Sink) endLocked(task int, c *content) bool {
	t := &s.mu.slots[task]
	if t.taken || t.content == nil || *t.content != *c {
		return false
	}
	*t = slot{}
	return true
}

func (s *Sink) assembled(cut sink.Cut, done []content, next state) (sink.Assembled, error) {
	const op = "sink/file.Assemble"
	var a sink.Assembled
	for i := range done {
		c := sink.Committable{
			Lease: cut.Lease, Checkpoint: cut.Checkpoint, Unit: record.Unit(i) * sink.UnitStep,
			Rows: done[i].Rows, Bytes: done[i].Length, Version: stateVersion,
		}
		ending, err := extension(done[i].extension(), done[i].Compression)
		if err != nil {
			return sink.Assembled{}, fault.E(op, fault.Misconfigured, err)
		}
		c.Data, err = json.Marshal(decision{
			Folder: s.folder, Temp: done[i].Name, Final: s.layout.final(placeOf(&c), ending), Length: done[i].Length, Checksum: done[i].Checksum,
		})
		if err != nil {
			return sink.Assembled{}, fault.E(op, fault.Corrupt, err)
		}
		a.Committables = append(a.Committables, c)
	}
	var err error
	if a.State, err = json.Marshal(next); err != nil {
		return sink.Assembled{}, fault.E(op, fault.Corrupt, err)
	}
	return a, nil
}

// hasPublished tells whether a manifest of this run is known to be published.
func (s *Sink) hasPublished() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.assembled > 1
}
