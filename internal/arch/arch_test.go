package arch_test

import (
	_ "embed"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/internal/arch"
)

//go:embed lattice.txt
var lattice string

// load reads a tree and fails the test when it can't.
func load(t *testing.T, root string) *arch.Tree {
	t.Helper()
	tree, err := arch.Load(root, lattice)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestTree_keepsItsRules(t *testing.T) {
	tree := load(t, filepath.Join("..", ".."))
	for _, rule := range arch.Rules() {
		t.Run(rule.Name, func(t *testing.T) {
			for _, f := range rule.Check(tree) {
				t.Error(f)
			}
		})
	}
}

// rule returns the rule of that name.
func rule(t *testing.T, name string) arch.Rule {
	t.Helper()
	for _, r := range arch.Rules() {
		if r.Name == name {
			return r
		}
	}
	t.Fatalf("got no rule %q, want one", name)
	return arch.Rule{}
}

// write makes a tree of a few files: "name: content" by file. A module and an empty list of invariants are added.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	all := map[string]string{"go.mod": "module example.org/m\n", "docs/invariants.md": "# None\n"}
	maps.Copy(all, files)
	for name, text := range all {
		file := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// A treeCase is a small tree and the places and faults that one rule must report in it; none means that it must be silent.
type treeCase struct {
	name  string
	files map[string]string
	want  []string
}

func run(t *testing.T, ruleName string, cases []treeCase) {
	t.Helper()
	r := rule(t, ruleName)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, f := range r.Check(load(t, write(t, c.files))) {
				if f.Remedy == "" {
					t.Errorf("got no remedy for %s, want one", f.Place)
				}
				got = append(got, f.Place+": "+f.What)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

// file is a Go file of a package that imports the given paths, each on a line of its own from line 3 on.
func file(pkg string, imports ...string) string {
	var b strings.Builder
	b.WriteString("package " + pkg + "\n\n")
	for _, i := range imports {
		b.WriteString("import \"" + i + "\"\n")
	}
	return b.String()
}

func TestImports_followTheLattice(t *testing.T) {
	const m = "example.org/m/"
	run(t, "imports follow the lattice", []treeCase{
		{"down, far down and to leaves", map[string]string{
			"pipeline/p.go":             file("pipeline", m+"pipeline/machine", m+"step", m+"record", m+"fault", m+"internal/invariant"),
			"pipeline/machine/m.go":     file("machine", m+"checkpoint", m+"source", m+"config"),
			"sink/file/f.go":            file("file", m+"sink", m+"codec", m+"fault", m+"sink/file/roll"),
			"sink/sinktest/s.go":        file("sinktest", m+"sink", m+"record"),
			"internal/telemetry/t.go":   file("telemetry", m+"internal/invariant", m+"fault"),
			"cmd/ingestd/main.go":       file("main", m+"cli", m+"plugins"),
			"plugins/plugins.go":        file("plugins", m+"cli", m+"state/local", m+"sink/file", m+"source/kafka"),
			"sink/file/f_test.go":       file("file_test", m+"sink/file", m+"sink/sinktest", m+"checkpoint/storetest"),
			"integration/i_test.go":     file("integration", m+"cmd/ingestd", m+"sink/file", m+"cli"),
			"integration/bench/b.go":    file("main", m+"integration", m+"pipeline"),
			"checkpoint/filestore/f.go": file("filestore", m+"checkpoint", m+"internal/inject"),
		}, nil},
		{
			"up",
			map[string]string{"record/r.go": file("record", m+"config")},
			[]string{"record/r.go:3: record may not import config"},
		},
		{
			"sideways between roles",
			map[string]string{"source/s.go": file("source", m+"sink")},
			[]string{"source/s.go:3: source may not import sink"},
		},
		{
			"up from a leaf",
			map[string]string{"fault/f.go": file("fault", m+"record")},
			[]string{"fault/f.go:3: fault may not import record"},
		},
		{
			"up in a test",
			map[string]string{"record/r_test.go": file("record_test", m+"pipeline")},
			[]string{"record/r_test.go:3: record may not import pipeline"},
		},
		{
			"another plugin",
			map[string]string{"sink/file/f.go": file("file", m+"sink/memory", m+"codec/json")},
			[]string{"sink/file/f.go:3: sink/file may not import sink/memory", "sink/file/f.go:4: sink/file may not import codec/json"},
		},
		{
			"pipeline from a plugin",
			map[string]string{"sink/file/f.go": file("file", m+"pipeline")},
			[]string{"sink/file/f.go:3: sink/file may not import pipeline"},
		},
		{
			"a plugin from its role",
			map[string]string{"sink/s.go": file("sink", m+"sink/file")},
			[]string{"sink/s.go:3: sink may not import sink/file"},
		},
		{
			"a plugin from cli",
			map[string]string{"cli/c.go": file("cli", m+"sink/file")},
			[]string{"cli/c.go:3: cli may not import sink/file"},
		},
		{
			"a plugin in a test of what is below",
			map[string]string{"pipeline/p_test.go": file("pipeline_test", m+"sink/memory")},
			[]string{"pipeline/p_test.go:3: pipeline may not import sink/memory"},
		},
		{
			"a suite outside of tests",
			map[string]string{"pipeline/p.go": file("pipeline", m+"sink/sinktest")},
			[]string{"pipeline/p.go:3: pipeline may not import sink/sinktest"},
		},
		{
			"integration from below",
			map[string]string{"cli/c_test.go": file("cli", m+"integration")},
			[]string{"cli/c_test.go:3: cli may not import integration"},
		},
		{
			"the driver from the machine",
			map[string]string{"pipeline/machine/m.go": file("machine", m+"pipeline")},
			[]string{"pipeline/machine/m.go:3: pipeline/machine may not import pipeline"},
		},
		{
			"a folder without a place",
			map[string]string{"utils/u.go": file("utils")},
			[]string{"utils/u.go: package utils has no place in the lattice"},
		},
	})
}

// A package that the lattice names for simulations may use plugins in its tests, and only there.
func TestImports_letSimulationsUsePlugins(t *testing.T) {
	root := write(t, map[string]string{
		"pipeline/p_test.go": file("pipeline_test", "example.org/m/sink/memory"),
		"pipeline/p.go":      file("pipeline", "example.org/m/sink/memory"),
	})
	tree, err := arch.Load(root, lattice+"\nsimulation pipeline\n")
	if err != nil {
		t.Fatal(err)
	}
	got := rule(t, "imports follow the lattice").Check(tree)
	if len(got) != 1 || got[0].Place != "pipeline/p.go:3" {
		t.Errorf("got %v, want one finding at pipeline/p.go:3", got)
	}
}

func TestModules_stayInTheirHomes(t *testing.T) {
	run(t, "third parties stay in their homes", []treeCase{
		{"at home", map[string]string{
			"source/kafka/k.go":       file("kafka", "github.com/twmb/franz-go/pkg/kgo", "context"),
			"cli/demo.go":             file("cli", "github.com/twmb/franz-go/pkg/kfake"),
			"source/kafka/k_test.go":  file("kafka", "github.com/twmb/franz-go/pkg/kfake", "github.com/google/go-cmp/cmp"),
			"sink/sinktest/s.go":      file("sinktest", "github.com/google/go-cmp/cmp"),
			"sink/file/f.go":          file("file", "github.com/klauspost/compress/zstd", "github.com/go-json-experiment/json"),
			"integration/i.go":        file("integration", "github.com/testcontainers/testcontainers-go", "github.com/any/thing"),
			"internal/telemetry/t.go": file("telemetry", "github.com/prometheus/client_golang/prometheus"),
		}, nil},
		{
			"Kafka in a sink of another kind",
			map[string]string{"sink/file/f.go": file("file", "github.com/twmb/franz-go/pkg/kgo")},
			[]string{"sink/file/f.go:3: sink/file is not a home of github.com/twmb/franz-go/pkg/kgo"},
		},
		{
			"the fake broker in production code",
			map[string]string{"source/kafka/k.go": file("kafka", "github.com/twmb/franz-go/pkg/kfake")},
			[]string{"source/kafka/k.go:3: source/kafka is not a home of github.com/twmb/franz-go/pkg/kfake"},
		},
		{
			"containers in a unit test",
			map[string]string{"sink/clickhouse/c_test.go": file("clickhouse", "github.com/testcontainers/testcontainers-go")},
			[]string{"sink/clickhouse/c_test.go:3: sink/clickhouse is not a home of github.com/testcontainers/testcontainers-go"},
		},
		{
			"test modules in production code",
			map[string]string{"record/r.go": file("record", "github.com/google/go-cmp/cmp")},
			[]string{"record/r.go:3: record is not a home of github.com/google/go-cmp/cmp"},
		},
		{
			"a name that only begins alike",
			map[string]string{"source/kafka/k.go": file("kafka", "github.com/twmb/franz-gone")},
			[]string{"source/kafka/k.go:3: module of github.com/twmb/franz-gone has no home"},
		},
		{
			"a stranger",
			map[string]string{"cli/c.go": file("cli", "github.com/urfave/cli")},
			[]string{"cli/c.go:3: module of github.com/urfave/cli has no home"},
		},
	})
}

func TestStandardLibrary_staysOutOfPurePackages(t *testing.T) {
	run(t, "the standard library stays out of pure packages", []treeCase{
		{"in tests and elsewhere", map[string]string{
			"pipeline/machine/m_test.go": file("machine", "os", "sync"),
			"pipeline/p.go":              file("pipeline", "os", "sync", "net/http"),
			"record/r.go":                file("record", "io", "sync"),
		}, nil},
		{"in pure packages", map[string]string{
			"pipeline/machine/m.go": file("machine", "sync/atomic", "math/rand/v2", "slices"),
			"record/r.go":           file("record", "os"),
		}, []string{
			"pipeline/machine/m.go:3: pipeline/machine is pure and may not import sync/atomic",
			"pipeline/machine/m.go:4: pipeline/machine is pure and may not import math/rand/v2",
			"record/r.go:3: record is pure and may not import os",
		}},
	})
}

func TestPackages_haveExactlyOneDoc(t *testing.T) {
	run(t, "every package has exactly one package doc", []treeCase{
		{"one each", map[string]string{
			"sink/a.go":             "// Package sink is a role.\npackage sink\n",
			"sink/b.go":             "//go:build linux\n\npackage sink\n",
			"sink/a_test.go":        "package sink_test\n",
			"cmd/ingestd/main.go":   "// Command ingestd is the daemon.\npackage main\n",
			"integration/i_test.go": "// Package integration has tests only.\npackage integration_test\n",
			"sink/testdata/x/x.go":  "package nothing\n",
			"tools/go.mod":          "module other\n",
			"tools/t.go":            "package tools\n",
		}, nil},
		{
			"none",
			map[string]string{"sink/a.go": "package sink\n"},
			[]string{"sink/a.go: package sink has no package doc"},
		},
		{
			"a directive is none",
			map[string]string{"sink/a.go": "//nolint:revive // because\npackage sink\n"},
			[]string{"sink/a.go: package sink has no package doc"},
		},
		{
			"two",
			map[string]string{"sink/a.go": "// Package sink is.\npackage sink\n", "sink/b.go": "// Package sink is too.\npackage sink\n"},
			[]string{"sink/b.go: a second package doc of sink"},
		},
		{
			"another beginning",
			map[string]string{"cli/a.go": "// The command line.\npackage cli\n"},
			[]string{`cli/a.go: the package doc does not begin with "Package cli "`},
		},
	})
}

func TestCode_doesNothingAtImport(t *testing.T) {
	run(t, "nothing runs at import", []treeCase{
		{"methods, embedding", map[string]string{"sink/a.go": "package sink\n\nimport _ \"embed\"\n\ntype t int\n\nfunc (t) init() {}\n"}, nil},
		{"init", map[string]string{"sink/a.go": "package sink\n\nfunc init() {}\n"}, []string{"sink/a.go:3: func init"}},
		{"import for effect, also in a test", map[string]string{
			"sink/a.go":      "package sink\n\nimport _ \"time/tzdata\"\n",
			"sink/a_test.go": "package sink\n\nimport _ \"net/http/pprof\"\n",
		}, []string{"sink/a.go:3: import of time/tzdata for its effect", "sink/a_test.go:3: import of net/http/pprof for its effect"}},
	})
}

func TestSleep_staysInBubbles(t *testing.T) {
	const head = "package sink\n\nimport (\n\t\"testing\"\n\t\"testing/synctest\"\n\t\"time\"\n)\n\n"
	run(t, "time.Sleep stays in bubbles", []treeCase{
		{"in a bubble, and in functions that are named only there", map[string]string{"sink/a_test.go": head + `
func TestA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { time.Sleep(1); wait(2) })
	synctest.Test(t, named)
}
func wait(n int) { deep() }
func deep()      { time.Sleep(1) }
func named(t *testing.T) { time.Sleep(1) }
`}, nil},
		{"in what is given to a function that opens a bubble for it", map[string]string{"sink/a_test.go": head + `
func TestA(t *testing.T) { in(t, func() { time.Sleep(1) }) }
func in(t *testing.T, f func()) { synctest.Test(t, func(t *testing.T) { f() }) }
`}, nil},
		{"in what is given to a function that also calls it in real time", map[string]string{"sink/a_test.go": head + `func TestA(t *testing.T) { in(t, func() { time.Sleep(1) }) }
func in(t *testing.T, f func()) { f(); synctest.Test(t, func(t *testing.T) { f() }) }
`}, []string{"sink/a_test.go:9: time.Sleep outside a synctest bubble"}},
		{
			"in production code, under another name",
			map[string]string{"sink/a.go": "package sink\n\nimport clock \"time\"\n\nfunc f() { clock.Sleep(1) }\n"},
			[]string{"sink/a.go:5: time.Sleep outside a synctest bubble"},
		},
		{
			"in a test without a bubble",
			map[string]string{"sink/a_test.go": head + "func TestA(t *testing.T) { time.Sleep(1); synctest.Test(t, nil) }\n"},
			[]string{"sink/a_test.go:9: time.Sleep outside a synctest bubble"},
		},
		{"in a function that is named in both times", map[string]string{"sink/a_test.go": head + `func TestA(t *testing.T) { synctest.Test(t, func(t *testing.T) { wait() }) }
func TestB(t *testing.T) { wait() }
func wait()              { deep() }
func deep()              { time.Sleep(1) }
`}, []string{"sink/a_test.go:12: time.Sleep outside a synctest bubble"}},
		{
			"in a function that nobody calls",
			map[string]string{"sink/a_test.go": head + "func wait() { time.Sleep(1) }\n"},
			[]string{"sink/a_test.go:9: time.Sleep outside a synctest bubble"},
		},
		{
			"handed on as a value",
			map[string]string{"sink/a_test.go": head + "var f = time.Sleep\n"},
			[]string{"sink/a_test.go:9: time.Sleep outside a synctest bubble"},
		},
		{
			"synctest of somebody else",
			map[string]string{"sink/a_test.go": "package sink\n\nimport (\n\t\"time\"\n\tsynctest \"example.org/other\"\n)\n\nfunc TestA() { synctest.Test(func() { time.Sleep(1) }) }\n"},
			[]string{"sink/a_test.go:8: time.Sleep outside a synctest bubble"},
		},
	})
}

func TestInvariants_areAssertedAndTested(t *testing.T) {
	const (
		head  = "| id | statement | asserted in | tested in |\n|---|---|---|---|\n"
		row   = head + "| I1 | one \\| two | `sink` | `sink/a_test.go` |\n"
		check = "package sink\n\nimport \"example.org/m/internal/invariant\"\n\nfunc f() { invariant.Check(\"I1\", true) }\n"
		test  = "package sink\n\n// I1 holds.\nfunc TestA() {}\n"
	)
	run(t, "invariants are asserted and tested", []treeCase{
		{"asserted and tested", map[string]string{"docs/invariants.md": row, "sink/a.go": check, "sink/a_test.go": test}, nil},
		{"asserted through a wrapper", map[string]string{
			"docs/invariants.md": row, "sink/a_test.go": test,
			"sink/a.go": "package sink\n\nimport \"example.org/m/internal/invariant\"\n\nfunc (m *M) check(id string, ok bool) { invariant.Check(id, ok) }\n\nfunc (m *M) f() { m.check(\"I1\", true) }\n",
		}, nil},
		{"not built, and not there", map[string]string{"docs/invariants.md": head + "| I8 | later | not built (`state`) | not built |\n"}, nil},
		{
			"not asserted",
			map[string]string{"docs/invariants.md": row, "sink/a.go": "package sink\n\n// I1\n", "sink/a_test.go": check + "\n// I1\n"},
			[]string{"docs/invariants.md:3: I1 is not asserted in sink"},
		},
		{
			"asserted elsewhere",
			map[string]string{"docs/invariants.md": row, "cli/a.go": check, "sink/a_test.go": test},
			[]string{"docs/invariants.md:3: I1 is not asserted in sink"},
		},
		{
			"not tested",
			map[string]string{"docs/invariants.md": row, "sink/a.go": check, "sink/a_test.go": "package sink\n\n// I11\n"},
			[]string{"docs/invariants.md:3: I1 is not tested in sink/a_test.go"},
		},
		{
			"no test named",
			map[string]string{"docs/invariants.md": head + "| I1 | one | `sink` | |\n", "sink/a.go": check},
			[]string{"docs/invariants.md:3: I1 names no test"},
		},
		{
			"no place named",
			map[string]string{"docs/invariants.md": head + "| I1 | one | everywhere | `sink` |\n"},
			[]string{"docs/invariants.md:3: I1 names no place"},
		},
		{
			"not built, but there",
			map[string]string{"docs/invariants.md": head + "| I8 | later | not built (`state`) | |\n", "state/s.go": file("state")},
			[]string{"docs/invariants.md:3: I8 is said to be not built, but is"},
		},
		{
			"asserted and not listed",
			map[string]string{"sink/a.go": check},
			[]string{"sink/a.go: I1 is asserted and not listed"},
		},
		{
			"an id used again",
			map[string]string{"docs/invariants.md": row + "| I1 | again | `sink` | `sink` |\n", "sink/a.go": check, "sink/a_test.go": test},
			[]string{"docs/invariants.md:4: I1 is out of order or given twice"},
		},
		{
			"an id that is computed",
			map[string]string{"sink/a.go": "package sink\n\nimport \"example.org/m/internal/invariant\"\n\nfunc f(x int) { s := \"I1\"; invariant.Check(s, true) }\n"},
			[]string{"sink/a.go:5: an assertion without a literal id"},
		},
		{
			"a wrapper's id that is computed",
			map[string]string{"sink/a.go": "package sink\n\nimport \"example.org/m/internal/invariant\"\n\nfunc w(id string) { invariant.Check(id, true) }\n\nfunc f() { w(g()) }\n"},
			[]string{"sink/a.go:7: an assertion without a literal id"},
		},
	})
}

func TestInvariants_needTheirList(t *testing.T) {
	root := write(t, nil)
	if err := os.Remove(filepath.Join(root, "docs", "invariants.md")); err != nil {
		t.Fatal(err)
	}
	got := rule(t, "invariants are asserted and tested").Check(load(t, root))
	if len(got) != 1 || got[0].Place != "docs/invariants.md" {
		t.Errorf("got %v, want one finding at docs/invariants.md", got)
	}
}

func TestTestdata_isRead(t *testing.T) {
	run(t, "testdata holds no dead files", []treeCase{
		{"by name, pattern, folder, embedding, corpus and test name", map[string]string{
			"sink/a_test.go":      "package sink\n\nimport \"path/filepath\"\n\n//go:embed testdata/e.txt\nvar e string\n\nvar f = []string{\"a.txt\", \"testdata/*.toml\", \"testdata/dir\", \".golden\"}\n\nfunc FuzzA() {}\n\nfunc TestOut() { filepath.Join(\"testdata\") }\n",
			"sink/testdata/a.txt": "", "sink/testdata/b.toml": "", "sink/testdata/dir/deep/c": "", "sink/testdata/e.txt": "",
			"sink/testdata/fuzz/FuzzA/1": "", "sink/testdata/TestOut.golden": "",
		}, nil},
		{"by a walk", map[string]string{
			"sink/a_test.go":    "package sink\n\nimport \"x/datadriven\"\n\nfunc TestA() { datadriven.Walk(t, \"testdata\", nil) }\n",
			"sink/testdata/a":   "",
			"sink/testdata/b/c": "",
		}, nil},
		{"by nobody", map[string]string{
			"sink/a_test.go":      "package sink\n\nvar f = []string{\"testdata\", \"b.txt\", \"testdata/*.toml\", \".golden\", \"other\"}\n\nfunc FuzzB() {}\n",
			"sink/testdata/a.txt": "", "sink/testdata/d/a.toml": "", "sink/testdata/fuzz/FuzzA/1": "", "sink/testdata/TestGone.golden": "",
			"codec/testdata/b.txt": "",
		}, []string{
			"codec/testdata/b.txt: no test of codec reads it",
			"sink/testdata/TestGone.golden: no test of sink reads it",
			"sink/testdata/a.txt: no test of sink reads it",
			"sink/testdata/d/a.toml: no test of sink reads it",
			"sink/testdata/fuzz/FuzzA/1: no test of sink reads it",
		}},
	})
}

func TestTexts_nameNoMachine(t *testing.T) {
	const work, root, tmp = "/" + "work/x", "/" + "root/x", "/tmp/" + "w"
	run(t, "no path of one machine", []treeCase{
		{"parts of other paths", map[string]string{"README.md": "internal" + work + " $r" + root + " ${r}" + root + " " + tmp + "arm homework\n", "go.sum": work + "\n"}, nil},
		{"ignored files", map[string]string{".gitignore": "/bin/\n*.out\n", "bin/a": work, "x/y.out": work, ".git/config": work}, nil},
		{
			"in any text",
			map[string]string{"docs/a.md": "a\nsee " + work + "\n", "sink/a.go": "package sink // " + root + "\n", ".ci/run": "cd \"" + tmp + "/a\"\n"},
			[]string{
				`.ci/run:1: the path of one machine ("\"` + tmp + `")`,
				`docs/a.md:2: the path of one machine (" ` + work[:len(work)-1] + `")`,
				`sink/a.go:1: the path of one machine (" ` + root[:len(root)-1] + `")`,
			},
		},
	})
}

func TestTexts_nameNothingUnfinished(t *testing.T) {
	const later, mend, mark = "TO" + "DO", "FIX" + "ME", "XX" + "X"
	run(t, "no unfinished work", []treeCase{
		{"parts of other words", map[string]string{"a.sh": "mktemp a.XXXX" + "XX\n", "b.md": "todo " + later + "S\n", "LICENSE": mark + "\n"}, nil},
		{
			"in any text",
			map[string]string{"a.go": "package m // " + later + "(me): x\n", "b.md": "\n" + mend + "\n", "sink/testdata/c": mark + "\n"},
			[]string{
				`a.go:1: unfinished by its own words ("` + later + `")`,
				`b.md:2: unfinished by its own words ("` + mend + `")`,
				`sink/testdata/c:1: unfinished by its own words ("` + mark + `")`,
			},
		},
	})
}

func TestLoad_refusesWhatItCannotRead(t *testing.T) {
	tests := []struct{ name, file, text, lattice string }{
		{"a lattice with a strange line", "a.txt", "", "perhaps a b\n"},
		{"a module without a name", "go.mod", "go 1.26\n", lattice},
		{"Go that does not parse", "sink/a.go", "package\n", lattice},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if _, err := arch.Load(write(t, map[string]string{test.file: test.text}), test.lattice); err == nil {
				t.Error("got no error, want one")
			}
		})
	}
	if _, err := arch.Load(t.TempDir(), lattice); err == nil {
		t.Error("got no error for a folder without go.mod, want one")
	}
}
