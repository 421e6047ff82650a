package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/savepoint"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/state"
	"github.com/ingestd/ingestd/state/local"
)

// RestoreRequest says how a pipeline goes on from a savepoint.
type RestoreRequest struct {
	From   *savepoint.Savepoint
	Name   string // what it is called, for the manifest's reason
	Author string
	// AcceptRepeats says that a person knows: rows that were written since the savepoint stay, and are written again.
	AcceptRepeats bool
	// FreshSinks makes a copy beside the original: another pipeline ID, whose targets nobody has written to. NewID is that ID, which
	// the config must have, because the next start goes by the config.
	FreshSinks bool
	NewID      string
	// Maps give splits another name.
	Maps []SplitMap
}

// SplitMap gives splits another name: those of a topic, or the files at or below a path, of the source and of tables.
type SplitMap struct {
	Kind     SplitKind
	From, To string
}

// SplitKind says what a [SplitMap] is about.
type SplitKind string

// The kinds of maps. A topic's splits get the identity of the topic that they are called after now; files keep theirs, which is that of
// their content.
const (
	MapTopic SplitKind = "topic"
	MapPath  SplitKind = "path"
)

// rename returns the name that a split has after the map; ok is false if the map is not about it.
func (m SplitMap) rename(split string) (name string, ok bool) {
	table, split := cutTable(split)
	name, ok = m.renameOwn(split)
	return table + name, ok
}

func (m SplitMap) renameOwn(split string) (name string, ok bool) {
	if m.Kind == MapPath && split == m.From {
		return m.To, true
	}
	rest, ok := strings.CutPrefix(split, strings.TrimSuffix(m.From, "/")+"/")
	return strings.TrimSuffix(m.To, "/") + "/" + rest, ok
}

// Restored is what a restore has done.
type Restored struct {
	Seq     checkpoint.Seq // of the manifest by which the pipeline goes on
	Repeats []Repeat
}

// Repeat is a split of which records are read again that were read before. Unknown says that nothing is known of what was read since.
type Repeat struct {
	Split    string
	From, To record.Offset
	Unknown  bool
}

// String names the repeat in one line.
func (r Repeat) String() string {
	if r.Unknown {
		return fmt.Sprintf("%s from %d on: what the original wrote since is in its own store", r.Split, r.From)
	}
	return fmt.Sprintf("%s from %d to %d: up to %d records", r.Split, r.From, r.To, r.To-r.From)
}

const opRestore = "pipeline.Restore"

// Restore makes a pipeline go on from a savepoint, offline, as by an ordinary takeover: it takes the next lease and publishes, before
// anything is read, a manifest with the savepoint's positions and state, and with the numbers, the pending commits and the sinks' states
// of the newest one. A run of the pipeline that is alive is fenced by that. It changes def so that the next run fits the savepoint.
//
// Error kinds: fault.Misconfigured for everything that a person must decide or mend before, fault.Lost for a target that another store
// owns and for a savepoint with a missing object, fault.Corrupt, fault.Fenced, and those of store, source and sinks. After an error
// that is not Misconfigured the manifest may be published; to call it again is safe.
func Restore(ctx context.Context, def *Definition, env Env, q RestoreRequest) (Restored, error) {
	r := restore{def: def, env: env, q: q, from: &q.From.Manifest}
	if err := r.checkIdentity(); err != nil {
		return Restored{}, err
	}
	if err := r.prepare(ctx); err != nil {
		return Restored{}, err
	}
	if err := r.checkHead(ctx); err != nil { // before a run that is healthy is fenced
		return Restored{}, err
	}
	if err := q.From.Verify(ctx); err != nil {
		return Restored{}, err
	}
	reason := fmt.Sprintf("restored from savepoint %s, checkpoint %d of pipeline %s", q.Name, r.from.Checkpoint, r.from.Pipeline)
	seq, err := edit(ctx, def, env, 0, handmade{q.Author, reason, func(lease record.Lease, seq checkpoint.Seq, head checkpoint.Manifest) (checkpoint.Manifest, bool, error) {
		man, err := r.manifest(ctx, lease, seq, head)
		return man, err == nil, err
	}})
	return Restored{seq, r.repeats}, err
}

// restore is one restore under way.
type restore struct {
	def     *Definition
	env     Env
	q       RestoreRequest
	from    *checkpoint.Manifest
	storeID string
	shards  []checkpoint.Shard // with their names here; state as in the savepoint
	before  map[string]string  // from a split's name here to that in the savepoint
	kept    keptState
	repeats []Repeat
}

