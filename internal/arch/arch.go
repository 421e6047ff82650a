// Package arch holds the rules of the source tree that linters cannot hold: who may import whom, where third parties live,
// one package doc per package, no init, no sleeping outside virtual time, invariants that are really asserted and tested.
// It reads the tree itself and runs no command, so that a cached test result is never older than the tree.
package arch

import (
	"cmp"
	"fmt"
	"slices"
)

// A Finding is one place that breaks a rule.
type Finding struct {
	Place  string // file:line, a file or a folder, below the root of the tree
	What   string // is wrong there
	Remedy string // what to do instead
}

// String returns all three on one line.
func (f Finding) String() string { return fmt.Sprintf("%s: %s; %s", f.Place, f.What, f.Remedy) }

// A Rule looks at the whole tree.
type Rule struct {
	Name  string // what holds where the rule is kept
	Check func(*Tree) []Finding
}

// Rules returns all rules, in the order of their names' importance.
func Rules() []Rule {
	return []Rule{
		{"imports follow the lattice", checkImports},
		{"third parties stay in their homes", checkModules},
		{"the standard library stays out of pure packages", checkPure},
		{"every package has exactly one package doc", checkDocs},
		{"nothing runs at import", checkImportTime},
		{"time.Sleep stays in bubbles", checkSleep},
		{"invariants are asserted and tested", checkInvariants},
		{"testdata holds no dead files", checkTestdata},
		{"no path of one machine", checkMachinePaths},
		{"no unfinished work", checkMarkers},
	}
}

// sorted orders findings by place, so that the same tree always gives the same report.
func sorted(findings []Finding) []Finding {
	slices.SortFunc(findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Place, b.Place), cmp.Compare(a.What, b.What))
	})
	return findings
}
