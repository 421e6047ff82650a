// Package savepoint keeps copies of checkpoints that hold all they need: positions, keyed state, how far the sinks had come, and
// the config. A savepoint is a folder in a checkpoint store, a folder anywhere else, or one tar file. Nothing but a person deletes it.
package savepoint

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

// The objects of a savepoint. The index stands in the savepoint's folder and is created last, so that a savepoint is there whole or
// not at all; the others stand in a folder below that the index names.
const (
	indexName    = "index"
	manifestName = "manifest"
	configName   = "config"
)

const kindIndex = "savepoint"

// Index says what a savepoint is and lists every other object of it.
type Index struct {
	Folder     string            `json:"folder"`  // of the objects
	Made       int64             `json:"made"`    // milliseconds since 1970, for people
	By         string            `json:"by"`      // who made it
	Reason     string            `json:"reason"`  // may be empty
	Version    string            `json:"version"` // of ingestd
	StoreID    string            `json:"store_id"`
	Pipeline   string            `json:"pipeline_id"`
	Lease      record.Lease      `json:"lease"`
	Checkpoint record.Checkpoint `json:"checkpoint"`
	Log        checkpoint.Seq    `json:"log"`     // number of the manifest in the log that it was made from
	Objects    []Object          `json:"objects"` // sorted by name
}

// Object is one object of a savepoint. Objects of keyed state have the names that the manifest gives them.
type Object struct {
	Name     string `json:"name"`
	Bytes    int64  `json:"bytes"`
	Checksum string `json:"sha256"` // hexadecimal
}

// Bytes returns the size of all objects but the index.
func (x *Index) Bytes() int64 {
	var sum int64
	for i := range x.Objects {
		sum += x.Objects[i].Bytes
	}
	return sum
}

func (x *Index) check() error {
	if strings.Contains(x.Folder, "/") || x.Folder == indexName {
		return fmt.Errorf("folder %q", x.Folder)
	}
	for i := range x.Objects {
		o := &x.Objects[i]
		if err := checkpoint.CheckName(x.Folder + "/" + o.Name); err != nil {
			return fmt.Errorf("objects[%d]: %w", i, err)
		}
		if sum, err := hex.DecodeString(o.Checksum); err != nil || len(sum) != sha256.Size || o.Bytes < 0 {
			return fmt.Errorf("objects[%d] %q: %d bytes with the checksum %q", i, o.Name, o.Bytes, o.Checksum)
		}
		if i > 0 && x.Objects[i-1].Name >= o.Name {
			return fmt.Errorf("objects[%d]: %q stands behind %q, want sorted and unique", i, o.Name, x.Objects[i-1].Name)
		}
	}
	return nil
}

func (x *Index) find(name string) (Object, bool) {
	i, ok := slices.BinarySearchFunc(x.Objects, name, func(o Object, name string) int { return strings.Compare(o.Name, name) })
	if !ok {
		return Object{}, false
	}
	return x.Objects[i], true
}

// Folder is where a savepoint lies.
type Folder interface {
	// Get returns a whole object by its name below the folder, or an error that is [checkpoint.ErrNotExist]. It returns an error
	// instead of more than limit bytes. The result belongs to the caller.
	Get(ctx context.Context, name string, limit int64) ([]byte, error)
}

// Savepoint is a savepoint that can be read. Its index and its manifest are checked.
type Savepoint struct {
	Index
	Manifest checkpoint.Manifest // with nothing pending
	Config   string              // of the pipeline, without secrets, for people

	folder Folder
}

// Open reads what a savepoint is. Error kinds: fault.Misconfigured when there is none or when a newer version wrote it, fault.Lost for
// an object that is missing, fault.Corrupt for one that fails its check, else the folder's own.
func Open(ctx context.Context, folder Folder) (*Savepoint, error) {
	const op = "savepoint.Open"
	data, err := folder.Get(ctx, indexName, checkpoint.ObjectBytesMax)
	if errors.Is(err, checkpoint.ErrNotExist) {
		return nil, fault.E(op, fault.Misconfigured, errors.New("there is no savepoint: no index is here"))
	}
	if err != nil {
		return nil, fault.E(op, fault.KindOf(err), fmt.Errorf("index: %w", err))
	}
	s := &Savepoint{folder: folder}
	if err := checkpoint.DecodeObject(kindIndex, data, &s.Index); err != nil {
		return nil, fault.E(op, fault.KindOf(err), fmt.Errorf("index: %w", err))
	}
	if err := s.check(); err != nil {
		return nil, fault.E(op, fault.Corrupt, fmt.Errorf("index: %w", err))
	}
	if err := s.readManifest(ctx); err != nil {
		return nil, err
	}
	config, err := s.Get(ctx, configName)
	s.Config = string(config)
	return s, err
}

