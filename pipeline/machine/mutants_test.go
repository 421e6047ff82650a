package machine

import (
	"slices"
	"strings"
	"testing"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/sink"
)

// mutant is one deliberate mistake in the protocol. It is made around the machine, by changing what it hears, what it asks for
// or what it remembers, or in the model of a sink: production code has no switch for it. The exploration must find each.
type mutant uint8

const (
	none mutant = iota

	// In the log.
	claimNotListedAgain // a claim counts when its Create succeeded
	claimReadBack       // a claim counts when it is read at the number that List gave before
	leaseNotRaised      // a claim takes the lease that it found
	readBeforeClaim     // the newest manifest is looked for before the claim
	absentIsAborted     // an unknown publish that is not there is given up, and its records are cut again
	existsIsMine        // something at the number of a publish is taken for its manifest
	twoInFlight         // a manifest is sent before the one below is known to be there
	forgetPending       // a manifest lists its own committables only
	forgetSecond        // the same, for the second sink
	positionsFirst      // a manifest lists nothing: positions move before the commits

	// In what is deleted.
	deleteAtFirst    // segments go when the first sink has committed
	oldLogsEarly     // older manifests go before the own first one
	claimsDeleted    // claims go with the manifests
	fencedCleans     // a fenced run removes what it prepared
	sweepBeforeClaim // a new run removes what no manifest lists

	// In keyed state, pins and savepoints.
	appliedFirst       // changes are applied when their manifest is sent
	stateOfBefore      // a manifest keeps the state of the one before
	stateAtOnce        // state goes when the newest manifest does not name it
	stateWithManifest  // all state of a manifest goes with it, also what newer ones name
	sweepKeepsNewest   // a new run leaves only the state that the newest manifest names
	pinnedCollected    // a pinned manifest is collected
	pinnedStateGoes    // the state of a pinned manifest is collected
	pinsForgotten      // a manifest leaves pins out
	saveAtPublish      // a savepoint does not wait for commits
	collectWhileSaving // a savepoint's state may be collected
	rollForgotten      // a savepoint is of a checkpoint that lets sinks hold rows back
	emptyRollSkipped   // a savepoint's checkpoint is skipped when it has nothing to say

	// In commits.
	commitBeforePublish // exactly-once commits what is about to be published
	outOfOrder          // two commits of one sink are under way
	unknownIsDone       // an unknown outcome is taken for Committed
	obeyFenced          // Fenced from a sink ends the run without a look at the log
	fenceBeforeClaim    // sinks are fenced before the claim
	replaceFirst        // a replacement is committed before a manifest names it
	lettersLost         // refused rows are replaced and their dead letters forgotten

	// In sinks.
	keyIsNumber         // a ledger holds the checkpoint without its lease
	newerIsCommitted    // a ledger above the asker's unit is taken for Committed whoever wrote it
	noKill              // clickhouse: running inserts are not killed
	blindRetry          // clickhouse: a retry does not look whether the rows are there
	lookBeforeFence     // clickhouse: a retry looks, then raises the fence
	fenceWithoutAttempt // clickhouse: the fence holds the lease alone
	ledgerBeforeInit    // kafka: the ledger is read before the producer is initialised
	retryInOldEpoch     // kafka: a retry goes on in the epoch of the unknown transaction

	mutants // how many there are, and none
)

// mutateEvent changes what the machine hears.
func (s *step) mutateEvent(ev Event) Event {
	m := s.r.m
	if s.x.mutant == none || s.r.slot == rescuer {
		return ev
	}
	switch got := ev.(type) {
	case Listed:
		if s.x.mutant == readBeforeClaim && got.For == ForClaim && s.r.read == 0 {
			s.r.read = got.Last + 1
		}
	case Got:
		switch {
		case s.x.mutant == readBeforeClaim && got.For == ForRead && got.Seq >= s.r.read:
			got.Entry = checkpoint.Entry{Claim: &checkpoint.Claim{Lease: 1}}
			return got
		case s.x.mutant == absentIsAborted && got.For == ForPublish && !got.Found && m.phase == running:
			m.publish, m.cuts, m.splits = nil, m.cuts[1:], nil
			for _, sh := range m.head.Shards {
				m.splits = append(m.splits, sh.Splits...)
			}
			return TimerFired{Timer{Kind: TimerInterval}}
		}
	case Created:
		if s.x.mutant == existsIsMine && got.For == ForPublish && got.Result == CreateExists {
			got.Result = CreateDone
			return got
		}
	case CommitDone:
		if s.x.mutant == unknownIsDone && got.Outcome == sink.Unknown {
			got.Outcome = sink.Committed
			return got
		}
	case AssembleDone:
		if s.x.mutant == emptyRollSkipped && len(m.cuts) > 0 {
			m.cuts = slices.Clone(m.cuts)
			m.cuts[0].cut.Roll = false
		}
	case Requested:
		if s.x.mutant == rollForgotten && got.Request == RollNow {
			return Requested{CheckpointNow}
		}
	case Deleted, Discovered, Edited, Failed, InputEnded, PartDone, ReplaceDone, SinkFenced, Started, TimerFired:
	}
	return ev
}

