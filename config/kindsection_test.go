package config_test

import (
	"strings"
	"testing"

	"github.com/ingestd/ingestd/config"
)

// A section within a section is taken as it is, and checked by whoever knows its plugin, with places of its own.
func TestSection_withinASection(t *testing.T) {
	outer := config.Spec{Type: "x", Doc: "X.", Keys: []config.Key{
		{Name: "within", Kind: config.KindSection, Required: true, Doc: "W.", Example: `{ type = "file" }`},
	}}
	inner := config.Spec{Type: "file", Doc: "F.", Keys: []config.Key{{Name: "path", Kind: config.KindString, Required: true, Doc: "P.", Example: "x"}}}
	type outerSettings struct {
		Within *config.Section `config:"within"`
	}
	type innerSettings struct {
		Path string `config:"path"`
	}
	if err := config.CheckSpec(outer, &outerSettings{}); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		`within = { type = "file", path = "a" }`:         "",
		`within = { type = "file" }`:                     "1:1: within.path: the key is missing",
		`within = { type = "file", path = "a", up = 1 }`: "1:39: within.up: unknown key",
		`within = { path = "a" }`:                        "1:1: within.type: the key is missing",
		`within = { type = 3 }`:                          "within.type: found",
		`within = "file"`:                                "1:10: within: found a string, \"file\"; expected a table with the key type",
		``:                                               "within: the key is missing",
	} {
		s := config.ParseSection("t", []byte("type = \"x\"\n"+text), config.Env{})
		var o outerSettings
		var i innerSettings
		if s.Decode(outer, &o) && o.Within != nil {
			o.Within.Decode(inner, &i)
		}
		err := s.Err()
		switch {
		case want == "" && (err != nil || o.Within.Type() != "file" || i.Path != "a" || o.Within.Path() != "within"):
			t.Errorf("%s: got %v, %+v", text, err, i)
		case want != "" && (err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), ":2:", ":1:"), want)):
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}