// checkIdentity refuses a copy beside its original that would be taken for it.
func (r *restore) checkIdentity() error {
	same := r.from.Pipeline == r.def.ID
	refuse := func(remedy, format string, args ...any) error {
		return fault.WithRemedy(opRestore, fault.Misconfigured, fmt.Errorf(format, args...), remedy)
	}
	switch {
	case r.q.NewID != "" && r.q.NewID != r.def.ID:
		return refuse(fmt.Sprintf("set id = %q in the config, since every later start goes by it; then say the same again", r.q.NewID),
			"the pipeline is to have the ID %q, and the config says %q", r.q.NewID, r.def.ID)
	case same && (r.q.FreshSinks || r.q.NewID != ""):
		return refuse("give the pipeline another id in the config, or leave both flags out", "fresh sinks need a pipeline ID of their own: the savepoint is of %q, too", r.from.Pipeline)
	case !same && (!r.q.FreshSinks || r.q.NewID == ""):
		return refuse(fmt.Sprintf("point the sinks to targets of their own and say --fresh-sinks --id %s; or set id = %q to go on with that pipeline", r.def.ID, r.from.Pipeline),
			"the savepoint is of pipeline %q, and the config is of %q: a copy beside the original", r.from.Pipeline, r.def.ID)
	}
	return nil
}

// prepare opens the store and checks everything that a run checks before it claims, so that no manifest is published with which none
// can start.
func (r *restore) prepare(ctx context.Context) error {
	keyed := r.from.State()
	if keyed != nil && r.def.KeyGroups == 0 {
		r.def.KeyGroups = keyed.Groups
	}
	if keyed != nil && r.def.KeyGroups != keyed.Groups {
		return fault.WithRemedy(opRestore, fault.Misconfigured, fmt.Errorf("the savepoint has %d key groups, the config asks for %d", keyed.Groups, r.def.KeyGroups),
			fmt.Sprintf("set key_groups = %d or leave it out", keyed.Groups))
	}
	var err error
	if r.storeID, _, err = openStore(ctx, r.def, r.env); err != nil {
		return err
	}
	p, err := newPlan(ctx, r.def, r.storeID, nil)
	if err != nil {
		return err
	}
	if err := r.checkTargets(ctx, p.targets); err != nil {
		return err
	}
	if r.kept, err = readKept(keyed); err != nil {
		return err
	}
	if err := r.kept.State.Check(); keyed != nil && err != nil {
		return err
	}
	if p.keyed != nil {
		if _, err := state.NewRegistry(r.kept.Slots, p.keyed.wanted(r.def.DiscardState)); err != nil {
			return err
		}
	}
	return r.renameSplits(ctx)
}

// checkTargets refuses targets that a living original may write to, and fresh ones that either pipeline has written to.
func (r *restore) checkTargets(ctx context.Context, targets []Target) error {
	if !r.q.FreshSinks {
		return refuseForeign(r.def, targets, r.storeID)
	}
	stale := func(name, pipeline string, lease record.Lease) error {
		return fault.WithRemedy(opRestore, fault.Misconfigured, fmt.Errorf("sink %q is not fresh: pipeline %q has written to its target under lease %d", name, pipeline, lease),
			"give it a target that neither has written to")
	}
	if len(targets) > 0 {
		return stale(targets[0].Sink, r.def.ID, targets[0].Lease)
	}
	plugins, names := r.def.sinks()
	for i, p := range plugins {
		in, err := p.Inspect(ctx, sink.Identity{StoreID: r.storeID, Pipeline: r.from.Pipeline, Sink: names[i]})
		if err != nil {
			return fmt.Errorf("sink %q: %w", names[i], err)
		}
		if in.Owner != nil && !in.Untouched {
			return stale(names[i], r.from.Pipeline, in.Owner.Lease)
		}
	}
	return nil
}

