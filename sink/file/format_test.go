package file

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/codec"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// lines is an encoder in the test's hand: each row is its number in brackets, and what is behind a column's name in the header.
type lines struct {
	header string
	mark   string // behind each number
	refuse int64  // the number of the row that has no form
	file   codec.FileFormat
}

func (l *lines) FileFormat() (codec.FileFormat, error) { return l.file, nil }
func (l *lines) FileHeader(s *record.Schema) []byte {
	if l.header == "" {
		return nil
	}
	return []byte(l.header + s.Fields[0].Name + l.file.End)
}

func (l *lines) New(*record.Schema) (codec.Encoder, error) { return l, nil }

func (l *lines) Encode(dst []byte, b *record.Batch, row int) ([]byte, record.Refusal, bool) {
	if b.Cols[0].Int(row) == l.refuse {
		return dst, record.Refusal{Row: row, Reason: "no form", Column: "n", Byte: -1}, false
	}
	return append(codec.AppendJSONValue(dst, &b.Cols[0], row), l.mark...), record.Refusal{}, true
}

func newLines(change func(l *lines)) *lines {
	l := &lines{header: "#", refuse: -1, file: codec.FileFormat{Extension: ".lst", End: "\n", Identity: "lines"}}
	change(l)
	return l
}

// all shows the final files of a folder with their content.
func all(t *testing.T, d disk) string {
	t.Helper()
	var b strings.Builder
	for _, name := range list(t, d, ".") {
		b.WriteString(name[strings.Index(name, "-")+1:] + ":" + strings.ReplaceAll(content1(t, d, name), "\n", "|") + "\n")
	}
	return b.String()
}

// Each file begins with the header, also one that a successor goes on with, and no file has it twice: files are joined only
// without one.
func TestFormat_headerOfEachFile(t *testing.T) {
	d := newMemDisk()
	s := Settings{Encoder: newLines(func(*lines) {})}
	p := start(t, d, s, 1, sink.Assembled{})
	p.write(0, 1)
	p.write(1, 1)
	from := p.cut(0, false)
	// The successor has one task for the two files.
	q := begin(t, d, s, 2, 1)
	if err := q.sink.Restore(t.Context(), from.State, nil); err != nil {
		t.Fatal(err)
	}
	q.commits = &Committer{sink: q.sink}
	if err := q.commits.Fence(t.Context()); err != nil {
		t.Fatal(err)
	}
	q.offset = 2
	q.write(0, 2)
	for _, c := range q.cut(0, true).Committables {
		q.commit(c)
	}
	want := "0000000002-000000000001-0000000.lst:#n|1|\n0000000002-000000000001-0065536.lst:#n|0|2|3|\n"
	if diff := cmp.Diff(want, all(t, d)); diff != "" {
		t.Fatal(diff)
	}
}

// A file in progress is not gone on with in another format, nor under another header: it is complete at the first checkpoint.
func TestFormat_anotherOneBeginsAFile(t *testing.T) {
	for name, next := range map[string]*lines{
		"json":     nil,
		"identity": newLines(func(l *lines) { l.file.Identity = "other" }),
		"header":   newLines(func(l *lines) { l.header = "%" }),
	} {
		t.Run(name, func(t *testing.T) {
			d := newMemDisk()
			p := start(t, d, Settings{Encoder: newLines(func(*lines) {})}, 1, sink.Assembled{})
			p.write(0, 1)
			from := p.cut(0, false)
			var s Settings
			form := "{\"n\":1}|"
			if next != nil {
				s.Encoder, form = next, next.header+"n|1|"
			}
			q := start(t, d, s, 2, from)
			q.offset = 1
			q.write(0, 1)
			for _, c := range q.cut(0, false).Committables {
				q.commit(c)
			}
			q.number++
			for _, c := range q.cut(0, true).Committables {
				q.commit(c)
			}
			got := all(t, d)
			if !strings.HasPrefix(got, "0000000002-000000000001-0000000.lst:#n|0|\n") || !strings.HasSuffix(got, form+"\n") {
				t.Errorf("got %s, want the old file and then one with %s", got, form)
			}
		})
	}
}

