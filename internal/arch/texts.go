package arch

import (
	"bytes"
	"fmt"
	"regexp"
)

// The patterns are put together from parts, because this file is a part of the tree that they are looked for in.
var (
	machinePattern = regexp.MustCompile(`(^|[^\w.}-])/(` + `work|` + `root)/` + `|(^|[^\w.}-])/tmp/` + `w\b`)
	markerPattern  = regexp.MustCompile(`\b(` + `TO` + `DO|FIX` + `ME|X` + `XX)\b`)
)

func checkMachinePaths(t *Tree) []Finding {
	return t.search(machinePattern, Finding{
		What:   "the path of one machine",
		Remedy: "take the folder from an argument or the environment; in a test from t.TempDir",
	})
}

func checkMarkers(t *Tree) []Finding {
	return t.search(markerPattern, Finding{
		What:   "unfinished by its own words",
		Remedy: "finish it, or take it out and say in the documentation what is not there",
	})
}

// search reports each line of the tree that a pattern matches.
func (t *Tree) search(pattern *regexp.Regexp, what Finding) []Finding {
	var findings []Finding
	for _, name := range t.textNames() {
		if generatedText(name) || !pattern.Match(t.texts[name]) {
			continue
		}
		for i, line := range bytes.Split(t.texts[name], []byte("\n")) {
			if m := pattern.Find(line); m != nil {
				f := what
				f.Place = fmt.Sprintf("%s:%d", name, i+1)
				f.What += fmt.Sprintf(" (%q)", m)
				findings = append(findings, f)
			}
		}
	}
	return findings
}

// generatedText names files whose words nobody of the project chose.
func generatedText(name string) bool {
	switch name {
	case "go.sum", "tools/go.sum", "LICENSE":
		return true
	}
	return false
}
