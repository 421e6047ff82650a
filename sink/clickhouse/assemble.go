package clickhouse

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// A block number is a value of the provenance column: the registered number of the pipeline's sink in the highest 24 bits, a
// counter in the lowest 40.
const (
	counterBits = 40
	numberMax   = 1<<24 - 1
	counterMax  = 1<<counterBits - 1
)

// blockNumber puts a block number together.
func blockNumber(number, counter uint64) uint64 { return number<<counterBits | counter }

// reserve is how many counter values a manifest reserves at a time. A run that dies leaves up to this many unused: 2^40 values
// outlast 8 million restarts.
const reserve = 1 << 17

// sinkState is the sink's own part of a manifest.
type sinkState struct {
	Number uint64 `json:"number"`
	// BlockEnd is above every counter value that a run may use while this manifest is the newest. It never goes back.
	BlockEnd uint64 `json:"block_end"`
}

// unitData is the sink's own part of a committable.
type unitData struct {
	Block   uint64       `json:"block"` // 0 for a table without the provenance column
	Server  server       `json:"server"`
	Columns []wireColumn `json:"columns"`
}

// unitVersion is the version of unitData.
const unitVersion = 1

// readUnitData reads a committable's data. The errors are fault.Corrupt, and fault.Misconfigured for an unknown version.
func readUnitData(u *sink.Committable) (*unitData, error) {
	if u.Version != unitVersion {
		return nil, fault.E("", fault.Misconfigured, fmt.Errorf("its data have version %d, this build knows %d", u.Version, unitVersion))
	}
	d := new(unitData)
	if err := json.Unmarshal(u.Data, d); err != nil {
		return nil, fault.E("", fault.Corrupt, fmt.Errorf("its data: %w", err))
	}
	return d, nil
}

// encode is what readUnitData reads.
func (d *unitData) encode() []byte {
	data, err := json.Marshal(d)
	if err != nil {
		panic("sink/clickhouse: plain values can't be encoded: " + err.Error())
	}
	return data
}

// counter hands out counter values. It belongs to the coordinator's goroutine.
//
// A value may be used only if a published manifest has reserved it. Assemble is called only when the state of the call before
// (or of Restore) is known to be published; so what the last call reserved is published when the next one begins, and what the
// next one reserves is not used before the one after it. A run starts at the newest manifest's end, so no value that an earlier
// run may have used, published or not, is used again. Values below published are ours alone: they were reserved by this lease.
type counter struct {
	next      uint64 // the next value
	published uint64 // values below may be used
	reserved  uint64 // the end that the last state names
}

// restore begins at the end of the newest manifest. 0 is never a value.
func (c *counter) restore(end uint64) {
	end = max(end, 1)
	*c = counter{next: end, published: end, reserved: end}
}

// begin says that the last reservation is published.
func (c *counter) begin() { c.published = c.reserved }

// take consumes a value; ok is false when no published one is left.
func (c *counter) take() (value uint64, ok bool) {
	if c.next >= c.published {
		return 0, false
	}
	c.next++
	return c.next - 1, true
}

// ahead consumes a value that the manifest in the making reserves itself.
func (c *counter) ahead() uint64 {
	c.next++
	c.reserved = max(c.reserved, c.next)
	return c.next - 1
}

// extend reserves more when less than half of a reservation is left, and returns the end.
func (c *counter) extend() (uint64, error) {
	if c.reserved-c.next < reserve/2 {
		c.reserved = max(c.reserved, c.next+reserve)
	}
	if c.reserved > counterMax {
		return 0, errors.New("all block numbers of this pipeline are used up")
	}
	return c.reserved, nil
}

// piece is a segment with its bytes before compression.
type piece struct {
	segment sink.Segment
	raw     int64
}

// pieces lists the segments of all parts, in order of tasks.
func pieces(parts []sink.Part) ([]piece, error) {
	var list []piece
	for i := range parts {
		p := &parts[i]
		if len(p.Segments) == 0 {
			continue
		}
		var data partData
		if err := json.Unmarshal(p.Data, &data); err != nil || len(data.Raw) != len(p.Segments) {
			return nil, fmt.Errorf("part of task %d: its data don't fit its segments", p.Task)
		}
		for j, s := range p.Segments {
			list = append(list, piece{segment: s, raw: data.Raw[j]})
		}
	}
	return list, nil
}

// cutUnits groups segments, in order, into units within the limits. A segment alone is always within them.
func cutUnits(list []piece, rowsMax, bytesMax int64) [][]piece {
	var units [][]piece
	var rows, bytes int64
	for _, p := range list {
		if len(units) == 0 || rows+p.segment.Rows > rowsMax || bytes+p.raw > bytesMax {
			units = append(units, nil)
			rows, bytes = 0, 0
		}
		units[len(units)-1] = append(units[len(units)-1], p)
		rows += p.segment.Rows
		bytes += p.raw
	}
	return units
}

// Assemble makes one committable for each unit. It does no I/O.
func (s *Sink) Assemble(cut sink.Cut, parts []sink.Part) (sink.Assembled, error) {
	const op = "sink/clickhouse.Assemble"
	s.counter.begin()
	list, err := pieces(parts)
	if err != nil {
		return sink.Assembled{}, fault.E(op, fault.Corrupt, err)
	}
	var out sink.Assembled
	for i, unit := range cutUnits(list, s.settings.UnitRows, int64(s.settings.UnitBytes)) {
		c := sink.Committable{Lease: cut.Lease, Checkpoint: cut.Checkpoint, Unit: record.Unit(i) * sink.UnitStep, Version: unitVersion}
		for _, p := range unit {
			c.Rows += p.segment.Rows
			c.Bytes += p.raw
			c.Segments = append(c.Segments, p.segment)
		}
		c.Data = s.unitData()
		out.Committables = append(out.Committables, c)
	}
	end, err := s.counter.extend()
	if err != nil {
		return sink.Assembled{}, fault.E(op, fault.Misconfigured, err)
	}
	out.State, err = json.Marshal(sinkState{Number: s.number, BlockEnd: end})
	return out, err
}

// unitData makes the data of a new unit, which consumes a block number.
//
// No published number is left only in a checkpoint of more than half a reservation of units, or when a run cuts rows before its
// opening manifest. With exactly-once delivery the unit then takes a number of its own manifest: nothing is sent before that is
// published, so an unpublished use leaves no row. At-least-once sends first, so the unit goes without a number there: whether
// it took effect can't be asked then, and a retry may double its rows, as that mode allows.
func (s *Sink) unitData() []byte {
	d := unitData{Server: s.server}
	columns, provenance := s.wire()
	d.Columns = columns
	if provenance {
		value, ok := s.counter.take()
		if !ok && !s.env.AtLeastOnce {
			value, ok = s.counter.ahead(), true
		}
		if ok {
			d.Block = blockNumber(s.number, value)
		}
	}
	return d.encode()
}