// mutateEffects changes what the machine asks for after an event.
func (s *step) mutateEffects(ev Event, effects []Effect) []Effect {
	if s.x.mutant == none || s.r.slot == rescuer {
		return effects
	}
	var out []Effect
	for _, e := range effects {
		out = append(out, s.mutateEffect(ev, e)...)
	}
	m := s.r.m
	switch got := ev.(type) {
	case Started:
		if s.x.mutant == sweepBeforeClaim {
			s.wait(pending{kind: doSweep, unasked: true, seq: 99, id: s.x.collect(Collect{})})
		}
	case CommitDone:
		if s.x.mutant == deleteAtFirst && got.Outcome == sink.Committed && got.Sink == 0 {
			out = append(out, Collect{Segments: m.listedSegments()})
		}
		if s.x.mutant == obeyFenced && got.Outcome == sink.Fenced && m.phase != stopped {
			m.phase = stopped
			return []Effect{Stop{Reason: StoppedFenced}}
		}
	case ReplaceDone:
		if s.x.mutant == replaceFirst {
			s.commitUnasked(got.Sink, got.By)
		}
	case Got:
		if s.x.mutant == fenceBeforeClaim && got.For == ForClaim && got.Found && m.claim.there == 0 {
			for n := range m.sinks {
				s.wait(pending{kind: doFence, unasked: true, sink: uint8(n), seq: checkpoint.Seq(got.Entry.Lease() + 1), id: s.x.committableList(nil)})
			}
		}
	case AssembleDone, Created, Deleted, Discovered, Edited, Failed, InputEnded, Listed, PartDone, Requested, SinkFenced, TimerFired:
	}
	return out
}

func (s *step) commitUnasked(n int, c sink.Committable) {
	s.wait(pending{kind: doCommit, unasked: true, sink: uint8(n), number: c.Checkpoint, id: s.x.committableList([]sink.Committable{c})})
}

// mutateEffect returns what is done in place of one effect.
func (s *step) mutateEffect(ev Event, e Effect) []Effect {
	m := s.r.m
	switch e := e.(type) {
	case List:
		created, isCreated := ev.(Created)
		got, isGot := ev.(Got)
		switch {
		case s.x.mutant == claimNotListedAgain && e.For == ForClaim && isCreated && created.Result == CreateDone:
			s.soon = append(s.soon, Listed{For: ForClaim, Last: created.Seq})
			return nil
		case s.x.mutant == claimReadBack && e.For == ForClaim && isGot && got.Found && got.Seq == m.claim.there:
			s.soon = append(s.soon, Listed{For: ForClaim, Last: m.claim.there})
			return nil
		}
	case Create:
		return s.mutateCreate(e)
	case FenceSink:
		if s.x.mutant == oldLogsEarly && e.Sink == 0 && len(m.kept) > 0 {
			return []Effect{Collect{Manifests: m.kept}, e}
		}
	case Collect:
		if s.x.mutant == claimsDeleted && len(e.Manifests) > 0 {
			e.Manifests = append([]checkpoint.Seq{e.Manifests[0] - 1}, e.Manifests...)
			return []Effect{e}
		}
		return []Effect{s.mutateCollect(e)}
	case Commit:
		if q := m.sinks[e.Sink].queue; s.x.mutant == outOfOrder && len(q) > 1 {
			s.commitUnasked(e.Sink, q[1])
		}
	case Letters:
		if s.x.mutant == lettersLost {
			s.r.letters = 0
		}
	case Stop:
		if s.x.mutant == fencedCleans && e.Reason == StoppedFenced {
			return []Effect{Collect{Segments: m.segments}, e}
		}
	case AddSplits, Assemble, Barrier, Discover, Edit, Get, Published, Replace, Run, SetTimer, Settled, Sweep:
	}
	return []Effect{e}
}

