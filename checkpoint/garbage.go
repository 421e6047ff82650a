package checkpoint

import (
	"context"
	"slices"
)

// garbageRounds is after how many collections a store that deletes many objects by one request is asked to. What is held back takes
// space in the store, and is in nobody's way.
const garbageRounds = 16

// garbageNamesMax bounds what is remembered when a store lets nothing be deleted. The rest is for the next run's sweep.
const garbageNamesMax = 10_000

// Garbage is what one run has to delete. A store that deletes one object after the other is asked at once; one that has batches
// is asked for several checkpoints together: twice, because manifests go before what they name. What a run that ends leaves behind is
// collected or swept by the next.
//
// It is used by one goroutine. The caller calls it only right after it has published a manifest: whatever was held back for longer
// is then still garbage, since nobody else has published anything since (I9).
type Garbage struct {
	store    Store
	pipeline string
	rounds   int
	names    []string // full names of what no manifest needs once those of the same round are gone
}

// NewGarbage returns the garbage of a run.
func NewGarbage(store Store, pipeline string) *Garbage {
	return &Garbage{store: store, pipeline: pipeline}
}

// Collect takes up what may go after a publish: all manifests that may go, also those that were named before and are not reported
// deleted yet, and the names, relative to the pipeline's folder, of objects that no other manifest needs, each named once. It returns
// the manifests that are gone, also with an error. After an error everything is tried again in the next round.
func (g *Garbage) Collect(ctx context.Context, manifests []Seq, names []string) ([]Seq, error) {
	for _, name := range names {
		g.names = append(g.names, ObjectName(g.pipeline, name))
	}
	g.names = g.names[max(0, len(g.names)-garbageNamesMax):]
	g.rounds++
	if _, batches := g.store.(BatchDeleter); batches && g.rounds < garbageRounds {
		return nil, nil
	}
	gone, err := g.deleteManifests(ctx, manifests)
	if err != nil {
		return gone, err // those that are left name some of the objects
	}
	g.rounds = 0
	n, err := deleteAll(ctx, g.store, g.names)
	g.names = slices.Delete(g.names, 0, n)
	return gone, err
}

func (g *Garbage) deleteManifests(ctx context.Context, manifests []Seq) ([]Seq, error) {
	var names []string
	for _, seq := range manifests {
		names = append(names, EntryName(g.pipeline, 0, seq))
	}
	n, err := deleteAll(ctx, g.store, names)
	return manifests[:n], err
}
