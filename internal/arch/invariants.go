package arch

import (
	"fmt"
	"go/ast"
	"go/token"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	invariantsFile = "docs/invariants.md"
	invariantsPkg  = "internal/invariant"
)

var (
	rowPattern  = regexp.MustCompile(`^\|\s*(I[1-9][0-9]*)\s*\|(.*)\|(.*)\|(.*)\|\s*$`)
	idPattern   = regexp.MustCompile(`\bI[1-9][0-9]*\b`)
	codePattern = regexp.MustCompile("`([^`]+)`")
)

// An invariant is a row of the list.
type invariant struct {
	place    string
	id       string
	asserted []string // files or folders
	tested   []string
	unbuilt  string // the folder whose absence excuses the row
}

// uses are where ids occur: invariant.Check in non-test code, and any mention in a test file.
type uses struct {
	asserted map[string][]*source
	tested   map[string][]*source
}

func checkInvariants(t *Tree) []Finding {
	text, ok := t.texts[invariantsFile]
	if !ok {
		return []Finding{{invariantsFile, "there is no list of invariants", "write the table: id | statement | asserted in | tested in"}}
	}
	found, findings := findUses(t)
	listed := map[string]bool{}
	last := 0
	for i, line := range strings.Split(string(text), "\n") {
		cells := rowPattern.FindStringSubmatch(line)
		if cells == nil {
			continue
		}
		row := parseRow(fmt.Sprintf("%s:%d", invariantsFile, i+1), cells)
		listed[row.id] = true
		n, err := strconv.Atoi(row.id[1:])
		if err != nil || n <= last {
			findings = append(findings, Finding{row.place, row.id + " is out of order or given twice", "a number is never used again: take the next one"})
		}
		last = max(last, n)
		findings = append(findings, row.check(t, found)...)
	}
	for _, id := range slices.Sorted(maps.Keys(found.asserted)) {
		if !listed[id] {
			findings = append(findings, Finding{found.asserted[id][0].name, id + " is asserted and not listed", "add its row to " + invariantsFile})
		}
	}
	return sorted(findings)
}

func parseRow(place string, cells []string) invariant {
	row := invariant{place: place, id: cells[1], asserted: codeWords(cells[3]), tested: codeWords(cells[4])}
	if strings.Contains(cells[3], "not built") {
		row.unbuilt = strings.Join(row.asserted, " ")
		row.asserted, row.tested = nil, nil
	}
	return row
}

func codeWords(cell string) []string {
	var words []string
	for _, m := range codePattern.FindAllStringSubmatch(cell, -1) {
		words = append(words, m[1])
	}
	return words
}

// check says what is missing for a row.
func (row invariant) check(t *Tree, found uses) []Finding {
	if strings.Contains(row.unbuilt, " ") || (row.unbuilt == "" && len(row.asserted) == 0) {
		return []Finding{{row.place, row.id + " names no place", "write the folder or file in backticks, or: not built (`the/folder`)"}}
	}
	if row.unbuilt != "" {
		if t.exists(row.unbuilt) || len(found.asserted[row.id]) > 0 {
			return []Finding{{row.place, row.id + " is said to be not built, but is", "assert and test it in " + row.unbuilt + ", and name both places"}}
		}
		return nil
	}
	var findings []Finding
	for _, name := range row.asserted {
		if !within(found.asserted[row.id], name) {
			findings = append(findings, Finding{
				row.place, fmt.Sprintf("%s is not asserted in %s", row.id, name),
				fmt.Sprintf("call invariant.Check(%q, …) there, outside of tests, or correct the row", row.id),
			})
		}
	}
	if len(row.tested) == 0 {
		findings = append(findings, Finding{row.place, row.id + " names no test", "write a test that carries the id in its comment, and name its folder or file in backticks"})
	}
	for _, name := range row.tested {
		if !within(found.tested[row.id], name) {
			findings = append(findings, Finding{
				row.place, fmt.Sprintf("%s is not tested in %s", row.id, name),
				"write a test there that carries the id in its comment, or correct the row",
			})
		}
	}
	return findings
}

// within reports whether a source is the named file or lies directly in the named folder.
func within(sources []*source, name string) bool {
	return slices.ContainsFunc(sources, func(s *source) bool { return s.name == name || s.folder == name })
}

func findUses(t *Tree) (uses, []Finding) {
	found := uses{asserted: map[string][]*source{}, tested: map[string][]*source{}}
	var findings []Finding
	for _, sources := range t.packages() {
		wrappers := checkWrappers(t, sources)
		for _, s := range sources {
			if s.test {
				for _, id := range idPattern.FindAllString(string(t.texts[s.name]), -1) {
					found.tested[id] = append(found.tested[id], s)
				}
				continue
			}
			findings = append(findings, found.addAsserted(t, s, wrappers)...)
		}
	}
	return found, findings
}

// addAsserted notes the ids that a file asserts, by invariant.Check or by a wrapper of its package.
func (u uses) addAsserted(t *Tree, s *source, wrappers []string) []Finding {
	var findings []Finding
	pkg, imported := importName(s, t.module+"/"+invariantsPkg)
	for _, d := range s.ast.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && slices.Contains(wrappers, f.Name.Name) {
			continue
		}
		ast.Inspect(d, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			direct := imported && isSelector(call.Fun, pkg, "Check")
			if !direct && !slices.Contains(wrappers, calledName(call)) {
				return true
			}
			if id, ok := literal(call.Args[0]); ok && idPattern.FindString(id) == id {
				u.asserted[id] = append(u.asserted[id], s)
				return true
			}
			findings = append(findings, Finding{t.place(call), "an assertion without a literal id", `write the id of docs/invariants.md as a string, such as "I3"`})
			return true
		})
	}
	return findings
}

// checkWrappers returns the functions and methods of a package that hand their own first parameter on to invariant.Check.
func checkWrappers(t *Tree, sources []*source) []string {
	var names []string
	for _, s := range sources {
		pkg, ok := importName(s, t.module+"/"+invariantsPkg)
		if !ok || s.test {
			continue
		}
		for _, d := range s.ast.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil || f.Type.Params.NumFields() == 0 || len(f.Type.Params.List[0].Names) == 0 {
				continue
			}
			first := f.Type.Params.List[0].Names[0].Name
			ast.Inspect(f.Body, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || !isSelector(call.Fun, pkg, "Check") || len(call.Args) == 0 {
					return true
				}
				if id, ok := call.Args[0].(*ast.Ident); ok && id.Name == first {
					names = append(names, f.Name.Name)
				}
				return true
			})
		}
	}
	return names
}

// calledName returns the last name of what is called: check of m.check(…).
func calledName(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

// literal returns the value of a string literal.
func literal(node ast.Node) (string, bool) {
	l, ok := node.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return "", false
	}
	value, err := strconv.Unquote(l.Value)
	return value, err == nil
}
