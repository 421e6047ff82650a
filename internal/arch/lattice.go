package arch

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// A lattice is the content of lattice.txt.
type lattice struct {
	below      map[string][]string // package -> those directly below it
	leaves     []string            // patterns, as path.Match takes them
	families   []string
	wiring     []string
	simulation []string
	everything []string
	without    map[string][]string // package -> patterns of the standard library
	homes      map[string][]string // module -> patterns of packages, or "tests"
}

func parseLattice(text string) (*lattice, error) {
	l := &lattice{below: map[string][]string{}, without: map[string][]string{}, homes: map[string][]string{}}
	lists := map[string]*[]string{
		"leaves": &l.leaves, "families": &l.families, "wiring": &l.wiring, "simulation": &l.simulation, "everything": &l.everything,
	}
	maps := map[string]map[string][]string{"without": l.without, "home": l.homes}
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case slices.Contains(words, "<"):
			l.addChain(line)
		case lists[words[0]] != nil:
			*lists[words[0]] = append(*lists[words[0]], words[1:]...)
		case maps[words[0]] != nil && len(words) > 2:
			maps[words[0]][words[1]] = append(maps[words[0]][words[1]], words[2:]...)
		default:
			return nil, fmt.Errorf("lattice:%d: %q is no rule", i+1, line)
		}
	}
	return l, nil
}

// addChain takes "a b < c < d": c may import a and b, d may import c.
func (l *lattice) addChain(line string) {
	var lower []string
	for group := range strings.SplitSeq(line, "<") {
		members := strings.Fields(group)
		for _, m := range members {
			l.below[m] = append(l.below[m], lower...)
		}
		lower = members
	}
}

// node reports whether a package has a place of its own in the order.
func (l *lattice) node(pkg string) bool { _, ok := l.below[pkg]; return ok }

// reaches reports whether b is below a, by any number of steps.
func (l *lattice) reaches(a, b string) bool {
	return slices.ContainsFunc(l.below[a], func(next string) bool { return next == b || l.reaches(next, b) })
}

func (l *lattice) leaf(pkg string) bool { return matchAny(l.leaves, pkg) }

// family returns the family and the first name below it, when pkg is a plugin or a suite of one.
func (l *lattice) family(pkg string) (family, name string) {
	if l.node(pkg) {
		return "", ""
	}
	for _, f := range l.families {
		if rest, ok := strings.CutPrefix(pkg, f+"/"); ok {
			name, _, _ = strings.Cut(rest, "/")
			return f, name
		}
	}
	return "", ""
}

func (l *lattice) plugin(pkg string) bool {
	family, name := l.family(pkg)
	return family != "" && !strings.HasSuffix(name, "test")
}

func (l *lattice) suite(pkg string) bool {
	family, name := l.family(pkg)
	return family != "" && strings.HasSuffix(name, "test")
}

// known reports whether the lattice says anything about a package.
func (l *lattice) known(pkg string) bool {
	family, _ := l.family(pkg)
	return l.node(pkg) || l.leaf(pkg) || family != "" || inside(l.everything, pkg)
}

// allows reports whether non-test code of package from may import package to; both are of the module.
func (l *lattice) allows(from, to string) bool {
	if inside(l.everything, from) || from == to {
		return true
	}
	if l.leaf(from) {
		return l.leaf(to)
	}
	family, name := l.family(from)
	switch {
	case l.leaf(to):
		return true
	case family != "":
		f, n := l.family(to)
		return to == family || l.reaches(family, to) || (f == family && n == name)
	case slices.Contains(l.wiring, from) && l.plugin(to):
		return true
	}
	return l.reaches(from, to)
}

// allowsInTest is allows for a _test.go file.
func (l *lattice) allowsInTest(from, to string) bool {
	return l.allows(from, to) || l.suite(to) || (slices.Contains(l.simulation, from) && l.plugin(to))
}

// home returns the patterns of the packages in which a module may be used: those of the longest name that matches.
func (l *lattice) home(module string) (patterns []string, ok bool) {
	best := ""
	for name := range l.homes {
		if (module == name || strings.HasPrefix(module, name+"/")) && len(name) > len(best) {
			best = name
		}
	}
	patterns, ok = l.homes[best]
	return patterns, ok
}

// matchAny reports whether a name matches one of the patterns, or lies below one that matches: internal/* has internal/a/b.
func matchAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		for n := name; n != "."; n = path.Dir(n) {
			if ok, err := path.Match(pattern, n); ok && err == nil {
				return true
			}
		}
		return false
	})
}

// inside reports whether a package is one of the folders or lies below one.
func inside(folders []string, pkg string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return pkg == f || strings.HasPrefix(pkg, f+"/") })
}
