package file

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/source"
	"github.com/ingestd/ingestd/source/sourcetest"
)

// The files have short and long lines, empty ones, too long ones at every place, no line feed at the end, nothing at all, and
// sizes around the borders of what is read at once.
func TestSource_conforms(t *testing.T) {
	const limit, chunk = 1024, 256
	dir := t.TempDir()
	var lines []string
	for i := range 400 {
		lines = append(lines, fmt.Sprintf("%d %s", i, strings.Repeat("x", i*7%300)))
	}
	long := strings.Repeat("L", limit+1)
	texts := map[string]string{
		"lines":   strings.Join(lines, "\n") + "\n",
		"open":    strings.Join(lines[:50], "\n"),
		"empty":   "",
		"blank":   "\n\n\na\n\n",
		"feed":    "\n",
		"long":    long + "\n" + "short\n" + strings.Repeat("M", 40*limit) + "\nend\n" + long,
		"longest": strings.Repeat("m", limit) + "\n" + strings.Repeat("n", limit),
		"border":  strings.Repeat(strings.Repeat("b", chunk-1)+"\n", 5) + strings.Repeat("c", chunk) + "\nd",
	}
	want := map[string][]sourcetest.Record{}
	for name, text := range texts {
		path := filepath.Join(dir, name)
		put(t, path, text)
		want[path] = reference([]byte(text), false, limit)
	}
	sourcetest.Run(t, sourcetest.Harness{
		New: func(t *testing.T) source.Source {
			t.Helper()
			src := newSource(t, Settings{Paths: []string{filepath.Join(dir, "*")}, RecordBytesMax: limit})
			src.chunk = chunk
			return src
		},
		Want:     want,
		Capacity: 1 << 20,
	})
}

func TestSource_crlfIsTrimmedOnlyBeforeALineFeed(t *testing.T) {
	text := "a\r\nb\n\r\n\rc\r\r\nd\r"
	path := write(t, "f", text)
	for _, crlf := range []bool{false, true} {
		s := Settings{Paths: []string{path}}
		if crlf {
			s.LineEnd = endCRLF
		}
		src := newSource(t, s)
		l := readAll(t, src, discover(t, src), sourcetest.NewBudget(unlimited))
		if diff := cmp.Diff(reference([]byte(text), crlf, 1<<20), l.Records[path]); diff != "" {
			t.Errorf("crlf %t: records differ (-want +got):\n%s", crlf, diff)
		}
	}
}

// A line far above the limit is refused with its first bytes, and the budget shows that no more of it was held.
func TestReader_longLineIsNeverHeldWhole(t *testing.T) {
	const limit = 4 << 10
	path := write(t, "f", "before\n"+strings.Repeat("x", 64<<20)+"\nafter\n")
	src := newSource(t, Settings{Paths: []string{path}, RecordBytesMax: limit})
	src.chunk = 1 << 10
	splits := discover(t, src)
	budget := sourcetest.NewBudget(unlimited)
	l := readAll(t, src, splits, budget)
	want := []sourcetest.Record{
		{Value: "before"},
		{Offset: 7, Value: strings.Repeat("x", limit), Refused: true},
		{Offset: 7 + 64<<20 + 1, Value: "after"},
	}
	if diff := cmp.Diff(want, l.Records[path]); diff != "" {
		t.Errorf("records differ (-want +got):\n%s", diff)
	}
	if most := limit + 2 + rowsMax*rowSize; budget.Peak() > most {
		t.Errorf("got a peak of %d bytes, want at most %d", budget.Peak(), most)
	}
}

func TestReader_longLineSaysWhatItIs(t *testing.T) {
	path := write(t, "f", strings.Repeat("x", 5000)+"\n")
	src := newSource(t, Settings{Paths: []string{path}, RecordBytesMax: 1 << 10})
	r, err := src.Open(t.Context(), discover(t, src), sourcetest.NewBudget(unlimited))
	if err != nil {
		t.Fatal(err)
	}
	f, err := next(t, r)
	if err != nil || len(f.Refused) != 1 {
		t.Fatalf("got %d refusals, %v, want 1", len(f.Refused), err)
	}
	want := record.DeadLetter{
		Split: path, Timestamp: -1, Value: []byte(strings.Repeat("x", 1<<10)), Stage: "source", Byte: -1,
		Reason: "the line has 5000 bytes, more than record_bytes_max = 1KiB, and is cut",
	}
	if diff := cmp.Diff(want, f.Refused[0]); diff != "" {
		t.Errorf("dead letter differs (-want +got):\n%s", diff)
	}
}

