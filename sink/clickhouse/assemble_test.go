package clickhouse

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// assembling is a sink that can assemble and nothing else.
func assembling(number uint64, rows, bytes int64) *Sink {
	s := &Sink{settings: &Settings{UnitRows: rows, UnitBytes: config.Bytes(bytes)}, number: number, server: server{Host: "h"}}
	s.mu.provenance = true
	s.mu.columns = []wireColumn{{"a", "UInt8"}}
	s.counter.restore(0)
	return s
}

// partOf makes the part of one task with segments of the given rows; a row has 10 bytes.
func partOf(t *testing.T, task int, rows ...int64) sink.Part {
	t.Helper()
	p := sink.Part{Task: task}
	var data partData
	for i, n := range rows {
		p.Segments = append(p.Segments, sink.Segment{Name: fmt.Sprintf("%d/%d", task, i), Rows: n, Bytes: n})
		data.Raw = append(data.Raw, n*10)
		p.Rows += n
	}
	var err error
	if p.Data, err = json.Marshal(data); err != nil {
		t.Fatal(err)
	}
	return p
}

// unitsOf shows each unit as its number, rows and segments.
func unitsOf(t *testing.T, a sink.Assembled) (shown []string, blocks []uint64) {
	t.Helper()
	for _, c := range a.Committables {
		text := fmt.Sprintf("unit %d, %d rows, %d bytes:", c.Unit/sink.UnitStep, c.Rows, c.Bytes)
		for _, s := range c.Segments {
			text += " " + s.Name
		}
		shown = append(shown, text)
		data, err := readUnitData(&c)
		if err != nil {
			t.Fatal(err)
		}
		blocks = append(blocks, data.Block)
	}
	return shown, blocks
}

func stateOf(t *testing.T, a sink.Assembled) sinkState {
	t.Helper()
	var s sinkState
	if err := json.Unmarshal(a.State, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAssemble_unitsFillUpToTheirLimits(t *testing.T) {
	cases := []struct {
		name  string
		parts []sink.Part
		want  []string
	}{
		{"nothing", nil, nil},
		{"tasks without rows", []sink.Part{{Task: 0}, {Task: 3}}, nil},
		{"one unit for all tasks", []sink.Part{partOf(t, 0, 40, 10), partOf(t, 2, 50)}, []string{"unit 0, 100 rows, 1000 bytes: 0/0 0/1 2/0"}},
		{"rows", []sink.Part{partOf(t, 0, 60, 40, 1)}, []string{"unit 0, 100 rows, 1000 bytes: 0/0 0/1", "unit 1, 1 rows, 10 bytes: 0/2"}},
		{"order is kept", []sink.Part{partOf(t, 0, 60, 60, 10)}, []string{"unit 0, 60 rows, 600 bytes: 0/0", "unit 1, 70 rows, 700 bytes: 0/1 0/2"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := assembling(1, 100, 1<<20)
			a, err := s.Assemble(sink.Cut{Lease: 1, Checkpoint: 1}, c.parts)
			if err != nil {
				t.Fatal(err)
			}
			got, _ := unitsOf(t, a)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	s := assembling(1, 1000, 500)
	a, err := s.Assemble(sink.Cut{}, []sink.Part{partOf(t, 0, 30, 20, 1)})
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := unitsOf(t, a); len(got) != 2 {
		t.Errorf("got %v, want two units for the limit of bytes", got)
	}
	if _, err := s.Assemble(sink.Cut{}, []sink.Part{{Task: 0, Segments: []sink.Segment{{}}, Data: []byte(`{"raw":[]}`)}}); err == nil {
		t.Error("a part whose data don't fit is taken")
	}
}

// Goal: no block number is used twice, whatever is aborted and whoever takes over, and none before a published manifest has
// reserved it. Method: runs of many checkpoints, of which some are never published; every number used is kept.
func TestAssemble_blockNumbersAreNeverUsedTwice(t *testing.T) {
	used := map[uint64]string{}
	published := sinkState{}
	for lease := 1; lease <= 5; lease++ {
		s := assembling(7, 10, 1<<20)
		s.counter.restore(published.BlockEnd)
		reserved := published.BlockEnd // by what is published
		for checkpoint := range 40 {
			parts := []sink.Part{partOf(t, 0, 10, 10, 10)}
			if checkpoint == 0 {
				parts = nil // the opening manifest
			}
			a, err := s.Assemble(sink.Cut{Lease: record.Lease(lease), Checkpoint: record.Checkpoint(checkpoint)}, parts)
			if err != nil {
				t.Fatal(err)
			}
			_, blocks := unitsOf(t, a)
			for _, b := range blocks {
				name := fmt.Sprintf("lease %d, checkpoint %d", lease, checkpoint)
				if other, ok := used[b]; ok {
					t.Fatalf("block %d is used by %s and %s", b, other, name)
				}
				used[b] = name
				if b>>counterBits != 7 {
					t.Fatalf("block %d has number %d, want 7", b, b>>counterBits)
				}
				if b&counterMax >= reserved {
					t.Fatalf("%s uses counter %d, published manifests reserve up to %d", name, b&counterMax, reserved)
				}
			}
			state := stateOf(t, a)
			if state.BlockEnd < published.BlockEnd {
				t.Fatalf("the end goes back from %d to %d", published.BlockEnd, state.BlockEnd)
			}
			if checkpoint == 30+lease {
				break // this one is not published: the run dies
			}
			published, reserved = state, state.BlockEnd
		}
	}
}

// A reservation is extended long before it is used up.
func TestAssemble_reservationIsExtendedInTime(t *testing.T) {
	s := assembling(1, 1, 1<<20)
	if _, err := s.Assemble(sink.Cut{}, nil); err != nil {
		t.Fatal(err)
	}
	rows := make([]int64, reserve/8)
	for i := range rows {
		rows[i] = 1
	}
	part := partOf(t, 0, rows...)
	for range 9 {
		before := s.counter.reserved
		if _, err := s.Assemble(sink.Cut{}, []sink.Part{part}); err != nil {
			t.Fatal(err)
		}
		if s.counter.next > before {
			t.Fatalf("value %d was used, and %d was published", s.counter.next-1, before)
		}
	}
}

// Without a published reservation exactly-once takes a number of its own manifest, at-least-once takes none.
func TestAssemble_withoutAnOpeningManifest(t *testing.T) {
	s := assembling(1, 10, 1<<20)
	a, err := s.Assemble(sink.Cut{}, []sink.Part{partOf(t, 0, 5)})
	if err != nil {
		t.Fatal(err)
	}
	if _, blocks := unitsOf(t, a); blocks[0]&counterMax >= stateOf(t, a).BlockEnd || blocks[0] == 0 {
		t.Errorf("got block %d, want one that the same manifest reserves", blocks[0])
	}
	s = assembling(1, 10, 1<<20)
	s.env.AtLeastOnce = true
	if a, err = s.Assemble(sink.Cut{}, []sink.Part{partOf(t, 0, 5)}); err != nil {
		t.Fatal(err)
	}
	if _, blocks := unitsOf(t, a); blocks[0] != 0 {
		t.Errorf("got block %d in at-least-once mode, want none", blocks[0])
	}
}

func TestAssemble_numbersAreUsedUp(t *testing.T) {
	s := assembling(1, 10, 1<<20)
	s.counter.restore(counterMax - 5)
	if _, err := s.Assemble(sink.Cut{}, nil); err == nil {
		t.Error("a reservation beyond 40 bits is made")
	}
	if got, want := blockNumber(numberMax, counterMax), ^uint64(0); got != want {
		t.Errorf("got %x as the highest block number, want %x", got, want)
	}
}
