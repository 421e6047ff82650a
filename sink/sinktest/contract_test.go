package sinktest

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the table of rules in docs/connector-contract.md")

const (
	contractFile = "../../docs/connector-contract.md"
	tableBegin   = "<!-- sink cases: generated, see sink/sinktest -->\n"
	tableEnd     = "<!-- end of sink cases -->\n"
)

// The contract's document lists every case of the suite with its rule. -rewrite makes it.
func TestCases_areTheContract(t *testing.T) {
	var b strings.Builder
	b.WriteString("| | rule | case |\n|---|---|---|\n")
	seen := map[string]bool{}
	for _, c := range Cases() {
		if seen[c.Name] || c.Rule == "" || (c.Level != must && c.Level != should) {
			t.Errorf("case %q is there twice, or has no rule or level", c.Name)
		}
		seen[c.Name] = true
		fmt.Fprintf(&b, "| %s | %s | `%s` |\n", c.Level, c.Rule, c.Name)
	}
	data, err := os.ReadFile(contractFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(data), tableBegin)
	old, after, closed := strings.Cut(rest, tableEnd)
	if !found || !closed {
		t.Fatalf("%s has no place for the table", contractFile)
	}
	if *rewrite {
		if err := os.WriteFile(contractFile, []byte(before+tableBegin+b.String()+tableEnd+after), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if old != b.String() {
		t.Errorf("the table in %s is not that of the suite: go test ./sink/sinktest -rewrite", contractFile)
	}
}
