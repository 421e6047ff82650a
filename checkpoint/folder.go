package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

// Part is a part of a pipeline's folder.
type Part string

// The parts of a pipeline's folder. What lies in none of them was not put there by this program.
const (
	PartPipeline   Part = "pipeline" // what the folder is
	PartLog        Part = folderLog
	PartSegments   Part = folderStaging
	PartState      Part = folderState
	PartSavepoints Part = "savepoints"
	PartCache      Part = folderCache
	PartUnknown    Part = ""
)

// Located is what the name of an object tells of it.
type Located struct {
	Part     Part
	Relative string       // as manifests name it
	Lane     record.Lane  // of a segment, and of an object of keyed state
	Lease    record.Lease // likewise: whose run stored it
}

// Locate tells where in a pipeline's folder an object lies, by its full name.
func Locate(pipeline, name string) Located {
	relative, ok := strings.CutPrefix(name, pipeline+"/")
	l := Located{Relative: relative}
	if !ok {
		return l
	}
	elements := strings.Split(relative, "/")
	switch {
	case relative == objectPipeline:
		l.Part = PartPipeline
	case elements[0] == folderLog:
		l.Part = PartLog
	case elements[0] == string(PartSavepoints), elements[0] == folderCache:
		l.Part = Part(elements[0])
	case len(elements) == 4 && (elements[0] == folderStaging || elements[0] == folderState):
		lane, laneOK := parseNumber(elements[1])
		lease, leaseOK := parseNumber(strings.TrimLeft(elements[2], "0"))
		if laneOK && leaseOK && lane <= math.MaxUint32 {
			l.Part, l.Lane, l.Lease = Part(elements[0]), record.Lane(lane), record.Lease(lease)
		}
	}
	return l
}

// PipelineInfo is what a pipeline's folder says of itself.
type PipelineInfo struct {
	StoreID   string
	Pipeline  string
	KeyGroups int
}

// ReadPipeline reads what a pipeline's folder says of itself, and changes nothing. Error kinds: fault.Lost when it says nothing,
// fault.Corrupt, fault.Misconfigured when a newer version wrote it, and the store's own.
func ReadPipeline(ctx context.Context, store Store, pipeline string) (PipelineInfo, error) {
	const op = "checkpoint.ReadPipeline"
	name := PipelineName(pipeline)
	data, err := store.Get(ctx, name)
	if errors.Is(err, ErrNotExist) {
		return PipelineInfo{}, fault.E(op, fault.Lost, fmt.Errorf("object %q: %w", name, err))
	}
	if err != nil {
		return PipelineInfo{}, fault.E(op, fault.KindOf(err), fmt.Errorf("object %q: %w", name, err))
	}
	var o pipelineObject
	if err := decode(kindPipeline, data, &o); err != nil {
		return PipelineInfo{}, classifyRead(op, fmt.Errorf("object %q: %w", name, err))
	}
	return PipelineInfo{StoreID: o.StoreID, Pipeline: o.Pipeline, KeyGroups: o.KeyGroups}, nil
}
