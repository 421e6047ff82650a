package kafka

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/sink"
)

var rewrite = flag.Bool("rewrite", false, "rewrite golden files")

// golden compares stored bytes, or writes them. The files are kept for ever: what was ever stored can be read.
func golden(t *testing.T, name string, want []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(path, want, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestGolden_segment(t *testing.T) {
	var content []byte
	for p := range int32(2) {
		o := open{partition: p + 3}
		for _, r := range testRows() {
			o.append(&r)
		}
		content = appendPiece(content, &o, &compressor{})
	}
	data, err := pack(content, 10)
	if err != nil {
		t.Fatal(err)
	}
	pieces, err := unpack(golden(t, "segment-v1.golden", data))
	if err != nil || len(pieces) != 2 {
		t.Fatalf("%d pieces, %v", len(pieces), err)
	}
	for i, p := range pieces {
		if p.partition != int32(i)+3 {
			t.Errorf("piece %d is for partition %d", i, p.partition)
		}
		patch(p.batch, producer{1, 2}, 0)
		compareRecords(t, "golden", p.batch, testRows())
	}
}

func TestGolden_stateAndUnit(t *testing.T) {
	place := ledgerPlace{Topic: "ingestd-ledger", ID: "AAECAwQFBgcICQoLDA0ODw", Partition: 7}
	state := sinkState{Version: stateVersion, Last: unitName{4, 9, sink.UnitStep}, Ledger: place}
	unit := unitData{Topic: "out", ID: "EBESExQVFhcYGRobHB0eHw", Ledger: place, Previous: unitName{3, 8, 0}, Early: true, Layout: layout{{0, 5}, {2, 7}}}
	last := entry{Version: entryVersion, Store: "store", Writer: 5, Nonce: "nonce", Last: unitName{4, 9, 0}, Early: true}
	encode := func(v any) []byte {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	gotState, err := readState(golden(t, "state-v1.golden", encode(state)))
	if diff := cmp.Diff(state, gotState); diff != "" || err != nil {
		t.Errorf("state: %v (-want +got):\n%s", err, diff)
	}
	gotUnit, err := readUnitData(&sink.Committable{Version: unitVersion, Data: golden(t, "unit-v1.golden", encode(unit))})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(unit, *gotUnit); diff != "" {
		t.Errorf("unit (-want +got):\n%s", diff)
	}
	gotLast, err := decodeEntry(golden(t, "ledger-v1.golden", last.encode()))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(last, *gotLast); diff != "" {
		t.Errorf("ledger (-want +got):\n%s", diff)
	}
	if got, want := string(ledgerKey(sink.Identity{Pipeline: "a/b", Lane: 1, Sink: "dead_letter"})), `["a/b",1,"dead_letter"]`; got != want {
		t.Errorf("the ledger's key: got %s, want %s", got, want)
	}
}
