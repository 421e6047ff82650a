package arch

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strings"
)

// eachImport calls f with every import of the module's files.
func (t *Tree) eachImport(f func(s *source, spec *ast.ImportSpec, name string)) {
	for _, s := range t.sources {
		for _, spec := range s.ast.Imports {
			f(s, spec, importPath(spec))
		}
	}
}

// own returns the folder of an import of this module.
func (t *Tree) own(name string) (folder string, ok bool) {
	if name == t.module {
		return ".", true
	}
	return strings.CutPrefix(name, t.module+"/")
}

// standard reports whether an import is of the standard library: its first element has no dot.
func standard(name string) bool {
	first, _, _ := strings.Cut(name, "/")
	return !strings.Contains(first, ".")
}

func checkImports(t *Tree) []Finding {
	var findings []Finding
	for folder, sources := range t.packages() {
		if !t.lattice.known(folder) {
			findings = append(findings, Finding{
				sources[0].name, "package " + folder + " has no place in the lattice",
				"a folder is a stage of a record's way or a service of it: find the one it belongs to, or give it a line in internal/arch/lattice.txt with a decision record",
			})
		}
	}
	t.eachImport(func(s *source, spec *ast.ImportSpec, name string) {
		to, ok := t.own(name)
		if !ok || !t.lattice.known(s.folder) {
			return
		}
		allowed := t.lattice.allows
		if s.test {
			allowed = t.lattice.allowsInTest
		}
		if !allowed(s.folder, to) {
			findings = append(findings, Finding{t.place(spec), fmt.Sprintf("%s may not import %s", s.folder, to), remedyImport(t.lattice, s, to)})
		}
	})
	return sorted(findings)
}

func remedyImport(l *lattice, s *source, to string) string {
	switch {
	case l.suite(to):
		return "a conformance suite is for _test.go files only"
	case l.plugin(to):
		return "plugins are known to " + strings.Join(l.wiring, ", ") + " alone: take the role's interface as an argument"
	case l.reaches(to, s.folder):
		return to + " stands above " + s.folder + ": declare a small interface here and let " + to + " pass what implements it"
	}
	return "change the design, not internal/arch/lattice.txt: pass the value in, or move the code to the package that both may import"
}

func checkModules(t *Tree) []Finding {
	var findings []Finding
	t.eachImport(func(s *source, spec *ast.ImportSpec, name string) {
		if _, own := t.own(name); own || standard(name) || inside(t.lattice.everything, s.folder) {
			return
		}
		patterns, ok := t.lattice.home(name)
		if !ok {
			findings = append(findings, Finding{
				t.place(spec), "module of " + name + " has no home",
				"use the standard library, or give the module one home in internal/arch/lattice.txt with a decision record",
			})
			return
		}
		testing := s.test || t.lattice.suite(s.folder)
		if matchAny(patterns, s.folder) || (testing && slices.Contains(patterns, "tests")) {
			return
		}
		findings = append(findings, Finding{
			t.place(spec), fmt.Sprintf("%s is not a home of %s", s.folder, name),
			"it is used only in " + strings.Join(patterns, ", ") + ": go through the package there",
		})
	})
	return sorted(findings)
}

func checkPure(t *Tree) []Finding {
	var findings []Finding
	t.eachImport(func(s *source, spec *ast.ImportSpec, name string) {
		forbidden := slices.ContainsFunc(t.lattice.without[s.folder], func(pattern string) bool {
			ok, err := path.Match(pattern, name)
			return ok && err == nil
		})
		if forbidden && !s.test {
			findings = append(findings, Finding{
				t.place(spec), fmt.Sprintf("%s is pure and may not import %s", s.folder, name),
				"take the value as an argument: the caller does the I/O, holds the lock and owns the randomness",
			})
		}
	})
	return sorted(findings)
}
