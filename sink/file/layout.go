package file

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// layout is where things lie in the folder. owner is (pipeline, lane, sink) as one name.
//
//	OWNER-LEASE-CHECKPOINT-UNIT.ndjson            complete files
//	_committed/OWNER/LEASE-CHECKPOINT-UNIT        the ledger
//	_committed/OWNER/upto-LEASE-CHECKPOINT        everything below is committed; its entries are gone
//	.ingestd/OWNER/identity                       what folder this is, and whose
//	.ingestd/OWNER/fence/LEASE-NONCE              the mark of a run
//	.ingestd/OWNER/progress/LEASE-NONCE-NUMBER    files in progress
type layout struct {
	owner string
}

const (
	hiddenDir    = ".ingestd"
	committedDir = "_committed"
	uptoPrefix   = "upto-"
	scratch      = ".new" // ends the name of a ledger entry that is being written
)

func newLayout(id sink.Identity) layout {
	return layout{owner: fmt.Sprintf("%s.%d.%s", escape(id.Pipeline), id.Lane, escape(id.Sink))}
}

// escape makes a text part of a file name: nothing but letters, digits, "_" and "-" stays, and no "_" at the beginning, by which
// readers know what they should not read.
func escape(text string) string {
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' && i > 0
		if plain {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

func (l layout) home() string      { return hiddenDir + "/" + l.owner }
func (l layout) identity() string  { return l.home() + "/identity" }
func (l layout) fences() string    { return l.home() + "/fence" }
func (l layout) progress() string  { return l.home() + "/progress" }
func (l layout) committed() string { return committedDir + "/" + l.owner }

func (l layout) inProgress(name string) string { return l.progress() + "/" + name }

// final is the name under which a committable's file appears: it sorts by lease, checkpoint and unit.
func (l layout) final(p place, extension string) string {
	return l.owner + "-" + p.String() + extension
}

// place is the name of a committable of one owner; unit is not part of the order by which the ledger is shortened.
type place struct {
	lease      record.Lease
	checkpoint record.Checkpoint
	unit       record.Unit
}

func placeOf(c *sink.Committable) place { return place{c.Lease, c.Checkpoint, c.Unit} }

// String is the place in names: it sorts as the numbers do.
func (p place) String() string { return fmt.Sprintf("%010d-%012d-%07d", p.lease, p.checkpoint, p.unit) }

// before compares lease and checkpoint.
func (p place) before(q place) bool {
	return p.lease < q.lease || p.lease == q.lease && p.checkpoint < q.checkpoint
}

// parsePlace reads what String made.
func parsePlace(name string) (place, bool) {
	var n [3]uint64
	if !parseNumbers(name, n[:]) {
		return place{}, false
	}
	p := place{record.Lease(n[0]), record.Checkpoint(n[1]), record.Unit(n[2])}
	return p, p.String() == name
}

// parseNumbers reads numbers with "-" between them.
func parseNumbers(text string, numbers []uint64) bool {
	for i := range numbers {
		part, rest, more := strings.Cut(text, "-")
		n, err := strconv.ParseUint(part, 10, 64)
		if err != nil || more == (i == len(numbers)-1) {
			return false
		}
		numbers[i], text = n, rest
	}
	return true
}

func uptoName(p place) string { return fmt.Sprintf("%s%010d-%012d", uptoPrefix, p.lease, p.checkpoint) }

func parseUpto(name string) (place, bool) {
	var n [2]uint64
	text, found := strings.CutPrefix(name, uptoPrefix)
	if !found || !parseNumbers(text, n[:]) {
		return place{}, false
	}
	p := place{lease: record.Lease(n[0]), checkpoint: record.Checkpoint(n[1])}
	return p, uptoName(p) == name
}

func runName(lease record.Lease, nonce string) string { return fmt.Sprintf("%010d-%s", lease, nonce) }

// parseRun reads the lease and the nonce from the name of a mark or of a file in progress.
func parseRun(name string) (lease record.Lease, nonce string, ok bool) {
	number, rest, _ := strings.Cut(name, "-")
	n, err := strconv.ParseUint(number, 10, 64)
	nonce, _, _ = strings.Cut(rest, "-")
	return record.Lease(n), nonce, err == nil && nonce != ""
}
