package step

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var rewrite = flag.Bool("rewrite", false, "rewrite golden files")

// golden compares text with a file of testdata, or rewrites the file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// TestBank_storedFormIsKept compares the bytes of accumulators with those that version 1 has always written, and reads them back. A
// change needs another version in the descriptor of the accumulators.
func TestBank_storedFormIsKept(t *testing.T) {
	var b strings.Builder
	for _, c := range []struct {
		text, typ string
		values    []string
	}{
		{"count(x)", "int64", []string{"1", "2", "3"}},
		{"sum(x)", "int64", []string{"300", "-1"}},
		{"sum(x)", "uint64", []string{"18446744073709551615"}},
		{"sum(x)", "decimal(38, 2)", []string{"-12345678901234567890.12"}},
		{"sum(x)", "nullable(int64)", []string{"null"}},
		{"sum(x)", "float64", []string{"1e16", "1"}},
		{"avg(x)", "int64", []string{"1", "2"}},
		{"min(x)", "int32", []string{"-2", "7"}},
		{"max(x)", "string", []string{"a", "bc"}},
		{"first(x)", "nullable(string)", []string{"null", "", "x"}},
		{"last(x)", "timestamp(3)", []string{"2020-01-01T00:00:00Z"}},
		{"first(x)", "array(nullable(string))", []string{`["a", null]`}},
		{"approx_count_distinct(x, 4)", "string", []string{"a"}},
		{"approx_count_distinct(x, 4)", "int64", []string{"1", "2", "3", "4", "5", "6", "7", "8", "9"}},
		{"top_k(x, 2)", "string", []string{"a", "b", "a"}},
	} {
		k, typ, rows := bankOf(t, c.text, c.typ)
		for _, v := range c.values {
			if strings.HasPrefix(v, "[") {
				put(t, &rows.Cols[0], []byte(v))
				continue
			}
			appendText(t, &rows.Cols[0], v)
		}
		k.grow(0)
		addAll(t, k, 0, rows)
		stored := k.save(nil, 0)
		k.grow(0)
		if _, err := k.load(stored); err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprintf(&b, "%s of %s over %s: %s = %s\n", c.text, c.typ, strings.Join(c.values, ", "), hex.EncodeToString(stored), result(t, k, typ, 1))
	}
	s := sessions{next: 3, spans: []sessionSpan{{start: 1000, end: 3000, id: 0, armed: 2000}, {start: 5000, end: 6000, id: 2, armed: 6000}}}
	stored := sessionsCodec().Append(nil, s)
	again, err := sessionsCodec().Decode(stored)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = fmt.Fprintf(&b, "sessions: %s = %+v\n", hex.EncodeToString(stored), again)
	golden(t, "accumulators-v1.txt", b.String())
}
