package postgres

import (
	"encoding/json"
	"fmt"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/sink"
)

// sinkState is the sink's own part of a manifest.
type sinkState struct {
	Version int `json:"version"`
	// Last is the newest unit that a manifest has listed. What is not pending of it, and of the units before it, is known
	// Committed.
	Last unitName `json:"last"`
	// Ledger is where the ledger is. It does not change while the pipeline lives.
	Ledger tableName `json:"ledger"`
}

const (
	stateVersion = 1
	unitVersion  = 1
)

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

// Assemble makes one committable of all rows of a checkpoint: one transaction. It does no I/O.
func (s *Sink) Assemble(cut sink.Cut, parts []sink.Part) (sink.Assembled, error) {
	const op = "sink/postgres.Assemble"
	c := sink.Committable{Lease: cut.Lease, Checkpoint: cut.Checkpoint, Version: unitVersion}
	for i := range parts {
		c.Rows += parts[i].Rows
		c.Bytes += parts[i].Bytes
		c.Segments = append(c.Segments, parts[i].Segments...)
	}
	var out sink.Assembled
	var err error
	if c.Rows > 0 {
		name := s.settings.target()
		c.Data, err = json.Marshal(unitData{
			Schema: name.Schema, Table: name.Table, Key: s.key, Delete: s.settings.DeleteColumn, Previous: s.last, Early: s.env.AtLeastOnce, Checked: s.checked(),
		})
		if err != nil {
			return out, fault.E(op, fault.Corrupt, err)
		}
		s.last = nameOf(&c)
		out.Committables = []sink.Committable{c}
	}
	if out.State, err = json.Marshal(sinkState{Version: stateVersion, Last: s.last, Ledger: s.settings.ledger()}); err != nil {
		return out, fault.E(op, fault.Corrupt, err)
	}
	return out, nil
}
