package machine

import (
	"fmt"
	"slices"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/internal/invariant"
	"github.com/ingestd/ingestd/record"
)

// claimState is the way from the first List to an effective claim and the newest manifest below it.
type claimState struct {
	at      checkpoint.Seq    // the number of the newest attempt, 0 before the first
	claim   *checkpoint.Claim // of that attempt: the same number is always sent the same
	there   checkpoint.Seq    // a number at which a claim of this run is known to be, or 0
	lease   record.Lease      // of that claim
	newer   checkpoint.Seq    // a number at which another run's claim was read, or 0
	attempt int               // failed requests to the store in a row
	reading checkpoint.Seq    // the number that is asked for while reading down
}

func (m *Machine) onListed(ev Listed) {
	if ev.For == ForProbe {
		m.onProbeListed(ev)
		return
	}
	if m.phase != claiming {
		return
	}
	c := &m.claim
	switch {
	case ev.Failed:
		m.backoff(Timer{Kind: TimerStore, For: ForClaim}, &c.attempt)
	case ev.Last == c.there && c.there != 0:
		m.claimed(c.there, c.lease)
	case ev.Last == c.newer && c.newer != 0:
		m.stop(StoppedFenced, "another run took the lane while this one claimed")
	case ev.Last == 0:
		m.createClaim(1, 1)
	default:
		m.emit(Get{For: ForClaim, Seq: ev.Last})
	}
}

func (m *Machine) onGot(ev Got) {
	switch ev.For {
	case ForClaim:
		m.onClaimGot(ev)
	case ForRead:
		m.onReadGot(ev)
	case ForPublish:
		m.onPublishGot(ev)
	case ForProbe:
		m.onProbeGot(ev)
	}
}

// onClaimGot decides by the log's highest entry. A claim counts only if it is the highest in a List that was asked for after it
// was known to be there: else it may have fallen into a number that was published and collected in the meantime (I4). The List
// before this Get does not say that, as the number may have got another entry between the two.
func (m *Machine) onClaimGot(ev Got) {
	if m.phase != claiming {
		return
	}
	e, c := ev.Entry, &m.claim
	switch {
	case ev.Failed:
		m.backoff(Timer{Kind: TimerStore, For: ForClaim}, &c.attempt)
	case !ev.Found: // collected since it was listed
		m.emit(List{For: ForClaim})
	case e.Claim != nil && e.Claim.Nonce == m.cfg.Nonce:
		c.there, c.lease = ev.Seq, e.Claim.Lease
		m.emit(List{For: ForClaim})
	case c.at != 0 && c.at < ev.Seq && (e.Claim != nil || e.Lease() > c.claim.Lease):
		c.newer = ev.Seq
		m.emit(List{For: ForClaim})
	default:
		m.createClaim(ev.Seq+1, e.Lease()+1)
	}
}

func (m *Machine) createClaim(seq checkpoint.Seq, lease record.Lease) {
	if c := &m.claim; c.at != seq {
		c.at, c.claim = seq, &checkpoint.Claim{
			Lease: max(lease, m.cfg.LeaseMin), Nonce: m.cfg.Nonce, StoreID: m.cfg.StoreID, Pipeline: m.cfg.Pipeline, Lane: m.cfg.Lane,
			Who: m.cfg.Who, Time: m.now,
		}
	}
	m.emit(Create{For: ForClaim, Seq: seq, Entry: checkpoint.Entry{Claim: m.claim.claim}})
}

// claimed takes the lease and begins to look for the newest manifest below the claim.
func (m *Machine) claimed(seq checkpoint.Seq, lease record.Lease) {
	m.lease, m.next, m.phase = lease, seq+1, reading
	m.claim.attempt = 0
	m.readDown(seq - 1)
}

func (m *Machine) readDown(seq checkpoint.Seq) {
	m.claim.reading = seq
	if seq > 0 {
		m.emit(Get{For: ForRead, Seq: seq})
		return
	}
	m.takeOver()
}

func (m *Machine) onReadGot(ev Got) {
	if m.phase != reading || ev.Seq != m.claim.reading {
		return
	}
	switch {
	case ev.Failed:
		m.backoff(Timer{Kind: TimerStore, For: ForRead}, &m.claim.attempt)
	case !ev.Found: // between the newest manifest and the claim are only claims, and none of these is ever deleted (I9)
		m.stop(StoppedCorrupt, fmt.Sprintf("log entry %d is missing: it is between the newest manifest and entry %d, which is there", ev.Seq, ev.Seq+1))
	case ev.Entry.Claim != nil: // of a run that died
		m.readDown(ev.Seq - 1)
	default:
		m.adopt(ev.Seq, ev.Entry.Manifest)
	}
}

