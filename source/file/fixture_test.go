package file

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/source"
	"github.com/ingestd/ingestd/source/sourcetest"
)

const unlimited = 1 << 40

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	put(t, path, text)
	return path
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func newSource(t *testing.T, s Settings) *Source {
	t.Helper()
	src, err := New(s, quietLog())
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func discover(t *testing.T, src *Source) []source.Split {
	t.Helper()
	splits, err := src.Discover(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return splits
}

// next polls once.
func next(t *testing.T, r source.Reader) (source.Fetch, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return r.Poll(ctx)
}

// readAll reads splits to their end.
func readAll(t *testing.T, src *Source, splits []source.Split, budget source.Budget) *sourcetest.Log {
	t.Helper()
	r, err := src.Open(t.Context(), splits, budget)
	if err != nil {
		t.Fatal(err)
	}
	l := sourcetest.NewLog(splits)
	for len(l.Finished) < len(splits) {
		f, err := next(t, r)
		if err != nil {
			t.Fatal(err)
		}
		if f.Next.Split == "" {
			t.Fatal("poll said nothing")
		}
		l.Take(t, f)
		if f.Release != nil {
			f.Release()
		}
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	return l
}

// reference splits data into the records that must come of it, in the plainest way.
func reference(data []byte, crlf bool, limit int) []sourcetest.Record { //nolint:revive // a setting
	var all []sourcetest.Record
	at := 0
	for _, part := range bytes.SplitAfter(data, []byte("\n")) {
		if len(part) == 0 {
			continue
		}
		text, ended := strings.CutSuffix(string(part), "\n")
		if ended && crlf {
			text = strings.TrimSuffix(text, "\r")
		}
		r := sourcetest.Record{Offset: record.Offset(at), Value: text}
		if len(text) > limit {
			r.Refused, r.Value = true, text[:limit]
		}
		all = append(all, r)
		at += len(part)
	}
	return all
}

func wantFault(t *testing.T, err error, kind fault.Kind, names ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("got no error, want one of the kind %s", kind)
	}
	if got := fault.KindOf(err); got != kind {
		t.Errorf("got the kind %s of %q, want %s", got, err, kind)
	}
	for _, name := range names {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("got %q, want it to name %q", err, name)
		}
	}
}
