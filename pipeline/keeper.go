package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/inject"
	"github.com/ingestd/ingestd/internal/invariant"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/state"
	"github.com/ingestd/ingestd/state/local"
	"github.com/ingestd/ingestd/step"
)

// StateDisk opens the local databases of pipelines with keyed steps. What they hold is a cache (I8).
type StateDisk interface {
	// Open opens a pipeline's database, or makes an empty one, with so many bytes of memory for it.
	Open(pipeline string, memory int64, log *slog.Logger) (*local.DB, error)
	// Wipe empties a pipeline's database, which is closed.
	Wipe(pipeline string) error
}

// keptState is what a manifest holds of keyed state, as checkpoint.KeyedState.Data.
type keptState struct {
	State local.State      `json:"state"`
	Slots []state.Slot     `json:"slots"`
	Times []step.SplitTime `json:"times,omitempty"` // sorted by split
}

// keptVersion is the version of [keptState].
const keptVersion = 1

func readKept(k *checkpoint.KeyedState) (keptState, error) {
	var kept keptState
	if k == nil {
		return kept, nil
	}
	if k.Version != keptVersion {
		return kept, fault.WithRemedy("pipeline.state", fault.Misconfigured, fmt.Errorf("the keyed state in the manifest has version %d, this build knows %d", k.Version, keptVersion),
			"run the version of ingestd that wrote it, or a later one")
	}
	if err := json.Unmarshal(k.Data, &kept); err != nil {
		return kept, fault.E("pipeline.state", fault.Corrupt, fmt.Errorf("the keyed state in the manifest: %w", err))
	}
	return kept, nil
}

// keeper owns a run's keyed state outside of its tasks: it stores what they change with each checkpoint, applies it to the local
// database after the manifest is published, and makes bases. All of it but prepared bases belongs to its one goroutine.
type keeper struct {
	db       *local.DB
	objects  *checkpoint.StateObjects
	log      *slog.Logger
	prefix   string // of the objects of this run
	groups   int
	registry *state.Registry
	applied  func(task int, f *state.Frozen)
	discards *discards // nil: none

	kept      keptState // after the newest prepared checkpoint
	published local.State
	expired   func(key, value []byte) bool // what need not be copied to a base, as of published
	watermark int64
	waiting   []prepared // not applied, in order
	exports   int
	exporting bool
	exported  chan *local.Base // nil: the export failed
	retryAt   time.Time        // not before is another export tried
	bases     []local.Base     // that no manifest names yet
}

// prepared is one checkpoint's changes on their way to the local database.
type prepared struct {
	checkpoint record.Checkpoint
	step       local.Step
	state      local.State
	delta      []byte // encoded; nil when nothing was changed
	frozen     []*state.Frozen
	expired    func(key, value []byte) bool
	published  bool
}

// restore brings the local database to what a manifest says, and makes the registry of the states that steps want now.
func (k *keeper) restore(ctx context.Context, from *checkpoint.KeyedState, plan *keyedPlan, progress func(text string)) error {
	var err error
	if k.kept, err = readKept(from); err != nil {
		return err
	}
	if k.watermark = state.NoTime; from != nil {
		k.watermark = from.Watermark
	}
	if k.registry, err = state.NewRegistry(k.kept.Slots, plan.wanted(k.discards.now(k.kept.Slots, k.log))); err != nil {
		return err
	}
	k.published = k.kept.State
	return k.db.Restore(ctx, k.kept.State, local.RestoreOptions{
		Objects: k.objects,
		Progress: func(p local.Progress) {
			progress(fmt.Sprintf("restore keyed state: %d of %d MiB of the base, %d of %d deltas", p.BaseBytes>>20, p.BaseTotal>>20, p.Deltas, p.DeltaTotal))
		},
	})
}

// prepare stores what the tasks changed. It returns nil when nothing is to be told: no key changed, and no event time.
func (k *keeper) prepare(ctx context.Context, c record.Checkpoint, parts []part) (*checkpoint.KeyedState, error) {
	p := prepared{checkpoint: c, state: k.kept.State}
	var deltas []state.Delta
	watermark := int64(0)
	next := keptState{Slots: k.registry.Slots()}
	for i := range parts {
		next.Times = append(next.Times, parts[i].times...)
		f := parts[i].frozen
		if f == nil {
			continue
		}
		if watermark = parts[i].watermark; len(p.frozen) > 0 {
			watermark = min(watermark, parts[i].watermark)
		}
		p.frozen, p.expired = append(p.frozen, f), parts[i].expired // all tasks say the same
		if !f.Empty() {
			deltas = append(deltas, f.Delta())
		}
	}
	slices.SortFunc(next.Times, func(a, b step.SplitTime) int { return strings.Compare(a.Split, b.Split) })
	if len(deltas) == 0 && slices.Equal(next.Times, k.kept.Times) && slices.Equal(next.Slots, k.kept.Slots) {
		k.waiting = append(k.waiting, p)
		return nil, k.apply(ctx)
	}
	if len(deltas) > 0 {
		if err := k.store(ctx, &p, deltas); err != nil {
			return nil, err
		}
	}
	k.takeBases(&p)
	next.State = p.state
	k.kept, k.watermark = next, watermark
	k.waiting = append(k.waiting, p)
	return k.describe()
}

