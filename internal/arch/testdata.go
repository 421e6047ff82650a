package arch

import (
	"go/ast"
	"path"
	"regexp"
	"slices"
	"strings"
)

var embedPattern = regexp.MustCompile(`(?m)^//go:embed (.+)$`)

// checkTestdata asks of every file below a testdata folder that the package beside it reads it: by its name, by a pattern, by
// a folder above it, by the ending and a test's name, or as the corpus of a fuzz target.
func checkTestdata(t *Tree) []Finding {
	readers := map[string]*reader{}
	var findings []Finding
	for _, name := range t.textNames() {
		folder, inner, ok := cutTestdata(name)
		if !ok {
			continue
		}
		if readers[folder] == nil {
			readers[folder] = newReader(t, folder)
		}
		if !readers[folder].reads(inner) {
			findings = append(findings, Finding{name, "no test of " + folder + " reads it", "delete it, or name it in the test that needs it"})
		}
	}
	return sorted(findings)
}

// cutTestdata returns the folder that holds testdata and the name below testdata.
func cutTestdata(name string) (folder, inner string, ok bool) {
	if rest, found := strings.CutPrefix(name, "testdata/"); found {
		return ".", rest, true
	}
	return strings.Cut(name, "/testdata/")
}

// A reader is what the Go files of a folder say about files.
type reader struct {
	literals  []string
	functions []string
	walks     bool // lists a folder whose name is not known here
}

func newReader(t *Tree, folder string) *reader {
	r := &reader{}
	for _, s := range t.sources {
		if s.folder != folder {
			continue
		}
		for _, m := range embedPattern.FindAllSubmatch(t.texts[s.name], -1) {
			r.literals = append(r.literals, strings.Fields(string(m[1]))...)
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BasicLit:
				if value, ok := literal(n); ok {
					r.literals = append(r.literals, value)
				}
			case *ast.FuncDecl:
				r.functions = append(r.functions, n.Name.Name)
			case *ast.SelectorExpr:
				r.walks = r.walks || slices.Contains([]string{"Walk", "WalkDir", "ReadDir", "Glob", "DirFS"}, n.Sel.Name)
			}
			return true
		})
	}
	return r
}

func (r *reader) reads(inner string) bool {
	if rest, ok := strings.CutPrefix(inner, "fuzz/"); ok {
		target, _, _ := strings.Cut(rest, "/")
		return slices.Contains(r.functions, target)
	}
	return slices.ContainsFunc(r.literals, func(l string) bool {
		l = strings.TrimPrefix(l, "testdata/")
		matches, err := path.Match(l, inner)
		switch {
		case l == "":
			return false
		case l == path.Base(inner), matches && err == nil, strings.HasPrefix(inner, strings.TrimSuffix(l, "/")+"/"):
			return true
		case l == "testdata":
			return r.walks
		case l[0] == '.' && strings.HasSuffix(inner, l):
			return slices.Contains(r.functions, strings.TrimSuffix(path.Base(inner), l))
		}
		return false
	})
}
