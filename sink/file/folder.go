package file

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

const otherStoreRemedy = "use another path or pipeline id, or the checkpoint store of before"

// identity says what folder this is and who writes to it. It is made once, in one step, and never changes.
type identity struct {
	Format   int         `json:"format"`
	StoreID  string      `json:"store_id"`
	Pipeline string      `json:"pipeline_id"`
	Lane     record.Lane `json:"lane"`
	Sink     string      `json:"sink"`
	Folder   string      `json:"folder"` // random: an empty folder under the same path is another one
}

const identityFormat = 1

// readIdentity returns the identity of an owner's folder, or fs.ErrNotExist.
func readIdentity(d disk, l layout) (identity, error) {
	const op = "sink/file.Identity"
	data, err := readFile(d, l.identity())
	if err != nil {
		return identity{}, err
	}
	var id identity
	if err := json.Unmarshal(data, &id); err != nil {
		return identity{}, fault.E(op, fault.Corrupt, fmt.Errorf("%s: %w", l.identity(), err))
	}
	if id.Format != identityFormat {
		return identity{}, fault.WithRemedy(op, fault.Misconfigured, fmt.Errorf("%s has format %d, this build knows %d", l.identity(), id.Format, identityFormat),
			"run the version of ingestd that wrote it, or a later one")
	}
	return id, nil
}

// claimFolder makes an owner's folder with its identity, unless it is there, and returns the identity that counts. The folder is
// filled under another name and moved: either it is there with its identity, or not at all, also when two runs do this at once.
func claimFolder(d disk, l layout, wanted identity) (identity, error) {
	for _, dir := range []string{".", hiddenDir, committedDir} {
		if err := ensureDir(d, dir); err != nil {
			return identity{}, err
		}
	}
	found, err := readIdentity(d, l)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeFolder(d, l, wanted); err != nil {
			return identity{}, err
		}
		found, err = readIdentity(d, l)
	}
	if err != nil {
		return identity{}, err
	}
	// A run that died before this made it, perhaps not durably.
	return found, errors.Join(syncName(d, hiddenDir), ensureDir(d, l.committed()))
}

func makeFolder(d disk, l layout, wanted identity) error {
	data, err := json.Marshal(wanted)
	if err != nil {
		return err
	}
	draft := hiddenDir + "/new-" + wanted.Folder
	drafted := layout{owner: "new-" + wanted.Folder}
	for _, dir := range []string{draft, drafted.fences(), drafted.progress()} {
		if err := d.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if err := writeFile(d, drafted.identity(), data); err != nil {
		return err
	}
	if err := syncName(d, draft); err != nil {
		return err
	}
	if err := d.Rename(draft, l.home()); err != nil {
		if _, found := readIdentity(d, l); found != nil {
			return err
		}
		return nil // another run was faster, or the reply was lost; a draft that stays is no harm
	}
	return nil
}

// takeFolder makes the folder of another checkpoint store this one's. It gets a new name for itself, so that a manifest of before
// does not take it for its own.
func takeFolder(d disk, l layout, wanted identity) error {
	data, err := json.Marshal(wanted)
	if err != nil {
		return err
	}
	draft := l.identity() + scratch
	if err := writeFile(d, draft, data); err != nil {
		return err
	}
	if err := d.Rename(draft, l.identity()); err != nil {
		return err
	}
	return syncName(d, l.home())
}

// checkFolder demands the folder that the manifest names.
func checkFolder(d disk, l layout, want sink.Identity, folder string) error {
	const op = "sink/file.Folder"
	found, err := readIdentity(d, l)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fault.WithRemedy(op, fault.Misconfigured, fmt.Errorf("the folder that this pipeline wrote to is not there: %s is missing", l.identity()),
			"mount or restore the folder; only if its files are given up, start with a new pipeline id")
	case err != nil:
		return err
	case found.StoreID != want.StoreID:
		return fault.WithRemedy(op, fault.Lost, fmt.Errorf("the folder was written by another checkpoint store, %s; this is %s", found.StoreID, want.StoreID), otherStoreRemedy)
	case found.Folder != folder:
		return fault.WithRemedy(op, fault.Misconfigured, fmt.Errorf("this is another folder than the one that this pipeline wrote to: %s names %s, the manifest %s", l.identity(), found.Folder, folder),
			"mount or restore the folder of before")
	}
	return nil
}

// mark is what fence marks say about a run.
type mark uint8

const (
	unmarked mark = iota
	marked        // by this run
	foreign       // a newer run, or another one under the same lease, has marked the folder
)

// look reads the marks. older are those of earlier leases.
func look(d disk, l layout, lease record.Lease, nonce string) (found mark, by record.Lease, older []string, err error) {
	names, err := d.List(l.fences())
	if err != nil {
		return unmarked, 0, nil, err
	}
	for _, name := range names {
		other, n, ok := parseRun(name)
		switch {
		case !ok:
		case other > lease, other == lease && n != nonce:
			return foreign, other, nil, nil
		case other == lease:
			found = marked
		default:
			older = append(older, l.fences()+"/"+name)
		}
	}
	return found, 0, older, nil
}

// newest returns the highest lease that has a mark, 0 without any.
func newest(d disk, l layout) (record.Lease, error) {
	names, err := d.List(l.fences())
	if err != nil {
		return 0, err
	}
	var highest record.Lease
	for _, name := range names {
		if lease, _, ok := parseRun(name); ok {
			highest = max(highest, lease)
		}
	}
	return highest, nil
}

// raise leaves the run's mark and looks again: of two runs under the same lease at least one sees the other's.
func raise(d disk, l layout, lease record.Lease, nonce string) (found mark, by record.Lease, err error) {
	found, by, _, err = look(d, l, lease, nonce)
	if err != nil || found == foreign {
		return found, by, err
	}
	if found == unmarked {
		if err := writeFile(d, l.fences()+"/"+runName(lease, nonce), nil); err != nil {
			return unmarked, 0, err
		}
	}
	if err := syncName(d, l.fences()); err != nil {
		return unmarked, 0, err
	}
	found, by, older, err := look(d, l, lease, nonce)
	if err != nil || found == foreign {
		return found, by, err
	}
	for _, name := range older {
		if err := d.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return found, 0, err
		}
	}
	return found, 0, nil
}
