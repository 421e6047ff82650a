package file

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/sink"
)

func TestLayout_namesAreSafeAndRead(t *testing.T) {
	for text, want := range map[string]string{"orders": "orders", "_a.b/c": "%5Fa%2Eb%2Fc", "../x": "%2E%2E%2Fx", "a_b-c": "a_b-c", "ü": "%C3%BC"} {
		if got := escape(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	places := []place{{1, 2, 3}, {1, 10, 0}, {1, 10, sink.UnitStep}, {2, 1, 0}, {1 << 40, 1 << 50, 1 << 30}}
	var names []string
	for _, p := range places {
		got, ok := parsePlace(p.String())
		if !ok || got != p {
			t.Errorf("%v is read as %v", p, got)
		}
		limit := place{lease: p.lease, checkpoint: p.checkpoint}
		if got, ok := parseUpto(uptoName(p)); !ok || got != limit {
			t.Errorf("%v is read as %v", uptoName(p), got)
		}
		names = append(names, p.String())
	}
	if !slices.IsSorted(names) {
		t.Errorf("names do not sort: %q", names)
	}
	for _, bad := range []string{"", "1-2-3", "0000000001-000000000002", "0000000001-000000000002-0000003-4", "upto-1", "x-y-z", "-1-2-3"} {
		if p, ok := parsePlace(bad); ok {
			t.Errorf("%q is read as %v", bad, p)
		}
	}
	if lease, nonce, ok := parseRun(runName(7, "ABC") + "-000001"); !ok || lease != 7 || nonce != "ABC" {
		t.Errorf("got %d, %q, %t", lease, nonce, ok)
	}
}

func TestNew_settingsAreChecked(t *testing.T) {
	for _, bad := range []Settings{{}, {Path: "p", Roll: Roll{Size: -1}}, {Path: "p", Roll: Roll{Age: -1}}, {Path: "p", Compression: "lz4"}} {
		if _, err := New(bad); err == nil || fault.KindOf(err) != fault.Misconfigured {
			t.Errorf("%+v: got %v", bad, err)
		}
	}
	p, err := New(Settings{Path: "p"})
	if err != nil {
		t.Fatal(err)
	}
	want := Settings{Path: "p", Roll: Roll{Size: defaultSize, Age: defaultAge}, Compression: compressionNone}
	if diff := cmp.Diff(want, p.settings); diff != "" {
		t.Fatal(diff)
	}
}

// Inspect tells what keeps the folder from being used, and makes nothing.
func TestInspect_findings(t *testing.T) {
	level := func(p *Plugin, store string) string {
		t.Helper()
		got, err := p.Inspect(t.Context(), identityOf(store))
		if err != nil {
			t.Fatal(err)
		}
		text := ""
		for _, f := range got.Findings {
			text += fmt.Sprintf("%d %s\n", f.Level, f.Text)
		}
		return text
	}
	root := t.TempDir() + "/out"
	p, err := New(Settings{Path: root})
	if err != nil {
		t.Fatal(err)
	}
	if got := level(p, "store"); !strings.Contains(got, "the first start makes it") {
		t.Fatalf("got %q", got)
	}
	if _, err := p.disk.List("."); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Inspect made the folder: %v", err)
	}
	start(t, osDisk{root: root}, everyCheckpoint(), 1, sink.Assembled{})
	if got := level(p, "store"); got != "" {
		t.Fatalf("got %q", got)
	}
	d := newMemDisk()
	start(t, d, everyCheckpoint(), 1, sink.Assembled{})
	if err := writeFile(d, newLayout(identityOf("store")).identity(), []byte("{")); err != nil {
		t.Fatal(err)
	}
	if got := level(plugin(t, d, everyCheckpoint()), "store"); !strings.HasPrefix(got, fmt.Sprintf("%d ", sink.Blocks)) {
		t.Fatalf("got %q", got)
	}
}

// A name of the ledger is read only if it is exactly what this build writes.
func FuzzParsePlace(f *testing.F) {
	f.Add("0000000001-000000000002-0065536")
	f.Add("upto-0000000001-000000000002")
	f.Add("0000000001-NONCE-000001")
	f.Fuzz(func(t *testing.T, name string) {
		if p, ok := parsePlace(name); ok && p.String() != name {
			t.Fatalf("%q is read as %v", name, p)
		}
		if p, ok := parseUpto(name); ok && uptoName(p) != name {
			t.Fatalf("%q is read as %v", name, p)
		}
		if lease, nonce, ok := parseRun(name); ok && (nonce == "" || lease == 0 && !strings.HasPrefix(name, "0")) {
			t.Fatalf("%q is read as lease %d, %q", name, lease, nonce)
		}
	})
}