// A row without a form is refused, and so is one whose form holds the line end of a format that can't hold it. A file is made
// with the first row that has a form, so none is without rows.
func TestFormat_refusals(t *testing.T) {
	d := newMemDisk()
	encoder := newLines(func(l *lines) { l.refuse = 0 })
	p := start(t, d, Settings{Encoder: encoder}, 1, sink.Assembled{})
	w, err := p.sink.Writer(t.Context(), 0, rows(0, 0).Schema)
	if err != nil {
		t.Fatal(err)
	}
	p.writers[0] = w
	refused, err := w.Write(t.Context(), rows(0, 1))
	if err != nil || len(refused) != 1 || refused[0].Reason != "no form" {
		t.Fatalf("got %+v, %v", refused, err)
	}
	if a := p.cut(0, true); len(a.Committables) != 0 || len(list(t, d, progressOf(p))) != 0 {
		t.Fatalf("got %+v and files %v, want nothing", a, list(t, d, progressOf(p)))
	}
	encoder.mark = "\n"
	if refused, err = w.Write(t.Context(), rows(1, 1)); err != nil || len(refused) != 1 || !strings.Contains(refused[0].Reason, "line end") {
		t.Fatalf("got %+v, %v, want a refusal of the line end", refused, err)
	}
	encoder.mark = ""
	if refused, err = w.Write(t.Context(), rows(2, 2)); err != nil || len(refused) != 0 {
		t.Fatalf("got %+v, %v", refused, err)
	}
	encoder.mark, encoder.file.Quoted = "\n", true
	quoted, err := newFormat(encoder)
	if err != nil {
		t.Fatal(err)
	}
	form, err := quoted.of(rows(0, 0).Schema)
	if err != nil {
		t.Fatal(err)
	}
	if out, _, ok := form.append(nil, rows(1, 1), 0); !ok || string(out) != "1\n\n" {
		t.Errorf("got %q %t, want the form with its line end", out, ok)
	}
	a := p.cut(0, true)
	if len(a.Committables) != 1 || a.Committables[0].Rows != 2 {
		t.Fatalf("got %+v, want one file of 2 rows", a.Committables)
	}
	p.commit(a.Committables[0])
	if got, want := all(t, d), "0000000001-000000000002-0000000.lst:#n|2|3|\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// plainEncoder is an encoder that no file can hold.
type plainEncoder struct{ codec.EncoderFactory }

func TestNew_encoderMustFitAFile(t *testing.T) {
	_, err := New(Settings{Path: "p", Encoder: plainEncoder{}})
	if err == nil || fault.KindOf(err) != fault.Misconfigured || !strings.Contains(err.Error(), "can't stand in a file") {
		t.Errorf("got %v", err)
	}
}

// A state with a format has a version of its own, which is read; one without is version 1 as ever.
func TestFormat_versionOfTheState(t *testing.T) {
	for _, test := range []struct {
		settings Settings
		want     string
	}{{Settings{}, `{"version":1,`}, {Settings{Encoder: newLines(func(*lines) {})}, `{"version":2,`}} {
		d := newMemDisk()
		p := start(t, d, test.settings, 1, sink.Assembled{})
		p.write(0, 1)
		from := p.cut(0, false)
		if !strings.HasPrefix(string(from.State), test.want) {
			t.Errorf("got state %s, want %s", from.State, test.want)
		}
		start(t, d, test.settings, 2, from)
	}
	_, err := readState("test", []byte(`{"version":3}`))
	if fault.KindOf(err) != fault.Misconfigured {
		t.Errorf("got error %v for a version of the future, want a misconfigured one", err)
	}
}