func (s *step) mutateCreate(e Create) []Effect {
	man := e.Entry.Manifest
	if e.For == ForClaim {
		if s.x.mutant == leaseNotRaised && e.Entry.Claim.Lease > 1 {
			c := *e.Entry.Claim
			c.Lease--
			s.r.m.claim.claim = &c
			e.Entry.Claim = &c
		}
		return []Effect{e}
	}
	for i := range man.Sinks {
		own := func(c sink.Committable) bool { return idOf(c) == id{man.Lease, man.Checkpoint} }
		p := &man.Sinks[i].Pending
		switch {
		case s.x.mutant == forgetPending || s.x.mutant == forgetSecond && i == 1:
			*p = slices.DeleteFunc(slices.Clone(*p), func(c sink.Committable) bool { return !own(c) })
		case s.x.mutant == positionsFirst:
			*p = nil
		case s.x.mutant == commitBeforePublish:
			for _, c := range *p {
				if own(c) {
					s.commitUnasked(i, c)
				}
			}
		}
	}
	switch {
	case s.x.mutant == appliedFirst:
		return []Effect{Published{Seq: e.Seq, Manifest: *man}, e}
	case s.x.mutant == stateOfBefore:
		for i := range man.Shards {
			if man.Shards[i].State != nil {
				man.Shards[i].State = s.r.m.head.State()
			}
		}
	case s.x.mutant == pinsForgotten && !s.r.m.cfg.Offline:
		man.Pinned = nil
	}
	if s.x.mutant == twoInFlight {
		s.soon = append(s.soon, Created{For: ForPublish, Seq: e.Seq, Result: CreateDone})
	}
	return []Effect{e}
}

// mutateCollect changes what is deleted.
func (s *step) mutateCollect(e Collect) Collect {
	m := s.r.m
	named := func(seq checkpoint.Seq) []string {
		if id, there := s.log.find(seq); there && s.x.entries[id].Manifest != nil && s.x.entries[id].Manifest.State() != nil {
			return s.x.entries[id].Manifest.State().Objects
		}
		return nil
	}
	e.Manifests, e.State = slices.Clone(e.Manifests), slices.Clone(e.State)
	if s.x.mutant == stateAtOnce {
		for _, o := range m.stateGone {
			e.State = append(e.State, o.name)
		}
	}
	if s.x.mutant == stateWithManifest {
		for _, seq := range e.Manifests {
			e.State = append(e.State, named(seq)...)
		}
	}
	for _, p := range m.head.Pinned {
		if s.x.mutant == pinnedCollected {
			e.Manifests = append(e.Manifests, p.Seq)
		}
		if s.x.mutant != pinnedStateGoes {
			continue
		}
		e.State = append(e.State, slices.DeleteFunc(slices.Clone(p.Objects), func(name string) bool {
			return slices.Contains(m.head.State().Objects, name)
		})...)
	}
	return e
}

// holds reports whether a commit waits for its manifest.
func (x *explorer) holds(s state, slot int, mv move) bool {
	p := x.runs.all[s[4+slot]].pending[mv.at]
	return !x.logs.all[s[0]].decided(x, int(p.sink), unitOf(&x.committables[p.id][0]))
}