// renameSplits gives the splits their names here.
func (r *restore) renameSplits(ctx context.Context) error {
	used := make([]bool, len(r.q.Maps))
	renamed := map[string]string{} // topics only: to the name before
	r.shards, r.before = slices.Clone(r.from.Shards), map[string]string{}
	for i := range r.shards {
		sh := &r.shards[i]
		sh.Splits = slices.Clone(sh.Splits)
		for j := range sh.Splits {
			before := sh.Splits[j].Split
			name, kind := r.rename(before, used)
			if r.before[name] = before; kind == MapTopic {
				renamed[name] = before
			}
			if sh.ID == before {
				sh.ID = name
			}
			sh.Splits[j].Split = name
		}
	}
	for i, ok := range used {
		if m := r.q.Maps[i]; !ok {
			return fault.E(opRestore, fault.Misconfigured, fmt.Errorf("the savepoint has no split of %s %q", m.Kind, m.From))
		}
	}
	for i := range r.kept.Times {
		r.kept.Times[i].Split, _ = r.rename(r.kept.Times[i].Split, used)
	}
	slices.SortFunc(r.shards, func(a, b checkpoint.Shard) int { return strings.Compare(a.ID, b.ID) })
	if len(renamed) == 0 {
		return nil
	}
	return r.identify(ctx, renamed)
}

func (r *restore) rename(split string, used []bool) (string, SplitKind) {
	for i, m := range r.q.Maps {
		if name, ok := m.rename(split); ok {
			used[i] = true
			return name, m.Kind
		}
	}
	return split, ""
}

// identify gives renamed splits the identity of what has that name now.
func (r *restore) identify(ctx context.Context, renamed map[string]string) error {
	found, err := r.def.discover(ctx, nil)
	if err != nil {
		return err
	}
	identities := map[string]string{}
	for _, sp := range found {
		identities[sp.Split] = sp.Identity
	}
	for i := range r.shards {
		for j := range r.shards[i].Splits {
			sp := &r.shards[i].Splits[j]
			before, ok := renamed[sp.Split]
			if !ok {
				continue
			}
			id, ok := identities[sp.Split]
			if !ok && r.def.ownerless(sp.Split) {
				continue
			}
			if !ok {
				return fault.E(opRestore, fault.Misconfigured, fmt.Errorf("split %s was %s in the savepoint, and the source has no such split", sp.Split, before))
			}
			sp.Identity, sp.LeaderEpoch = id, record.NoLeaderEpoch
		}
	}
	return nil
}

// checkHead looks at the newest manifest as it is now.
func (r *restore) checkHead(ctx context.Context) error {
	entries, err := History(ctx, r.def)
	if err != nil {
		return err
	}
	for _, e := range slices.Backward(entries) {
		switch {
		case e.Err != nil:
			return e.Err
		case e.Entry.Manifest != nil:
			return r.judge(e.Seq, *e.Entry.Manifest)
		}
	}
	return r.judge(0, checkpoint.Manifest{})
}

// judge refuses what was not accepted.
func (r *restore) judge(seq checkpoint.Seq, head checkpoint.Manifest) error {
	if r.q.FreshSinks && seq > 0 {
		return fault.WithRemedy(opRestore, fault.Misconfigured, fmt.Errorf("pipeline %q has checkpoints already, up to log number %d: it is no fresh copy", r.def.ID, seq),
			"run it without --from to go on with it, or give another id")
	}
	r.findRepeats(seq, head)
	if len(r.repeats) == 0 || r.q.AcceptRepeats {
		return nil
	}
	var lines []string
	for _, rep := range r.repeats {
		lines = append(lines, "  "+rep.String())
	}
	return fault.WithRemedy(opRestore, fault.Misconfigured,
		fmt.Errorf("records that were read since the savepoint are read again, and what was written of them stays:\n%s\n  %s", strings.Join(lines, "\n"), r.since(head)),
		"--accept-repeats if rows may be there twice; or a copy with targets of its own: --fresh-sinks --id NEW")
}

// findRepeats compares positions. In another store than the savepoint's nothing is known of what came after it.
func (r *restore) findRepeats(seq checkpoint.Seq, head checkpoint.Manifest) {
	r.repeats = nil
	if r.q.FreshSinks {
		return
	}
	now := map[string]record.Offset{}
	for _, p := range head.Positions() {
		now[p.Split] = p.Offset
	}
	unknown := seq == 0 || r.from.StoreID != r.storeID
	for i := range r.shards {
		for _, sp := range r.shards[i].Splits {
			at := max(now[sp.Split], now[r.before[sp.Split]]) // it may have been read under either name since
			switch {
			case unknown && !sp.Finished:
				r.repeats = append(r.repeats, Repeat{Split: sp.Split, From: sp.Offset, Unknown: true})
			case at > sp.Offset:
				r.repeats = append(r.repeats, Repeat{Split: sp.Split, From: sp.Offset, To: at})
			}
		}
	}
}