// Whatever happens to a file between two runs: it is found before a line is read, and named.
func TestSource_changedFileStopsLoudly(t *testing.T) {
	lines := strings.Repeat("0123456789\n", 50_000) // more than twice the hashed ends
	cases := []struct {
		name   string
		change func(t *testing.T, path string)
		names  string
	}{
		{"gone", func(t *testing.T, path string) {
			t.Helper()
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}, "the file is gone"},
		{"shrunk", func(t *testing.T, path string) {
			t.Helper()
			if err := os.Truncate(path, int64(len(lines)-11)); err != nil {
				t.Fatal(err)
			}
		}, "shrank: it has 549989 bytes, and had 550000"},
		{"emptied and written again", func(t *testing.T, path string) {
			t.Helper()
			put(t, path, strings.Repeat("abcdefghij\n", 50_001))
		}, "its first bytes are others"},
		{"line put in front", func(t *testing.T, path string) {
			t.Helper()
			put(t, path, "new\n"+lines)
		}, "its first bytes are others"},
		{"line put in the middle", func(t *testing.T, path string) {
			t.Helper()
			put(t, path, lines[:110_000]+"new\n"+lines[110_000:])
		}, "the bytes before offset 550000 are others"},
		{"lines moved", func(t *testing.T, path string) {
			t.Helper()
			put(t, path, lines[:220_000]+"01234\n56789\n"+lines[220_012:])
		}, "no line begins at the position 220011"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := write(t, "f", lines)
			src := newSource(t, Settings{Paths: []string{path}})
			splits := discover(t, src)
			splits[0].Offset = 220_011
			c.change(t, path)
			_, err := src.Discover(t.Context(), splits)
			wantFault(t, err, fault.Lost, path, c.names)
			r, err := src.Open(t.Context(), splits, sourcetest.NewBudget(unlimited))
			if err != nil {
				t.Fatal(err)
			}
			f, err := next(t, r)
			wantFault(t, err, fault.Lost, path, c.names)
			if len(f.Rows) > 0 {
				t.Errorf("got %d rows of a changed file, want none", len(f.Rows))
			}
			if _, again := next(t, r); again == nil {
				t.Error("got no error from the next poll, want the same again")
			}
		})
	}
}

// Appending to a file, copying it and touching it between runs is no change of what is read.
func TestSource_sameContentsGoOn(t *testing.T) {
	text := strings.Repeat("line\n", 100)
	path := write(t, "f", text)
	src := newSource(t, Settings{Paths: []string{path}})
	splits := discover(t, src)
	splits[0].Offset = 50
	copied := write(t, "copy", text+"appended\nand open")
	if err := os.Rename(copied, path); err != nil { // another inode
		t.Fatal(err)
	}
	if err := os.Chtimes(path, time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := src.Discover(t.Context(), splits); err != nil {
		t.Errorf("discover: %v", err)
	}
	l := readAll(t, src, splits, sourcetest.NewBudget(unlimited))
	if got := len(l.Records[path]); got != 90 {
		t.Errorf("got %d records, want 90", got)
	}
}

// The file is written to between two polls.
func TestReader_changeWhileReadingStopsLoudly(t *testing.T) {
	lines := strings.Repeat("0123456789\n", 1000)
	cases := []struct {
		name   string
		change func(path string) error
		names  string
	}{
		{"in place", func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			if _, err := f.WriteAt([]byte("???"), 5000); err != nil {
				return err
			}
			return f.Close()
		}, "was written to while it was read"},
		{"shrunk", func(path string) error { return os.Truncate(path, 6000) }, "was written to while it was read"},
		{"shrunk before the position", func(path string) error { return os.Truncate(path, 10) }, "shrank while it was read"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := write(t, "f", lines)
			src := newSource(t, Settings{Paths: []string{path}})
			src.chunk = 1024
			splits := discover(t, src)
			// The clock of a file system may be coarse: the file is older than the change.
			if err := os.Chtimes(path, time.Time{}, time.Unix(1000, 0)); err != nil {
				t.Fatal(err)
			}
			budget := sourcetest.NewBudget(unlimited)
			r, err := src.Open(t.Context(), splits, budget)
			if err != nil {
				t.Fatal(err)
			}
			f, err := next(t, r)
			if err != nil {
				t.Fatal(err)
			}
			f.Release()
			if err := c.change(path); err != nil {
				t.Fatal(err)
			}
			_, err = next(t, r)
			wantFault(t, err, fault.Lost, path, c.names)
			if budget.Used() != 0 {
				t.Errorf("got %d bytes in use after the failure, want 0", budget.Used())
			}
		})
	}
}