// store puts the changes into the checkpoint store as one object.
func (k *keeper) store(ctx context.Context, p *prepared, deltas []state.Delta) error {
	var err error
	if p.delta, err = state.EncodeDelta(nil, deltas...); err != nil {
		return err
	}
	before := k.kept.State
	ref := local.Ref{
		Seq: before.Seq + 1, Chain: state.NextChain(before.Chain, before.Seq+1, p.delta),
		Object: fmt.Sprintf("%sd%016d", k.prefix, before.Seq+1), Bytes: int64(len(p.delta)), Checksum: sha256.Sum256(p.delta),
	}
	if err := k.objects.Put(ctx, ref.Object, p.delta); err != nil {
		return err
	}
	p.step = local.Step{Seq: ref.Seq, Chain: ref.Chain, Prev: before.Chain}
	p.state = before.WithDelta(ref)
	return nil
}

// takeBases adds the bases that were made meanwhile. One that shows more than the checkpoint waits for the next.
func (k *keeper) takeBases(p *prepared) {
	for {
		select {
		case b := <-k.exported:
			k.exporting = false
			if b != nil {
				k.bases = append(k.bases, *b)
			}
			continue
		default:
		}
		break
	}
	for len(k.bases) > 0 {
		with, err := p.state.WithBase(k.bases[0])
		if err != nil {
			return
		}
		p.state, k.bases = with, k.bases[1:]
	}
}

func (k *keeper) describe() (*checkpoint.KeyedState, error) {
	data, err := json.Marshal(k.kept)
	if err != nil {
		return nil, fault.E("pipeline.state", fault.Corrupt, err)
	}
	out := &checkpoint.KeyedState{Groups: k.groups, Watermark: k.watermark, Version: keptVersion, Data: data}
	k.kept.State.Objects(func(name string) { out.Objects = append(out.Objects, name) })
	slices.Sort(out.Objects)
	out.Objects = slices.Compact(out.Objects)
	return out, nil
}

// changed is the memory of what the tasks changed and did not forget, as of their barrier.
func (k *keeper) changed(parts []part) int64 {
	var n int64
	for i := range parts {
		n += parts[i].changed
	}
	return n
}

// eventTime is the watermark as a time, zero when it is not known.
func (k *keeper) eventTime() time.Time {
	if k.watermark == state.NoTime {
		return time.Time{}
	}
	return time.UnixMilli(k.watermark)
}

// publish notes that a checkpoint's manifest is there, and applies what can be.
func (k *keeper) publish(ctx context.Context, c record.Checkpoint) error {
	for i := range k.waiting {
		if w := &k.waiting[i]; w.checkpoint <= c {
			w.published = true
		}
	}
	return k.apply(ctx)
}

// apply brings published changes into the local database, in order, and lets the tasks forget them. A checkpoint without changes
// needs no manifest.
func (k *keeper) apply(ctx context.Context) error {
	for len(k.waiting) > 0 {
		p := &k.waiting[0]
		if p.delta != nil && !p.published {
			return nil
		}
		if p.delta != nil {
			if err := k.write(ctx, p); err != nil {
				return err
			}
		}
		if p.published {
			k.published, k.expired = p.state, p.expired
		}
		for task, f := range p.frozen {
			k.applied(task, f)
		}
		k.waiting = k.waiting[1:]
	}
	return nil
}

func (k *keeper) write(ctx context.Context, p *prepared) error {
	invariant.Check("I8", p.published, "a delta is applied before its manifest is published", p.checkpoint)
	inject.Point(inject.BeforeApply)
	delta, err := state.DecodeDelta(p.delta)
	if err != nil {
		return err
	}
	return k.db.Apply(ctx, p.step, delta)
}

// baseIfDue begins to make a base when the deltas since the last one have become many. The result waits in exported.
func (k *keeper) baseIfDue(ctx context.Context, now time.Time, limits local.Limits, goOn func(func())) {
	if k.exporting || len(k.bases) > 0 || now.Before(k.retryAt) || !local.Due(k.published, now, limits) {
		return
	}
	k.exporting, k.exports, k.retryAt = true, k.exports+1, now.Add(exportRetry)
	options := local.ExportOptions{Objects: k.objects, Prefix: fmt.Sprintf("%sb%06d-", k.prefix, k.exports), State: k.published, Now: now, Expired: k.expired}
	goOn(func() {
		done, err := k.db.Export(ctx, options)
		if err != nil {
			if ctx.Err() == nil {
				k.log.Warn("a base of keyed state could not be made; it is tried again", slog.String("error", err.Error()))
			}
			k.exported <- nil
			return
		}
		k.log.Debug("a base of keyed state is made", slog.Int64("bytes", done.WrittenBytes), slog.Int64("reused_bytes", done.ReusedBytes))
		k.exported <- &done.Base
	})
}

// exportRetry is the least time between the beginnings of two exports.
const exportRetry = time.Second

// openState opens the local database; what can't be opened is emptied, and restored from the store.
func openState(disk StateDisk, pipeline string, memory int64, log *slog.Logger) (*local.DB, error) {
	db, err := disk.Open(pipeline, memory, log)
	if !errors.Is(err, local.ErrPoisoned) {
		return db, err
	}
	log.Warn("local keyed state is thrown away, and is restored from the checkpoint store", slog.String("error", err.Error()))
	if err := disk.Wipe(pipeline); err != nil {
		return nil, err
	}
	return disk.Open(pipeline, memory, log)
}