// since tells how many records the newest checkpoint counts beyond the savepoint.
func (r *restore) since(head checkpoint.Manifest) string {
	var parts []string
	stages := []string{"source"}
	for _, route := range r.def.routes() {
		stages = append(stages, checkpoint.SinkStage+route.Name)
	}
	for _, stage := range stages {
		if n := counted(&head, stage) - counted(r.from, stage); n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", strings.TrimPrefix(stage, checkpoint.SinkStage), n))
		}
	}
	if n := head.Counters.DeadLetters - r.from.Counters.DeadLetters; n > 0 {
		parts = append(parts, fmt.Sprintf("dead letters %d", n))
	}
	if len(parts) == 0 {
		return "how many rows that were is not known here"
	}
	return "counted since then: " + strings.Join(parts, ", ")
}

// counted is how many rows a stage took in; what a sink left to the others does not count there.
func counted(m *checkpoint.Manifest, stage string) int64 {
	var n int64
	for _, list := range [][]checkpoint.StageCount{m.Counters.Earlier, m.Counters.Stages} {
		for _, s := range list {
			switch {
			case s.Stage != stage:
			case strings.HasPrefix(stage, checkpoint.SinkStage):
				n += s.In - s.Filtered
			default:
				n += s.In
			}
		}
	}
	return n
}

// manifest makes the manifest by which the pipeline goes on, under the lease.
func (r *restore) manifest(ctx context.Context, lease record.Lease, seq checkpoint.Seq, head checkpoint.Manifest) (checkpoint.Manifest, error) {
	if err := r.judge(seq, head); err != nil {
		return head, err
	}
	man := head
	if seq == 0 {
		man = checkpoint.Manifest{Counters: r.from.Counters}
	}
	man.ConfigDigest, man.Shards = r.def.Digest, r.shards
	for i := range man.Shards {
		if man.Shards[i].State == nil {
			continue
		}
		st, err := r.copyState(ctx, lease, *man.Shards[i].State)
		if err != nil {
			return man, err
		}
		man.Shards[i].State = &st
	}
	return man, nil
}

// copyState copies the objects of keyed state into the pipeline's folder, under names of the lease.
func (r *restore) copyState(ctx context.Context, lease record.Lease, st checkpoint.KeyedState) (checkpoint.KeyedState, error) {
	objects := checkpoint.NewStateObjects(r.def.Store, r.def.ID)
	names := map[string]string{"": ""}
	for i, name := range st.Objects {
		data, err := r.q.From.Get(ctx, name)
		if err != nil {
			return st, fmt.Errorf("savepoint %s: %w", r.q.Name, err)
		}
		names[name] = fmt.Sprintf("%ss%06d", checkpoint.StatePrefix(r.from.Lane, lease), i)
		if err := objects.Put(ctx, names[name], data); err != nil {
			return st, err
		}
	}
	kept := r.kept
	var err error
	if kept.State, err = renamed(kept.State, names); err != nil {
		return st, err
	}
	if st.Data, err = json.Marshal(kept); err != nil {
		return st, fault.E(opRestore, fault.Corrupt, err)
	}
	st.Objects = nil
	kept.State.Objects(func(name string) { st.Objects = append(st.Objects, name) })
	slices.Sort(st.Objects)
	st.Objects = slices.Compact(st.Objects)
	r.env.Log.Info("keyed state of the savepoint is copied", slog.Int("objects", len(st.Objects)))
	return st, nil
}

// renamed returns a state whose objects have other names.
func renamed(s local.State, names map[string]string) (local.State, error) {
	var missing error
	to := func(name string) string {
		other, ok := names[name]
		if !ok {
			missing = fault.E(opRestore, fault.Corrupt, errors.New("the keyed state refers to an object that its list does not name: "+name))
		}
		return other
	}
	s.Bases, s.Deltas = slices.Clone(s.Bases), slices.Clone(s.Deltas)
	for i := range s.Bases {
		s.Bases[i].Slices = slices.Clone(s.Bases[i].Slices)
		for j := range s.Bases[i].Slices {
			s.Bases[i].Slices[j].Object = to(s.Bases[i].Slices[j].Object)
		}
	}
	for i := range s.Deltas {
		s.Deltas[i].Object = to(s.Deltas[i].Object)
	}
	return s, missing
}
