package file

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/sink"
)

var rewrite = flag.Bool("rewrite", false, "rewrite golden files")

// golden lays a folder of version 1 beside its manifest's bytes: what an earlier build left behind, which every later one goes on
// with. One file is decided, with an entry or in progress, and one is in progress.
func golden(t *testing.T, entered bool) (*memDisk, sink.Assembled) { //nolint:revive // entered is a fact about the folder
	t.Helper()
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join("testdata", "v1", name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	d := newMemDisk()
	l := newLayout(identityOf("store"))
	for _, dir := range []string{hiddenDir, l.home(), l.fences(), l.progress(), committedDir, l.committed()} {
		if err := d.Mkdir(dir); err != nil {
			t.Fatal(err)
		}
	}
	files := map[string][]byte{
		l.identity():                            read("identity"),
		l.inProgress("0000000001-NONCE-000002"): []byte("{\"n\":3}\n{\"n\":4}\n"), // the second line is not recorded
		l.fences() + "/" + runName(1, "NONCE"):  nil,
	}
	decided := []byte("{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n")
	if entered {
		files[entryName(l, place{1, 1, 0})] = read("entry")
		files[l.final(place{1, 1, 0}, ".ndjson")] = decided
	} else {
		files[l.inProgress("0000000001-NONCE-000001")] = decided
	}
	for name, data := range files {
		if err := writeFile(d, name, data); err != nil {
			t.Fatal(err)
		}
	}
	return d, sink.Assembled{State: read("state.json"), Committables: []sink.Committable{
		{Lease: 1, Checkpoint: 1, Rows: 3, Bytes: 24, Version: 1, Data: read("committable.json")},
	}}
}

// The state, the committable, the identity and the ledger of version 1 are read for ever.
func TestGolden_versionOneIsGoneOnWith(t *testing.T) {
	for _, entered := range []bool{false, true} {
		d, newest := golden(t, entered)
		p := start(t, d, Settings{}, 2, newest)
		p.commit(newest.Committables[0])
		p.offset = 10
		p.write(0, 1)
		for _, c := range p.cut(0, true).Committables {
			p.commit(c)
		}
		var got string
		for _, name := range list(t, d, ".") {
			got += name + "\n" + content1(t, d, name)
		}
		want := "orders.0.sink-0000000001-000000000001-0000000.ndjson\n{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n" +
			"orders.0.sink-0000000002-000000000001-0000000.ndjson\n{\"n\":3}\n{\"n\":10}\n"
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	}
}

// What this build writes is version 1 to the byte.
func TestGolden_versionOneIsWritten(t *testing.T) {
	d := newMemDisk()
	s := newSink(plugin(t, d, Settings{Roll: Roll{Size: 20}}), sink.Env{Identity: identityOf("store"), Lease: 1, Tasks: 2}, "NONCE")
	p := &process{t: t, disk: d, sink: s, lease: 1, time: 1_700_000_000_000, writers: map[int]sink.Writer{}, commits: &Committer{sink: s}}
	if err := s.Restore(t.Context(), nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := p.commits.Fence(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.write(0, 3) // complete
	first := p.cut(0, false)
	p.commit(first.Committables[0])
	p.write(1, 1)
	second := p.cut(0, false)
	for name, got := range map[string][]byte{
		"identity":         []byte(content1(t, d, s.layout.identity())),
		"entry":            []byte(content1(t, d, entryName(s.layout, place{1, 1, 0}))),
		"state.json":       second.State,
		"committable.json": first.Committables[0].Data,
	} {
		file := filepath.Join("testdata", "v1", name)
		got = append(bytes.TrimSuffix(got, []byte("\n")), '\n')
		if *rewrite {
			if err := os.WriteFile(file, got, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestSpec_fitsTheSettings(t *testing.T) {
	if err := config.CheckSpec(Spec(), &Settings{}); err != nil {
		t.Fatal(err)
	}
}
