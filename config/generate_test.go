package config_test

import (
	"strings"
	"testing"

	"github.com/ingestd/ingestd/config"
)

const active = `
[pipeline.demo]
source.type = "lines"
decode.type = "raw"
sink.type = "null"
`

func TestExample_isStable(t *testing.T) {
	expect(t, "example.golden.toml", config.Example(registry(), active))
}

func TestReference_isStable(t *testing.T) {
	expect(t, "reference.golden.md", config.Reference(registry()))
}

// TestExample_everyLineCanBeMadeActive: the example is right as it is, and each of its tables is right when the # before its
// lines is removed.
func TestExample_everyLineCanBeMadeActive(t *testing.T) {
	text := string(config.Example(registry(), active))
	f, pipelines := check("testdata/example.toml", text)
	if err := f.Err(); err != nil || len(pipelines) != 1 {
		t.Fatalf("as it is: %v, %d pipelines", err, len(pipelines))
	}
	_, every, _ := strings.Cut(text, "# Every key\n")
	tables := 0
	for block := range strings.SplitSeq(strings.ReplaceAll(every, "\n# ---- ", "\n\x00# ---- "), "\x00") {
		var document strings.Builder
		for line := range strings.Lines(block) {
			if rest, commented := strings.CutPrefix(line, "#"); commented && !strings.HasPrefix(rest, " ") && !strings.HasPrefix(rest, "\n") {
				document.WriteString(rest)
			}
		}
		tables += strings.Count(document.String(), "[pipeline.example") + strings.Count(document.String(), "[daemon")
		whole := "[pipeline.example]\n" + document.String()
		if strings.Contains(document.String(), "[pipeline.example]") {
			whole = document.String()
		}
		f, _ := check("testdata/block.toml", complete(whole))
		if err := f.Err(); err != nil {
			t.Errorf("%v\n%s", err, complete(whole))
		}
	}
	if tables < 15 {
		t.Errorf("got %d tables, want at least 15", tables)
	}
}

// complete adds the tables that a pipeline must have.
func complete(document string) string {
	for name, typ := range map[string]string{"source": "lines", "decode": "raw", "sink": "null"} {
		if !strings.Contains(document, "[pipeline.example."+name+"]") {
			document += "[pipeline.example." + name + "]\ntype = \"" + typ + "\"\n"
		}
	}
	return document
}

func TestReference_hasEveryKeyOnce(t *testing.T) {
	text := string(config.Reference(registry()))
	for _, key := range []string{
		"`data_dir`", "`log.level`", "`delivery`", "`brokers`", "`tls.ca_file`", "`listener[].port`", "`override.NAME.wait`", "`columns`",
		"`max_ratio`", "`interval`", "`backoff_max`",
	} {
		if got := strings.Count(text, "\n| "+key+" | "); got != 1 {
			t.Errorf("%s: got %d rows, want 1", key, got)
		}
	}
	for line := range strings.Lines(text) {
		if cells := strings.Count(strings.ReplaceAll(line, `\|`, ""), "|"); cells != 0 && cells != 6 {
			t.Errorf("got %d bars, want 6: %s", cells, line)
		}
	}
}