// Each mistake must be found, by the check that is named and in a small configuration. The table is what an edit of the protocol
// is measured by: a mutant that nothing catches means that the exploration is blind there. docs/protocol.md shows it.
func TestExplore_findsEveryMutant(t *testing.T) {
	two := exploration{sinks: [2]kind{ledger, ledger}, records: []int{1, 1}, runs: 2, dies: -1, cuts: 2, faults: 1}
	with := func(change func(*exploration)) exploration {
		c := two
		change(&c)
		return c
	}
	sinks := func(a, b kind) exploration { return with(func(c *exploration) { c.sinks = [2]kind{a, b} }) }
	collecting := func(a, b kind, faults int) exploration {
		return with(func(c *exploration) { c.sinks, c.collects, c.keep, c.faults = [2]kind{a, b}, true, 1, faults })
	}
	atLeastOnce := with(func(c *exploration) { c.alo = true })
	idle := with(func(c *exploration) { c.alo, c.idle, c.faults = true, true, 0 })
	refusing := with(func(c *exploration) { c.refuses = 1 })
	keyed := func(change func(*exploration)) exploration {
		return with(func(c *exploration) {
			c.keyed, c.keep, c.faults = true, 2, 0
			change(c)
		})
	}
	keptOne := keyed(func(c *exploration) { c.shared, c.keep = true, 1 })
	pins := keyed(func(c *exploration) {
		c.oneByOne, c.keep, c.runs, c.cuts, c.hands = true, 1, 3, 1, [3]hand{1: pinNewest}
	})
	saves := keyed(func(c *exploration) {
		c.runs, c.keep, c.saves, c.holds, c.sinks = 1, 1, true, true, [2]kind{ledger, file}
	})
	tests := []struct {
		name   string
		mutant mutant
		cfg    exploration
		want   string
	}{
		{"claim counts when its Create succeeded", claimNotListedAgain, collecting(ledger, ledger, 0), "FALSE-STOP: a run stops as corrupt"},
		{"claim counts when it is read back", claimReadBack, collecting(file, file, 1), "rescuer: I6"},
		{"lease is not raised", leaseNotRaised, two, "I4 (asserted)"},
		{"newest manifest read before the claim", readBeforeClaim, two, "FORK (I1)"},
		{"unknown publish: absent = aborted", absentIsAborted, two, "I5"},
		{"unknown publish: something there = published", existsIsMine, two, "FORK (I4)"},
		{"two manifests in flight", twoInFlight, two, "I4"},
		{"pending of before forgotten", forgetPending, two, "I5"},
		{"pending of one sink forgotten", forgetSecond, two, "I5"},
		{"positions before commits", positionsFirst, two, "I3 (asserted)"},
		{"segments deleted when the first sink has committed", deleteAtFirst, collecting(ledger, ledger, 0), "I9"},
		{"old manifests deleted before the own first one", oldLogsEarly, collecting(ledger, ledger, 0), "HEAD (I9)"},
		{"claims deleted", claimsDeleted, collecting(ledger, ledger, 0), "I9"},
		{"fenced run cleans up", fencedCleans, collecting(ledger, ledger, 0), "I9"},
		{"orphans swept before the claim", sweepBeforeClaim, collecting(ledger, ledger, 0), "I9"},
		{"exactly-once: commit before publish", commitBeforePublish, two, "I3"},
		{"two commits of a sink in flight", outOfOrder, two, "rescuer: I6"},
		{"unknown outcome = committed", unknownIsDone, two, "I6"},
		{"Fenced obeyed without a look at the log", obeyFenced, sinks(kafka, ledger), "FALSE-FENCE"},
		{"sinks fenced before the claim", fenceBeforeClaim, two, "FALSE-STOP"},
		{"replacement committed before it is published", replaceFirst, refusing, "I3"},
		{"dead letters of refused rows forgotten", lettersLost, refusing, "I12 (asserted)"},
		{"at-least-once: ledger without the lease", keyIsNumber, idle, "I6"},
		{"at-least-once: newer ledger = committed", newerIsCommitted, atLeastOnce, "I6"},
		{"clickhouse: no KILL", noKill, sinks(clickhouse, ledger), "DUP (I7)"},
		{"clickhouse: blind retry", blindRetry, sinks(clickhouse, ledger), "DUP (I7)"},
		{"clickhouse: look before the fence", lookBeforeFence, sinks(clickhouse, ledger), "DUP (I7)"},
		{"clickhouse: no attempt in the fence", fenceWithoutAttempt, sinks(clickhouse, ledger), "DUP (I7)"},
		{"kafka: ledger read before init", ledgerBeforeInit, sinks(kafka, ledger), "DUP (I7)"},
		{"kafka: retry in the old epoch", retryInOldEpoch, sinks(kafka, ledger), "DUP (I7)"},
	}
	tests = append(tests, []struct {
		name   string
		mutant mutant
		cfg    exploration
		want   string
	}{
		{"changes applied before their manifest is published", appliedFirst, keptOne, "I8"},
		{"a manifest keeps the state of the one before", stateOfBefore, keptOne, "I2"},
		{"state collected when the newest manifest does not name it", stateAtOnce, keyed(func(*exploration) {}), "I9: keyed state is gone"},
		{"state collected with a manifest though a newer names it", stateWithManifest, keptOne, "I9: keyed state is gone"},
		{"orphaned state swept but what the newest manifest names", sweepKeepsNewest, keyed(func(c *exploration) { c.oneByOne = true }), "I9: keyed state is gone"},
		{"pinned manifest collected", pinnedCollected, pins, "I9: a pinned manifest is deleted"},
		{"state of a pinned manifest collected", pinnedStateGoes, pins, "I9: keyed state is gone"},
		{"pins left out of a manifest", pinsForgotten, pins, "I9: a pin is lost"},
		{"savepoint does not wait for commits", saveAtPublish, saves, "SAVEPOINT: it is made"},
		{"savepoint's state may be collected", collectWhileSaving, saves, "SAVEPOINT: keyed state is gone"},
		{"savepoint of a checkpoint at which rows are held back", rollForgotten, saves, "SAVEPOINT: rows are held back"},
		{"savepoint's checkpoint skipped when it is empty", emptyRollSkipped, with(func(c *exploration) {
			*c = saves
			c.runs, c.oneByOne = 2, true
		}), "SAVEPOINT: its checkpoint is skipped"},
	}...)
	if len(tests) != int(mutants)-1 {
		t.Errorf("got %d rows, want one for each of %d mutants", len(tests), mutants-1)
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.cfg.limit = 500_000
			x := newExplorer(test.cfg, test.mutant)
			bad, at := x.explore()
			t.Logf("| %s | %s | %d | %d |", test.name, bad, len(x.trace(at)), x.states.n)
			if !strings.HasPrefix(bad, test.want) {
				t.Errorf("%s: got %q, want %q", test.name, bad, test.want)
			}
		})
	}
}
