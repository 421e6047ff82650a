package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// wordsInAll is how many different words there are. The first are far more frequent than the last, as in a language.
const wordsInAll = 2000

// lineOf makes the line of text with a number.
func lineOf(n int64) string {
	random := rand.New(rand.NewPCG(uint64(n), wordsInAll))
	var line strings.Builder
	for i := range 6 + random.IntN(9) {
		if i > 0 {
			line.WriteString([]string{" ", " ", " ", ", ", " - "}[random.IntN(5)])
		}
		u := random.Float64()
		line.WriteString(wordOf(int(wordsInAll * u * u * u)))
	}
	return line.String() + "."
}

// wordOf makes the word with a number, of two or three syllables.
func wordOf(n int) string {
	const consonants, vowels = "bdfgklmnprst", "aeiou"
	var word []byte
	for i := 0; i < 2 || n > 0; i++ {
		syllable := n % (len(consonants) * len(vowels))
		word = append(word, consonants[syllable/len(vowels)], vowels[syllable%len(vowels)])
		n /= len(consonants) * len(vowels)
	}
	return string(word)
}

// writeTexts writes so many lines into a few files of a folder.
func writeTexts(dir string, lines int) error {
	const files = 8
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	for f := range files {
		var text bytes.Buffer
		for n := f; n < lines; n += files {
			text.WriteString(lineOf(int64(n)) + "\n")
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.txt", f)), text.Bytes(), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// sortUniq counts the words of texts as `tr -cs a-z '\n' | sort | uniq -c` does. It shares nothing with the daemon.
func sortUniq(texts []byte) map[string]int64 {
	words := strings.FieldsFunc(string(texts), func(r rune) bool { return r < 'a' || r > 'z' })
	slices.Sort(words)
	counts := map[string]int64{}
	for len(words) > 0 {
		same := 1
		for same < len(words) && words[same] == words[0] {
			same++
		}
		counts[words[0]] = int64(same)
		words = words[same:]
	}
	return counts
}

// readTexts returns what is in the text files of a folder.
func readTexts(dir string) ([]byte, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		return nil, err
	}
	var all []byte
	for _, name := range names {
		text, err := os.ReadFile(name) //nolint:gosec // a file of the demo's own folder
		if err != nil {
			return nil, err
		}
		all = append(append(all, text...), '\n')
	}
	return all, nil
}

// wordRow is a row that the example writes.
type wordRow struct {
	Word string `json:"word"`
	N    int64  `json:"n"`
}

// wordRows is what the rows of a target say.
type wordRows struct {
	read   map[string]bool // files: what a reader sees does not change any more
	seen   map[wordRow]bool
	counts map[string]int64 // the highest of each word, which in a stream is the newest
	rows   int
	same   int // rows that were there already, word and count
	broken int
}

func newWordRows() *wordRows {
	return &wordRows{read: map[string]bool{}, seen: map[wordRow]bool{}, counts: map[string]int64{}}
}

// look reads the files that have appeared in a target.
func (w *wordRows) look(target string) error {
	return eachRowFile(target, func(path string) error {
		if w.read[path] {
			return nil
		}
		w.read[path] = true
		data, err := os.ReadFile(path) //nolint:gosec // a file of the demo's own folder
		if err != nil {
			return err
		}
		lines := bufio.NewScanner(bytes.NewReader(data))
		for lines.Scan() {
			w.take(lines.Bytes())
		}
		return lines.Err()
	})
}

func (w *wordRows) take(line []byte) {
	var row wordRow
	w.rows++
	switch err := json.Unmarshal(line, &row); {
	case err != nil || row.Word == "" || row.N <= 0:
		w.broken++
	case w.seen[row]:
		w.same++
	default:
		w.seen[row] = true
		w.counts[row.Word] = max(w.counts[row.Word], row.N)
	}
}

// sum is how many words the counts stand for.
func sum(counts map[string]int64) int64 {
	var n int64
	for _, c := range counts {
		n += c
	}
	return n
}

// wordTally compares the rows of one run with what they should say.
type wordTally struct {
	run       string
	kills     int
	words     int64 // that the counts stand for
	different int
	lost      int64 // words that are missing in the counts
	surplus   int64 // words that are in the counts too often
	doubled   int   // rows that are there twice
	broken    int
}

// compare finds what is wrong. In a batch each word has one row; in a stream its counts only grow, and each is there once.
func (w *wordRows) compare(run string, kills int, want map[string]int64, flow wordFlow) wordTally {
	t := wordTally{run: run, kills: kills, words: sum(w.counts), different: len(w.counts), doubled: w.same, broken: w.broken}
	if flow == wordBatch {
		t.doubled = w.rows - w.broken - len(w.counts)
	}
	for word, n := range want {
		t.lost += max(0, n-w.counts[word])
	}
	for word, n := range w.counts {
		t.surplus += max(0, n-want[word])
	}
	return t
}

func (t *wordTally) right() bool {
	return t.lost == 0 && t.surplus == 0 && t.doubled == 0 && t.broken == 0
}
