package cli

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/examples"
	"github.com/ingestd/ingestd/pipeline"
)

// The oracle counts as sort and uniq do: what is no lower-case letter separates.
func TestSortUniq_countsEachWord(t *testing.T) {
	got := sortUniq([]byte("ba, bebe ba.\n- ba bebe\n\nda - "))
	if diff := cmp.Diff(map[string]int64{"ba": 3, "bebe": 2, "da": 1}, got); diff != "" {
		t.Error(diff)
	}
	if got := sortUniq(nil); len(got) != 0 {
		t.Errorf("got %v of nothing", got)
	}
}

// The text is the same each time, has every kind of separator, and its words are different ones.
func TestLineOf_makesTheSameTextAgain(t *testing.T) {
	var text, again strings.Builder
	for n := range int64(20_000) {
		text.WriteString(lineOf(n) + "\n")
		again.WriteString(lineOf(n) + "\n")
	}
	if text.String() != again.String() {
		t.Error("the text is another one the second time")
	}
	words := map[string]bool{}
	for n := range wordsInAll {
		words[wordOf(n)] = true
	}
	counts := sortUniq([]byte(text.String()))
	if len(words) != wordsInAll || len(counts) != wordsInAll {
		t.Errorf("got %d words, and %d in the text, want %d", len(words), len(counts), wordsInAll)
	}
	for word := range counts {
		if !words[word] {
			t.Errorf("%q is no word", word)
		}
	}
	if lineOf(7) == lineOf(8) || !strings.Contains(text.String(), ", ") || !strings.Contains(text.String(), " - ") {
		t.Error("the text is not what it should be")
	}
}

// Files and rows that a reader does not see don't count; each kind of wrong row shows, in a batch and in a stream.
func TestWordRows_compareFindsWhatIsWrong(t *testing.T) {
	want := map[string]int64{"ba": 3, "be": 2, "bi": 1}
	stream := "{\"word\":\"ba\",\"n\":1}\n{\"word\":\"be\",\"n\":2}\n{\"word\":\"ba\",\"n\":3}\n{\"word\":\"bi\",\"n\":1}\n"
	batch := "{\"word\":\"ba\",\"n\":3}\n{\"word\":\"be\",\"n\":2}\n{\"word\":\"bi\",\"n\":1}\n"
	for name, c := range map[string]struct {
		flow wordFlow
		text string
		want wordTally
	}{
		"batch":                  {wordBatch, batch, wordTally{words: 6, different: 3}},
		"stream":                 {wordStream, stream, wordTally{words: 6, different: 3}},
		"batch, a word twice":    {wordBatch, stream, wordTally{words: 6, different: 3, doubled: 1}},
		"batch, a row twice":     {wordBatch, batch + batch, wordTally{words: 6, different: 3, doubled: 3}},
		"stream, a row twice":    {wordStream, stream + "{\"word\":\"ba\",\"n\":1}\n", wordTally{words: 6, different: 3, doubled: 1}},
		"a count too low":        {wordBatch, strings.Replace(batch, "3", "1", 1), wordTally{words: 4, different: 3, lost: 2}},
		"a count too high":       {wordStream, strings.Replace(stream, "2", "4", 1), wordTally{words: 8, different: 3, surplus: 2}},
		"a word that is not":     {wordBatch, batch + "{\"word\":\"da\",\"n\":1}\n", wordTally{words: 7, different: 4, surplus: 1}},
		"a word that is missing": {wordBatch, strings.Join(strings.SplitAfter(batch, "\n")[1:], ""), wordTally{words: 3, different: 2, lost: 3}},
		"a broken row":           {wordBatch, batch + "{\"word\":\n", wordTally{words: 6, different: 3, broken: 1}},
	} {
		dir := t.TempDir()
		for file, text := range map[string]string{"a.ndjson": c.text, "_committed/b.ndjson": batch, ".hidden/c.ndjson": batch} {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o750); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		rows := newWordRows()
		for range 2 { // files that were read are not read again
			if err := rows.look(dir); err != nil {
				t.Fatal(err)
			}
		}
		c.want.run, c.want.kills = name, 8
		got := rows.compare(name, 8, want, c.flow)
		if got != c.want {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
		if right := name == string(c.flow); got.right() != right {
			t.Errorf("%s: right is %t, want %t", name, got.right(), right)
		}
	}
}

// A kill counts for the step that the log shows as begun and not ended, whatever it was aimed at.
func TestWithin_namesTheStepsThatAreOpen(t *testing.T) {
	for messages, want := range map[string]string{
		"trigger":                                                       "trigger",
		"trigger freeze":                                                "freeze",
		"trigger freeze freeze prepare":                                 "prepare",
		"trigger freeze prepare publish":                                "publish",
		"trigger freeze prepare publish commit":                         "commit",
		"trigger freeze prepare publish apply commit":                   "apply commit",
		"trigger freeze prepare publish apply applied commit":           "commit",
		"trigger freeze prepare publish commit apply committed":         "apply",
		"trigger freeze prepare publish commit apply applied committed": "",
		"trigger freeze prepare publish apply applied":                  "",
		"start":                          "start",
		"start publish":                  "publish",
		"start commit":                   "commit",
		"start commit committed restore": "restore",
		"start publish restore":          "restore",
		"start restore restored":         "",
		"start restore restored trigger": "trigger",
	} {
		var seen []pipeline.CheckpointStep
		for m := range strings.FieldsSeq(messages) {
			seen = append(seen, pipeline.CheckpointStep(m))
		}
		var got []string
		for _, s := range within(seen) {
			got = append(got, string(s))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %q, want %q", messages, got, want)
		}
	}
}

// Each of the eight steps has its kill, and a step that none struck fails the demo.
func TestMissed_failsUnlessEachStepIsStruck(t *testing.T) {
	d := wordDemo{random: rand.New(rand.NewPCG(1, 0))}
	var aimed []string
	for _, a := range d.aims() {
		aimed = append(aimed, string(a.step))
	}
	slices.Sort(aimed)
	if want := []string{"apply", "commit", "freeze", "prepare", "publish", "restore", "start", "trigger"}; !slices.Equal(aimed, want) {
		t.Errorf("got %q, want %q", aimed, want)
	}
	if err := missed(wordBatch, nil); err != nil {
		t.Errorf("got %v, want success", err)
	}
	err := missed(wordStream, []wordAim{{step: pipeline.StepFreeze}, {step: pipeline.StepApply}})
	if err == nil || !strings.Contains(err.Error(), "stream: no kill struck freeze, apply") {
		t.Errorf("got %v", err)
	}
}

// The demo runs the examples: their folder, their broker and their interval can be replaced, and nothing else is left of the folder.
func TestConfigure_replacesWhatTheExampleSays(t *testing.T) {
	s := wordSubject{dir: filepath.Join(t.TempDir(), "x")}
	if err := s.configure(examples.WordStream, "/tmp/wordstream", s.dir, "localhost:9092", "127.0.0.1:1", `interval = "1s"`, `interval = "50ms"`); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(s.configFile())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{s.dir + "/out", "127.0.0.1:1", `interval = "50ms"`, `level = "debug"`} {
		if !strings.Contains(string(data), want) {
			t.Errorf("the config lacks %q:\n%s", want, data)
		}
	}
	if err := s.configure(examples.WordCount, "no such text", ""); err == nil {
		t.Error("a text that the example lacks was replaced")
	}
}