// adopt makes a published manifest of an earlier run the one to go on from.
func (m *Machine) adopt(seq checkpoint.Seq, man *checkpoint.Manifest) {
	if man.StoreID != m.cfg.StoreID || man.Pipeline != m.cfg.Pipeline {
		m.stop(StoppedMisconfigured, fmt.Sprintf("log entry %d is of pipeline %q in store %s, not of %q in %s: the folder was copied here",
			seq, man.Pipeline, man.StoreID, m.cfg.Pipeline, m.cfg.StoreID))
		return
	}
	invariant.Check("I4", man.Lease < m.lease, "an older manifest has a newer lease", man.Lease, m.place())
	m.head, m.headSeq, m.last = man, seq, man.Checkpoint
	m.kept = append(append([]checkpoint.Seq(nil), man.Kept...), seq)
	for _, sh := range man.Shards {
		m.splits = append(m.splits, sh.Splits...)
	}
	sortSplits(m.splits)
	m.takeOver()
}

// takeOver begins to fence the sinks, or asks for the offline change.
func (m *Machine) takeOver() {
	if m.cfg.Offline {
		m.phase = editing
		m.emit(Edit{Seq: m.headSeq, Head: *m.head})
		return
	}
	if left := Orphans(m.head, m.cfg.Sinks); len(left) > 0 {
		m.phase = stopped
		m.emit(Stop{Reason: StoppedMisconfigured, Text: left[0].Orphaned(), Pending: left})
		return
	}
	for i := range m.sinks {
		m.sinks[i].adopt(m.head)
		for _, c := range m.sinks[i].queue {
			m.noteSegments(c)
		}
	}
	m.phase = fencing
	for i := range m.sinks {
		m.emitFence(i)
	}
}

// Orphans returns the sinks for which a manifest has rows to commit and that are not among the configured ones. Nobody would ever
// commit these rows, so a run refuses to begin.
func Orphans(head *checkpoint.Manifest, configured []string) []PendingSink {
	var left []PendingSink
	for i := range head.Sinks {
		if s := &head.Sinks[i]; s.Unfinished() && !slices.Contains(configured, s.Name) {
			left = append(left, PendingSink{Name: s.Name, Committables: s.Pending, Held: s.Held})
		}
	}
	return left
}

// Orphaned says what is wrong with a sink that left the config too early, and what leads on.
func (p *PendingSink) Orphaned() string {
	rows := p.Held
	for _, c := range p.Committables {
		rows += c.Rows
	}
	return fmt.Sprintf("sink %q is not in the config any more, and %d rows that are decided for it are not known to be committed\n"+
		"  next: put it back and stop the pipeline by SIGTERM, which commits them; or give them up: ingestd checkpoint drop PIPELINE %s", p.Name, rows, p.Name)
}

// retryStore repeats the request that failed.
func (m *Machine) retryStore(p Purpose) {
	switch p {
	case ForClaim:
		m.emit(List{For: ForClaim})
	case ForRead:
		m.emit(Get{For: ForRead, Seq: m.claim.reading})
	case ForPublish:
		m.sendPublish()
	case ForProbe:
		m.emit(List{For: ForProbe})
	}
}

func (m *Machine) onCreated(ev Created) {
	switch ev.For {
	case ForClaim: // whatever the outcome: the log decides whether it counts
		if c := &m.claim; m.phase == claiming && ev.Seq == c.at {
			if ev.Result == CreateDone {
				c.there, c.lease = c.at, c.claim.Lease
			}
			m.emit(List{For: ForClaim})
		}
	case ForPublish:
		m.onPublishCreated(ev)
	case ForRead, ForProbe:
	}
}

// onEdited publishes the change that a person made.
func (m *Machine) onEdited(ev Edited) {
	if m.phase != editing {
		return
	}
	if !ev.OK {
		m.stop(Done, "nothing was changed")
		return
	}
	man := ev.Manifest
	man.Replaced = nil // of the checkpoint before
	man.StoreID, man.Pipeline, man.Lane, man.Lease = m.cfg.StoreID, m.cfg.Pipeline, m.cfg.Lane, m.lease
	m.last++
	man.Checkpoint, man.Time, man.Kept = m.last, m.now, append([]checkpoint.Seq(nil), m.kept...)
	man.Pinned = m.pinned(&man)
	m.freeze(man)
}
