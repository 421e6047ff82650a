package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// event is a numbered record of the demo. Sum is the CRC-32 of number and text, so that a damaged row shows.
type event struct {
	Number int64  `json:"number"`
	Text   string `json:"text"`
	Sum    uint32 `json:"sum"`
}

// eventOf makes the event with a number; the oracle makes it again and compares.
func eventOf(n int64) event {
	e := event{Number: n, Text: strings.Repeat("abcdefghij"[n%10:n%10+1], int(20+n%50))}
	e.Sum = crc32.ChecksumIEEE(fmt.Appendf(nil, "%d %s", e.Number, e.Text))
	return e
}

// eachRowFile calls f with every file of rows that a reader of the target sees.
func eachRowFile(target string, f func(path string) error) error {
	return filepath.WalkDir(target, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && path != target && (strings.HasPrefix(e.Name(), ".") || e.Name() == "_committed"):
			return fs.SkipDir
		case e.IsDir() || !strings.Contains(e.Name(), ".ndjson"):
			return nil
		}
		return f(path)
	})
}

// count reads every visible row of the target and compares it with what was produced: numbers 0 to produced - 1.
func (t *tally) count(target string) error {
	seen := make([]int, t.produced)
	t.found, t.lost, t.doubled, t.altered = 0, 0, 0, 0
	err := eachRowFile(target, func(path string) error { return t.countFile(path, seen) })
	for _, n := range seen {
		switch {
		case n == 0:
			t.lost++
		case n > 1:
			t.doubled += n - 1
		}
	}
	return err
}

func (t *tally) countFile(path string, seen []int) error {
	data, err := os.ReadFile(path) //nolint:gosec // a file of the demo's own folder
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		t.found++
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Number < 0 || e.Number >= int64(len(seen)) || e != eventOf(e.Number) {
			t.altered++
			continue
		}
		seen[e.Number]++
	}
	return lines.Err()
}
