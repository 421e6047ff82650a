package config_test

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"

	"github.com/ingestd/ingestd/config"
)

// FuzzParse feeds any bytes as a file. Nothing panics; the places of errors lie in the file; the secret does not come out; a
// second pass finds nothing new; and whether the syntax is right is judged as the TOML library judges it.
func FuzzParse(f *testing.F) {
	paths, err := filepath.Glob("testdata/*.toml")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("a = \"\"\"\n[b]\nc = [{d=1}, [2, [3]]]\n\"\" = 1979-05-27T07:32:00-08:00\n'x'.y = 0x_1"))
	f.Add([]byte("a.b.c = 1\n[a.b.d]\nx = 1\n[[a.e]]\n[a.e.f]\n[[a.e]]\n[a.e.f]\n[a.e.f.g]\nh.i = {j.k = 1, j.l = 2}\nh.m = 3"))
	f.Add([]byte("[x.y.z]\n[x]\n[x.y]\nq.r = 1\n[x.y.q.s]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, pipelines := check("testdata/fuzz.toml", string(data))
		decode(t, file, pipelines)
		first := file.Err()
		file.Daemon()
		decode(t, file, file.Pipelines(registry()))
		if again := file.Err(); (first == nil) != (again == nil) || first != nil && first.Error() != again.Error() {
			t.Errorf("the second pass gives %v, the first gave %v", again, first)
		}
		lines := strings.Count(string(data), "\n") + 1
		if errs, ok := first.(config.Errors); ok { //nolint:errorlint // Err says that it is nothing else
			for _, e := range errs {
				if e.Line < 1 || e.Line > lines || e.Column < 1 || e.Column > len(data)+1 {
					t.Errorf("the place %d:%d is outside the file", e.Line, e.Column)
				}
				if strings.Contains(e.Error(), canary) && !strings.Contains(string(data), canary) {
					t.Errorf("the secret is in the error %v", e)
				}
			}
		}
		judge(t, data, first)
	})
}

// judge compares the errors of a file with what the TOML library says about it: nothing passes that the library refuses, and
// what it takes has no error of syntax and no key set twice.
func judge(t *testing.T, data []byte, got error) {
	t.Helper()
	var reference map[string]any
	err := toml.Unmarshal(bytes.TrimPrefix(data, []byte("\ufeff")), &reference)
	if got == nil && err != nil {
		t.Errorf("accepted, but the library says: %v", err)
	}
	if err == nil && got != nil && (strings.Contains(got.Error(), ": TOML syntax: ") || strings.Contains(got.Error(), " is already ")) {
		t.Errorf("the library accepts it, but: %v", got)
	}
}

// decode does what plugins and the manifest do with the pipelines of a file.
func decode(t *testing.T, file *config.File, pipelines []config.Pipeline) {
	t.Helper()
	for i := range pipelines {
		if file.PipelineDigest(pipelines[i].Name) == "" {
			t.Error("a pipeline has no digest")
		}
		s := pipelines[i].Source
		if s == nil || s.Type() != "broker" {
			continue
		}
		if ok := s.Decode(brokerSpec(), &brokerSettings{}); !ok && s.Err() == nil || ok && file.Err() == nil && s.Err() != nil {
			t.Error("Decode and Err do not agree")
		}
	}
}

// TestParse_memoryIsBounded: long files, made of whatever costs most per byte, cost a bounded multiple of their size; with the
// limit on a file's size that bounds the memory. All allocations count, whether or not they were collected meanwhile.
func TestParse_memoryIsBounded(t *testing.T) {
	const size = 1 << 18
	for name, unit := range map[string]string{
		"tables":  "[[a]]\n",
		"nested":  "[[a.a.a.a.a.a.a.a.a.a.a.a.a.a.a]]\n",
		"errors":  "=\n",
		"strings": "a = \"\"\"\n",
		"arrays":  "a = [[[[[[[[[[",
		"braces":  "a = {a={a={a={a={a={",
		"lines":   "\n",
		"headers": "[a\n",
		"escapes": `"\u00e9"`,
		"keys":    "a.",
	} {
		document := strings.Repeat(unit, size/len(unit))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f, _ := check("f.toml", document)
		if err := f.Err(); err == nil && name != "lines" {
			t.Errorf("%s: got no error", name)
		}
		runtime.ReadMemStats(&after)
		// The most costly of them allocate about 130 bytes per byte of the file.
		const factor = 400
		if got := (after.TotalAlloc - before.TotalAlloc) / size; got > factor {
			t.Errorf("%s: got %d bytes allocated per byte of the file, want at most %d", name, got, factor)
		} else {
			t.Logf("%s: %d bytes per byte", name, got)
		}
	}
}
