package arch

import (
	"fmt"
	"go/ast"
	"strings"
)

func checkDocs(t *Tree) []Finding {
	docs := map[string][]*source{}
	first := map[string]*source{}
	for _, s := range t.sources {
		name := strings.TrimSuffix(s.ast.Name.Name, "_test")
		key := s.folder + " " + name
		if first[key] == nil {
			first[key] = s
		}
		if strings.TrimSpace(s.ast.Doc.Text()) != "" {
			docs[key] = append(docs[key], s)
		}
	}
	var findings []Finding
	for key, s := range first {
		name := strings.Fields(key)[1]
		start := "Package " + name + " "
		if name == "main" {
			start = "Command "
		}
		if len(docs[key]) == 0 {
			findings = append(findings, Finding{
				s.name, "package " + name + " has no package doc",
				fmt.Sprintf("begin one file of %s with a comment \"// %s…\" directly above its package clause", s.folder, start),
			})
		}
		for i, d := range docs[key] {
			switch {
			case i > 0:
				findings = append(findings, Finding{d.name, "a second package doc of " + name, "keep one, in " + docs[key][0].name})
			case !strings.HasPrefix(d.ast.Doc.Text(), start):
				findings = append(findings, Finding{d.name, "the package doc does not begin with \"" + start + "\"", "say what the package is, beginning with these words"})
			}
		}
	}
	return sorted(findings)
}

func checkImportTime(t *Tree) []Finding {
	var findings []Finding
	for _, s := range t.sources {
		for _, d := range s.ast.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				findings = append(findings, Finding{t.place(f), "func init", "make it a constructor that the caller calls; plugins are listed in plugins/plugins.go"})
			}
		}
	}
	t.eachImport(func(_ *source, spec *ast.ImportSpec, name string) {
		if spec.Name != nil && spec.Name.Name == "_" && name != "embed" {
			findings = append(findings, Finding{t.place(spec), "import of " + name + " for its effect", "call what the package exports"})
		}
	})
	return sorted(findings)
}

// checkSleep allows time.Sleep where time is virtual: in a function literal that is an argument of synctest.Test, or of a test
// function that calls its function parameters only there, and in functions of test files that are named only in such places.
func checkSleep(t *Tree) []Finding {
	var findings []Finding
	for _, sources := range t.packages() {
		b := bubbles{sources: sources, functions: map[string]bool{}, openers: map[string]bool{}}
		b.open()
		b.narrow()
		for _, s := range sources {
			sleep, ok := importName(s, "time")
			if !ok {
				continue
			}
			b.walk(s, func(node ast.Node, virtual bool) {
				if !virtual && isSelector(node, sleep, "Sleep") {
					findings = append(findings, Finding{
						t.place(node), "time.Sleep outside a synctest bubble",
						"wait for the condition itself (a channel, a poll with a deadline), or move the test into synctest.Test",
					})
				}
			})
		}
	}
	return sorted(findings)
}

// bubbles knows which functions of a package run in virtual time only.
type bubbles struct {
	sources   []*source
	functions map[string]bool
	openers   map[string]bool // they call what they are given in a bubble of their own
}

// open finds the test functions that use their function parameters in the arguments of synctest.Test and nowhere else.
func (b *bubbles) open() {
	for _, s := range b.sources {
		for _, d := range s.ast.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || !s.test || f.Body == nil || f.Recv != nil {
				continue
			}
			given, inside, outside := functionParameters(f), 0, 0
			b.walkNode(s, f.Body, func(node ast.Node, virtual bool) {
				id, ok := node.(*ast.Ident)
				switch {
				case !ok || !given[id.Name]:
				case virtual:
					inside++
				default:
					outside++
				}
			})
			if inside > 0 && outside == 0 {
				b.openers[f.Name.Name] = true
			}
		}
	}
}

// functionParameters names the parameters of a function that are functions.
func functionParameters(f *ast.FuncDecl) map[string]bool {
	names := map[string]bool{}
	for _, field := range f.Type.Params.List {
		if _, ok := field.Type.(*ast.FuncType); !ok {
			continue
		}
		for _, name := range field.Names {
			names[name.Name] = true
		}
	}
	return names
}

// narrow begins with every function of the test files that the testing package does not call itself, and takes away those
// that are named in real time, until none is left to take.
func (b *bubbles) narrow() {
	used := map[string]bool{}
	for _, s := range b.sources {
		for _, d := range s.ast.Decls {
			f, ok := d.(*ast.FuncDecl)
			if ok && s.test && !calledByTesting(f.Name.Name) {
				b.functions[f.Name.Name] = true
			}
		}
	}
	for changed := true; changed; {
		changed = false
		for _, s := range b.sources {
			b.walk(s, func(node ast.Node, virtual bool) {
				id, ok := node.(*ast.Ident)
				if !ok || !b.functions[id.Name] {
					return
				}
				used[id.Name] = true
				if !virtual {
					delete(b.functions, id.Name)
					changed = true
				}
			})
		}
	}
	for name := range b.functions {
		if !used[name] {
			delete(b.functions, name)
		}
	}
}

func calledByTesting(name string) bool {
	for _, prefix := range []string{"Test", "Benchmark", "Fuzz", "Example"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// walk visits the nodes of a file, except the names of functions where they are declared, and says of each whether it runs in
// virtual time.
func (b *bubbles) walk(s *source, visit func(node ast.Node, virtual bool)) {
	for _, d := range s.ast.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			b.walkNode(s, d, visit)
			continue
		}
		b.walkNode(s, f.Type, visit)
		if f.Body == nil {
			continue
		}
		if s.test && b.functions[f.Name.Name] {
			ast.Inspect(f.Body, func(n ast.Node) bool {
				if n != nil {
					visit(n, true)
				}
				return true
			})
			continue
		}
		b.walkNode(s, f.Body, visit)
	}
}

// walkNode visits the nodes below one that runs in real time.
func (b *bubbles) walkNode(s *source, root ast.Node, visit func(node ast.Node, virtual bool)) {
	var walk func(node ast.Node, virtual bool)
	walk = func(node ast.Node, virtual bool) {
		ast.Inspect(node, func(n ast.Node) bool {
			if n == nil {
				return false
			}
			visit(n, virtual)
			call, ok := n.(*ast.CallExpr)
			if virtual || !ok || !b.opens(s, call.Fun) {
				return true
			}
			visit(call.Fun, false)
			for _, argument := range call.Args {
				walk(argument, true)
			}
			return false
		})
	}
	walk(root, false)
}

// opens reports whether a call runs its function arguments in a bubble.
func (b *bubbles) opens(s *source, called ast.Expr) bool {
	if id, ok := called.(*ast.Ident); ok {
		return s.test && b.openers[id.Name]
	}
	bubble, ok := importName(s, "testing/synctest")
	return ok && isSelector(called, bubble, "Test")
}

// importName returns the name under which a file knows a package.
func importName(s *source, imported string) (name string, ok bool) {
	for _, spec := range s.ast.Imports {
		if importPath(spec) != imported {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name, true
		}
		return imported[strings.LastIndexByte(imported, '/')+1:], true
	}
	return "", false
}

// isSelector reports whether a node is pkg.name.
func isSelector(node ast.Node, pkg, name string) bool {
	s, ok := node.(*ast.SelectorExpr)
	if !ok || s.Sel.Name != name {
		return false
	}
	id, ok := s.X.(*ast.Ident)
	return ok && id.Name == pkg
}
