package file

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/ingestd/ingestd/fault"
)

// ledger is what the folder says about the commits of one owner. Commits go strictly one after the other, so everything of a
// checkpoint below one that was committed is done: upto says so for many, in place of their entries.
type ledger struct {
	entries []place
	upto    place // everything with a lower (lease, checkpoint) is done
	stale   []string
	scratch []string // entries that were being written
}

// entry is the content of one: for people, and to find out what became of a file in progress.
type entry struct {
	Format   int    `json:"format"`
	Temp     string `json:"temp"`
	File     string `json:"file"`
	Rows     int64  `json:"rows"`
	Bytes    int64  `json:"bytes"`
	Checksum string `json:"xxh64"`
}

const entryFormat = 1

// readLedger lists the ledger's folder.
func readLedger(d disk, l layout) (ledger, error) {
	names, err := d.List(l.committed())
	if err != nil {
		return ledger{}, err
	}
	var found ledger
	for _, name := range names {
		if p, ok := parsePlace(name); ok {
			found.entries = append(found.entries, p)
			continue
		}
		if p, ok := parseUpto(name); ok {
			if found.upto.before(p) {
				found.upto = p
			}
			found.stale = append(found.stale, name)
			continue
		}
		if strings.HasSuffix(name, scratch) {
			found.scratch = append(found.scratch, name)
		}
	}
	found.stale = slices.DeleteFunc(found.stale, func(name string) bool { return name == uptoName(found.upto) })
	return found, nil
}

func (g *ledger) has(p place) bool { return p.before(g.upto) || slices.Contains(g.entries, p) }

func entryName(l layout, p place) string { return l.committed() + "/" + p.String() }

func readEntry(d disk, l layout, p place) (entry, error) {
	data, err := readFile(d, entryName(l, p))
	if err != nil {
		return entry{}, err
	}
	var e entry
	if err := json.Unmarshal(data, &e); err != nil {
		return entry{}, fault.E("sink/file.Ledger", fault.Corrupt, fmt.Errorf("%s: %w", entryName(l, p), err))
	}
	return e, nil
}

// enter makes an entry durable: whole or not at all.
func (s *Sink) enter(p place, e entry) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	name := entryName(s.layout, p)
	draft := name + "." + runName(s.env.Lease, s.nonce) + scratch
	if err := writeFile(s.disk, draft, append(data, '\n')); err != nil {
		return err
	}
	if err := s.disk.Rename(draft, name); err != nil {
		return err
	}
	return syncName(s.disk, s.layout.committed())
}

// shortenAt is how many entries there are when the ledger is shortened.
const shortenAt = 64

// shorten replaces entries by a mark that says the same: everything of a checkpoint below limit, whose manifests are published,
// so that no manifest in use has a file in progress that these entries are the only trace of.
func (s *Sink) shorten(limit place) error {
	g, err := readLedger(s.disk, s.layout)
	if err != nil {
		return err
	}
	if len(g.entries) < shortenAt || !g.upto.before(limit) {
		return nil
	}
	if err := writeFile(s.disk, s.layout.committed()+"/"+uptoName(limit), nil); err != nil {
		return err
	}
	if err := syncName(s.disk, s.layout.committed()); err != nil {
		return err
	}
	for _, name := range s.replacedBy(limit, g) {
		if err := s.disk.Remove(s.layout.committed() + "/" + name); err != nil && !isGone(err) {
			return err
		}
	}
	return nil
}

// replacedBy returns the names that a new mark makes superfluous, and what earlier runs did not finish writing.
func (s *Sink) replacedBy(limit place, g ledger) []string {
	old := g.stale
	if g.upto != (place{}) {
		old = append(old, uptoName(g.upto))
	}
	for _, p := range g.entries {
		if p.before(limit) {
			old = append(old, p.String())
		}
	}
	for _, name := range g.scratch {
		_, run, _ := strings.Cut(name, ".")
		if lease, _, ok := parseRun(run); ok && lease < s.env.Lease {
			old = append(old, name)
		}
	}
	return old
}
