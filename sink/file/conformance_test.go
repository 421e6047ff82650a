package file

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/sink/sinktest"
)

// folder is a target of the suite: a disk in memory that can lose power, or one of the machine.
type folder struct {
	disk     disk
	settings Settings
	flaw     flaw
	consumed []sinktest.Row // what the reader took away
	consumes bool
}

func (g *folder) Plugin(f *sinktest.Faults) (sink.Plugin, error) {
	p, err := New(g.settings)
	if err != nil {
		return nil, err
	}
	p.disk = &faultyDisk{disk: g.disk, faults: f, flaw: g.flaw}
	return p, nil
}

func (g *folder) LosePower(seed uint64) {
	if m, ok := g.disk.(*memDisk); ok {
		m.losePower(seed)
	}
}

// Rows reads all visible files. A consuming reader takes them away.
func (g *folder) Rows(context.Context) ([]sinktest.Row, error) {
	rows := append([]sinktest.Row(nil), g.consumed...)
	names, err := g.disk.List(".")
	if err != nil {
		return rows, ignoreGone(err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
			continue
		}
		found, err := readRows(g.disk, name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		rows = append(rows, found...)
		if !g.consumes {
			continue
		}
		g.consumed = append(g.consumed, found...)
		if err := g.disk.Remove(name); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

func ignoreGone(err error) error {
	if isGone(err) {
		return nil
	}
	return err
}

func readRows(d disk, name string) ([]sinktest.Row, error) {
	f, err := d.Open(name, openRead)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	if data, err = unpack(name, data); err != nil {
		return nil, err
	}
	if len(data) == 0 || data[len(data)-1] != '\n' {
		return nil, errors.New("the file does not end with a line")
	}
	var rows []sinktest.Row
	data = bytes.TrimPrefix(data, []byte(testHeader)) // further headers are no JSON
	for line := range bytes.SplitSeq(data[:len(data)-1], []byte("\n")) {
		var r struct {
			ID, Offset  int64
			Text, Value string
		}
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, fmt.Errorf("line %q: %w", line, err)
		}
		rows = append(rows, sinktest.Row{ID: r.ID + r.Offset, Text: r.Text + r.Value})
	}
	return rows, nil
}

// readNumbers reads the column n of a file.
func readNumbers(d disk, name string) ([]int64, error) {
	data, err := readFile(d, name)
	if err != nil {
		return nil, err
	}
	var numbers []int64
	for line := range bytes.Lines(data) {
		var r struct{ N int64 }
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, fmt.Errorf("line %q: %w", line, err)
		}
		numbers = append(numbers, r.N)
	}
	return numbers, nil
}

func unpack(name string, data []byte) ([]byte, error) {
	switch {
	case strings.HasSuffix(name, ".gz"):
		r, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		return io.ReadAll(r)
	case strings.HasSuffix(name, ".zst"):
		r, err := zstd.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return io.ReadAll(r)
	case !strings.HasSuffix(name, ".ndjson"):
		return nil, errors.New("a name without a known ending")
	}
	return data, nil
}

// everyCheckpoint shows the rows of a checkpoint with its commit; collecting keeps them for a minute or 200 bytes.
func everyCheckpoint() Settings {
	return Settings{Path: "memory", Roll: Roll{EveryCheckpoint: true}}
}

func collecting() Settings {
	return Settings{Path: "memory", Roll: Roll{Size: 200, Age: time.Minute}}
}

func harness(settings Settings, f flaw) sinktest.Harness {
	return sinktest.Harness{
		Target: func(testing.TB) sinktest.Target {
			return &folder{disk: newMemDisk(), settings: settings, flaw: f}
		},
		Exact: settings.Roll.EveryCheckpoint, LosesPower: true,
		Histories: 30, Stride: 13, // TestSimFile has all
	}
}

func TestFile_conformanceEveryCheckpoint(t *testing.T) {
	sinktest.Run(t, harness(everyCheckpoint(), faultless))
}

// testHeader begins the files of jsonEncoder.
const testHeader = "# a header\n"

// jsonEncoder writes what lines of JSON are without an encoder, with a header for each file.
type jsonEncoder struct{}

func (jsonEncoder) FileFormat() (codec.FileFormat, error) {
	return codec.FileFormat{Extension: ".ndjson", End: "\n", Identity: "test"}, nil
}
func (jsonEncoder) FileHeader(*record.Schema) []byte            { return []byte(testHeader) }
func (e jsonEncoder) New(*record.Schema) (codec.Encoder, error) { return e, nil }
func (jsonEncoder) Encode(dst []byte, b *record.Batch, row int) ([]byte, record.Refusal, bool) {
	return codec.AppendJSON(dst, b, row), record.Refusal{}, true
}

func TestFile_conformanceWithHeaders(t *testing.T) {
	settings := collecting()
	settings.Encoder = jsonEncoder{}
	h := harness(settings, faultless)
	h.Histories, h.Stride = 10, 41 // what differs is how files begin
	sinktest.Run(t, h)
}

func TestFile_conformanceCollecting(t *testing.T) {
	sinktest.Run(t, harness(collecting(), faultless))
}

// What is left out is found, and by the case that is about it.
func TestFile_everyFlawIsFound(t *testing.T) {
	by := map[flaw]string{ //nolint:exhaustive // the ends of the list are no flaws
		skipsFileSync: "powerLoss_atEveryCall",
		skipsDirSync:  "powerLoss_atEveryCall",
		skipsRootSync: "powerLoss_atEveryCall",
		entryIsDone:   "crash_atEveryCall",
		seesNoMarks:   "zombie_commitAfterFence",
	}
	for f := faultless + 1; f < flawsEnd; f++ {
		for _, settings := range []Settings{everyCheckpoint(), collecting()} {
			h := harness(settings, f)
			h.Histories, h.Stride = 4, 13
			if failed := sinktest.Failures(t, h, by[f]); failed[by[f]] == "" {
				t.Errorf("flaw %d is not found by %q", f, by[f])
			}
		}
	}
}

// A reader takes files away as soon as it sees them: what is committed is known all the same.
func TestFile_conformanceConsumed(t *testing.T) {
	for _, settings := range []Settings{everyCheckpoint(), collecting()} {
		h := harness(settings, faultless)
		h.Target = func(testing.TB) sinktest.Target {
			return &folder{disk: newMemDisk(), settings: settings, consumes: true}
		}
		h.LosesPower, h.Histories, h.Stride = false, 20, 17
		sinktest.Run(t, h)
	}
}

// runCases runs some cases of the suite.
func runCases(t *testing.T, h sinktest.Harness, names ...string) {
	t.Helper()
	for _, c := range sinktest.Cases() {
		if slices.Contains(names, c.Name) {
			t.Run(c.Name, func(t *testing.T) { c.Check(t, h) })
		}
	}
}

// Compressed files are cut, joined and read like plain ones. The cases are those in which that happens.
func TestFile_conformanceCompressed(t *testing.T) {
	for _, compression := range []string{compressionGzip, compressionZstd} {
		settings := collecting()
		settings.Compression = compression
		h := harness(settings, faultless)
		h.Histories, h.Stride = 6, 17
		runCases(t, h, "tasks_mayChangeBetweenRuns", "crash_inRecovery", "powerLoss_afterCommitted", "history_exactlyOnce")
	}
}

// The same on the machine's own file system, where only processes die. A test can't see what its disk would forget, and forcing it
// takes long, so the cases are those in which runs meet.
func TestFile_conformanceOnDisk(t *testing.T) {
	settings := collecting()
	h := harness(settings, faultless)
	h.LosesPower, h.Histories, h.Stride = false, 4, 53
	h.Target = func(tb testing.TB) sinktest.Target {
		tb.Helper()
		settings.Path = tb.TempDir() + "/made/by/the/sink"
		return &folder{disk: osDisk{root: settings.Path}, settings: settings}
	}
	runCases(t, h, "commit_showsExactlyItsRows", "commit_repeatedChangesNothing", "tasks_mayChangeBetweenRuns", "otherStore_isLoud", "otherStore_isAdopted",
		"deadLetters_areTaken", "crash_inRecovery", "zombie_commitAfterFence", "copiedStore_isLoud", "history_exactlyOnce", "history_atLeastOnce")
}
