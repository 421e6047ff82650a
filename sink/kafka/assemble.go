package kafka

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// sinkState is the sink's own part of a manifest.
type sinkState struct {
	Version int `json:"version"`
	// Last is the newest unit that a manifest has listed. What is not pending of it, and of the units before it, is known
	// Committed.
	Last   unitName    `json:"last"`
	Ledger ledgerPlace `json:"ledger"`
}

// ledgerPlace is where the ledger's record is. It never changes while the pipeline lives.
type ledgerPlace struct {
	Topic     string `json:"topic"`
	ID        string `json:"id"`
	Partition int32  `json:"partition"`
}

const stateVersion = 1

// unitData is the sink's own part of a committable.
type unitData struct {
	Topic  string      `json:"topic"`
	ID     string      `json:"id"`
	Ledger ledgerPlace `json:"ledger"`
	// Previous is the unit before this one: what the ledger must hold when this one is about to be committed.
	Previous unitName `json:"previous"`
	// Early says that the unit is committed before its manifest is published.
	Early  bool   `json:"early,omitempty"`
	Layout layout `json:"layout"`
}

// unitVersion is the version of unitData.
const unitVersion = 1

// readUnitData reads a committable's data. The errors are fault.Corrupt, and fault.Misconfigured for an unknown version.
func readUnitData(u *sink.Committable) (*unitData, error) {
	if u.Version != unitVersion {
		return nil, fault.WithRemedy("", fault.Misconfigured, fmt.Errorf("its data have version %d, this build knows %d", u.Version, unitVersion),
			"run the version of ingestd that wrote it, or a later one")
	}
	d := new(unitData)
	if err := json.Unmarshal(u.Data, d); err != nil {
		return nil, fault.E("", fault.Corrupt, fmt.Errorf("its data: %w", err))
	}
	return d, nil
}

// readState reads what a manifest holds of the sink; none is the zero state.
func readState(data []byte) (sinkState, error) {
	var s sinkState
	if len(data) == 0 {
		return s, nil
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fault.E("", fault.Corrupt, fmt.Errorf("the sink's state: %w", err))
	}
	if s.Version != stateVersion {
		return s, fault.WithRemedy("", fault.Misconfigured, fmt.Errorf("the sink's state has version %d, this build knows %d", s.Version, stateVersion),
			"run the version of ingestd that wrote it, or a later one")
	}
	return s, nil
}

// staged is a segment with its layout.
type staged struct {
	segment sink.Segment
	layout  layout
}

// stagedOf lists the segments of all parts, in order of tasks.
func stagedOf(parts []sink.Part) ([]staged, error) {
	var list []staged
	for i := range parts {
		p := &parts[i]
		if len(p.Segments) == 0 {
			continue
		}
		var data partData
		if err := json.Unmarshal(p.Data, &data); err != nil || len(data.Segments) != len(p.Segments) {
			return nil, fmt.Errorf("part of task %d: its data don't fit its segments", p.Task)
		}
		for j, s := range p.Segments {
			list = append(list, staged{s, data.Segments[j]})
		}
	}
	return list, nil
}

// cutUnits groups segments, in order, into units within the limit. A segment above it is a unit of its own.
func cutUnits(list []staged, bytesMax int64) [][]staged {
	var units [][]staged
	var bytes int64
	for _, s := range list {
		if len(units) == 0 || bytes+s.segment.Bytes > bytesMax {
			units, bytes = append(units, nil), 0
		}
		units[len(units)-1] = append(units[len(units)-1], s)
		bytes += s.segment.Bytes
	}
	return units
}

// Assemble makes one committable for each transaction, nearly always one. It does no I/O.
func (s *Sink) Assemble(cut sink.Cut, parts []sink.Part) (sink.Assembled, error) {
	const op = "sink/kafka.Assemble"
	list, err := stagedOf(parts)
	if err != nil {
		return sink.Assembled{}, fault.E(op, fault.Corrupt, err)
	}
	var out sink.Assembled
	for i, unit := range cutUnits(list, int64(s.settings.UnitBytes)) {
		c := sink.Committable{Lease: cut.Lease, Checkpoint: cut.Checkpoint, Unit: record.Unit(i) * sink.UnitStep, Version: unitVersion}
		sums := map[int32]int64{}
		for _, part := range unit {
			c.Rows += part.segment.Rows
			c.Bytes += part.segment.Bytes
			c.Segments = append(c.Segments, part.segment)
			for _, pair := range part.layout {
				sums[int32(pair[0])] += pair[1]
			}
		}
		c.Data, err = json.Marshal(unitData{
			Topic: s.settings.Topic, ID: s.target.id.String(), Ledger: s.ledger, Previous: s.last, Early: s.env.AtLeastOnce, Layout: newLayout(sums),
		})
		if err != nil {
			return sink.Assembled{}, fault.E(op, fault.Corrupt, err)
		}
		s.last = nameOf(&c)
		out.Committables = append(out.Committables, c)
	}
	out.State, err = json.Marshal(sinkState{Version: stateVersion, Last: s.last, Ledger: s.ledger})
	return out, err
}

// partitions lists the partitions that have records.
func (l layout) partitions() []int32 {
	numbers := make([]int32, 0, len(l))
	for _, pair := range l {
		numbers = append(numbers, int32(pair[0]))
	}
	return numbers
}

// equal compares two layouts.
func (l layout) equal(other layout) bool { return slices.Equal(l, other) }