func (s *Savepoint) readManifest(ctx context.Context) error {
	const op = "savepoint.Open"
	data, err := s.Get(ctx, manifestName)
	if err != nil {
		return err
	}
	entry, err := checkpoint.Decode(data)
	switch {
	case err != nil:
		return fault.E(op, fault.KindOf(err), fmt.Errorf("manifest: %w", err))
	case entry.Manifest == nil:
		return fault.E(op, fault.Corrupt, errors.New("manifest: it is a claim"))
	}
	s.Manifest = *entry.Manifest
	if err := s.fits(); err != nil {
		return fault.E(op, fault.Corrupt, err)
	}
	return nil
}

// fits checks manifest and index against each other.
func (s *Savepoint) fits() error {
	m := &s.Manifest
	if m.StoreID != s.StoreID || m.Pipeline != s.Pipeline || m.Lease != s.Lease || m.Checkpoint != s.Checkpoint {
		return errors.New("the manifest is of another checkpoint than the index says")
	}
	if err := nothingPending(m); err != nil {
		return err
	}
	named := 2
	for _, name := range stateObjects(m) {
		if _, ok := s.find(name); !ok {
			return fmt.Errorf("the manifest names %q, which the index does not list", name)
		}
		named++
	}
	if named != len(s.Objects) {
		return fmt.Errorf("the index lists %d objects, the manifest names %d", len(s.Objects), named)
	}
	return nil
}

func nothingPending(m *checkpoint.Manifest) error {
	for _, st := range m.Sinks {
		if n := len(st.Pending); n > 0 {
			return fmt.Errorf("%d committables of sink %q are pending", n, st.Name)
		}
	}
	return nil
}

func stateObjects(m *checkpoint.Manifest) []string {
	if k := m.State(); k != nil {
		return k.Objects
	}
	return nil
}

// Get returns the bytes of an object, checked. Error kinds: fault.Lost when it is missing, fault.Corrupt when its bytes are others or
// the index has no such object, else the folder's own.
func (s *Savepoint) Get(ctx context.Context, name string) ([]byte, error) {
	const op = "savepoint.Get"
	o, ok := s.find(name)
	if !ok {
		return nil, fault.E(op, fault.Corrupt, fmt.Errorf("the index lists no object %q", name))
	}
	data, err := s.folder.Get(ctx, s.Folder+"/"+name, o.Bytes)
	switch {
	case errors.Is(err, checkpoint.ErrNotExist):
		return nil, fault.E(op, fault.Lost, fmt.Errorf("object %q is missing", name))
	case err != nil:
		return nil, fault.E(op, fault.KindOf(err), fmt.Errorf("object %q: %w", name, err))
	case int64(len(data)) != o.Bytes:
		return nil, fault.E(op, fault.Corrupt, fmt.Errorf("object %q has %d bytes, want %d", name, len(data), o.Bytes))
	}
	if sum := sum(data); sum != o.Checksum {
		return nil, fault.E(op, fault.Corrupt, fmt.Errorf("object %q has the checksum %s, want %s", name, sum, o.Checksum))
	}
	return data, nil
}

// Verify reads every object and checks it. It goes on after an object that fails, and returns all that do.
func (s *Savepoint) Verify(ctx context.Context) error {
	var errs []error
	for _, o := range s.Objects {
		if _, err := s.Get(ctx, o.Name); err != nil {
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

func sum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// CheckName reports, as fault.Misconfigured, why a savepoint can't have a name: names are 1 to 100 bytes of [a-zA-Z0-9._-], begin
// with a letter or digit, and do not end in .tar, as files do.
func CheckName(name string) error {
	const most = 100
	err := checkpoint.CheckName(name)
	if err != nil || len(name) > most || strings.Contains(name, "/") || strings.IndexByte("._-", name[0]) >= 0 || strings.HasSuffix(name, ".tar") {
		return fault.E("savepoint.CheckName", fault.Misconfigured,
			fmt.Errorf("%q can't be a savepoint's name: want 1 to %d of [a-zA-Z0-9._-], a letter or digit first, and no .tar at the end", name, most))
	}
	return nil
}