func TestReader_appendWhileReadingGoesOn(t *testing.T) {
	path := write(t, "f", strings.Repeat("0123456789\n", 1000))
	src := newSource(t, Settings{Paths: []string{path}})
	src.chunk = 1024
	splits := discover(t, src)
	r, err := src.Open(t.Context(), splits, sourcetest.NewBudget(unlimited))
	if err != nil {
		t.Fatal(err)
	}
	l := sourcetest.NewLog(splits)
	for len(l.Finished) == 0 {
		f, err := next(t, r)
		if err != nil {
			t.Fatal(err)
		}
		l.Take(t, f)
		f.Release()
		file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(file, "later")
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(l.Records[path]); got != 1000 {
		t.Errorf("got %d records, want the 1000 of the start", got)
	}
}

func TestSource_findsFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.txt", "a.txt", "c.json"} {
		put(t, filepath.Join(dir, name), "x\n")
	}
	if err := os.Mkdir(filepath.Join(dir, "d.txt"), 0o700); err != nil {
		t.Fatal(err)
	}
	at := func(names ...string) []string {
		var paths []string
		for _, name := range names {
			paths = append(paths, filepath.Join(dir, name))
		}
		return paths
	}
	cases := []struct {
		paths []string
		want  []string
		err   string
	}{
		{paths: at("*.txt", "a.txt", "./c.json"), want: at("a.txt", "b.txt", "c.json")},
		{paths: at("[ab].txt"), want: at("a.txt", "b.txt")},
		{paths: at("*.csv"), err: "no file matches " + at("*.csv")[0]},
		{paths: at("none.txt"), err: "none.txt: no such file"},
		{paths: at("d.txt"), err: "d.txt is not a regular file"},
		{paths: at("[a.txt"), err: "syntax error in pattern"},
	}
	for _, c := range cases {
		src := newSource(t, Settings{Paths: c.paths})
		splits, err := src.Discover(t.Context(), nil)
		findings := src.Check(t.Context())
		if c.err != "" {
			wantFault(t, err, fault.Misconfigured, c.err)
			if len(findings) != 1 || findings[0].Level != source.Blocks || !strings.Contains(findings[0].Text, c.err) {
				t.Errorf("%q: got the findings %+v, want one that blocks and says %q", c.paths, findings, c.err)
			}
			continue
		}
		var got []string
		for _, s := range splits {
			got = append(got, s.Split)
		}
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%q: %v; files differ (-want +got):\n%s", c.paths, err, diff)
		}
		if len(findings) != 1 || findings[0].Level != source.Note {
			t.Errorf("%q: got the findings %+v, want one note", c.paths, findings)
		}
	}
}

func TestNew_refusesBadSettings(t *testing.T) {
	_, err := New(Settings{LineEnd: "cr", RecordBytesMax: -1}, quietLog())
	wantFault(t, err, fault.Misconfigured, "paths:", "line_end:", "record_bytes_max:")
}

// A position that was not made by this source is refused, and nothing is read.
func TestReader_refusesForeignPositions(t *testing.T) {
	path := write(t, "f", "a\nb\n")
	src := newSource(t, Settings{Paths: []string{path}})
	good := discover(t, src)[0]
	for _, change := range []func(s *source.Split){
		func(s *source.Split) { s.Identity = "2:4:x:y" },
		func(s *source.Split) { s.Identity = "1:-4:x:y" },
		func(s *source.Split) { s.Offset, s.Until = 5, 7 },
	} {
		s := good
		change(&s)
		_, err := src.Discover(t.Context(), []source.Split{s})
		wantFault(t, err, fault.Corrupt, path)
	}
	unbounded := good
	unbounded.Until = source.Unbounded
	_, err := src.Open(t.Context(), []source.Split{unbounded}, sourcetest.NewBudget(unlimited))
	wantFault(t, err, fault.Corrupt, path)
	_, err = src.Open(t.Context(), []source.Split{good, good}, sourcetest.NewBudget(unlimited))
	wantFault(t, err, fault.Misconfigured, "is read already")
}

func TestSpec_fitsTheSettings(t *testing.T) {
	spec := Spec()
	section := config.ParseSection("source", []byte("type = \"file\"\npaths = [\"a\", \"b\"]\nrecord_bytes_max = \"1MiB\"\n"), config.Env{})
	var s Settings
	if !section.Decode(spec, &s) {
		t.Fatal(section.Err())
	}
	want := Settings{Paths: []string{"a", "b"}, LineEnd: endLF, RecordBytesMax: 1 << 20}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Errorf("settings differ (-want +got):\n%s", diff)
	}
}

// FuzzReader compares what is read, in chunks of any size, with the plainest way of splitting lines.
func FuzzReader(f *testing.F) {
	f.Add([]byte("a\nb\r\n\nc"), uint8(3), uint8(4), true)
	f.Add([]byte("\n"), uint8(1), uint8(1), false)
	f.Add([]byte(strings.Repeat("x", 300)+"\n"+strings.Repeat("y", 7)), uint8(5), uint8(9), false)
	f.Add([]byte("ab\r\ncd\r\n"), uint8(3), uint8(1), true)
	f.Fuzz(func(t *testing.T, data []byte, chunk, limit uint8, crlf bool) {
		path := write(t, "f", string(data))
		s := Settings{Paths: []string{path}, RecordBytesMax: config.Bytes(limit) + 1}
		if crlf {
			s.LineEnd = endCRLF
		}
		src := newSource(t, s)
		src.chunk = int(chunk) + 1
		budget := sourcetest.NewBudget(unlimited)
		l := readAll(t, src, discover(t, src), budget)
		if diff := cmp.Diff(reference(data, crlf, int(limit)+1), l.Records[path]); diff != "" {
			t.Errorf("records differ (-want +got):\n%s", diff)
		}
		if budget.Used() != 0 {
			t.Errorf("got %d bytes in use at the end, want 0", budget.Used())
		}
	})
}
