package plugins

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ingestd/ingestd/config"
)

// docs/codecs.md names every decoder, every encoder and every key of an encoder.
func TestCodecs_areDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/codecs.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(text), "## Keys of encoders")
	if !ok {
		t.Fatal("docs/codecs.md has no part about the keys of encoders")
	}
	known := func(name string) bool { return strings.Contains(table, "`"+name+"`") }
	var missing func(keys []config.Key) []string
	missing = func(keys []config.Key) (names []string) {
		for i := range keys {
			if !known(keys[i].Name) {
				names = append(names, keys[i].Name)
			}
			if keys[i].Table != nil {
				names = append(names, missing(keys[i].Table.Keys)...)
			}
		}
		return names
	}
	var types []string
	for _, p := range All().Encoders {
		types = append(types, p.Spec.Type)
		if names := missing(p.Spec.Keys); len(names) > 0 {
			t.Errorf("the encoder %s: docs/codecs.md lacks the keys %v", p.Spec.Type, names)
		}
	}
	for _, p := range All().Codecs {
		types = append(types, p.Spec.Type)
	}
	slices.Sort(types)
	for _, name := range slices.Compact(types) {
		if !strings.Contains(string(text), "\n| `"+name+"` | ") {
			t.Errorf("docs/codecs.md has no line for %s in its first table", name)
		}
	}
}
