package step

import (
	"testing"

	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

func TestOpen_readsSections(t *testing.T) {
	open := func(text string) (Step, *config.Section, error) {
		section := config.ParseSection("test.toml", []byte(text), config.Env{})
		step, err := Open(section, 2)
		return step, section, err
	}
	number, str := record.Type{Kind: record.Int8}, record.Type{Kind: record.String}
	for text, want := range map[string]Step{
		"type = \"filter\"\nwhere = \"a > 1\"":                                       &Filter{ID: "filter-2", Where: "a > 1"},
		"type = \"filter\"\nid = \"x\"\nwhere = \"a > 1\"":                           &Filter{ID: "x", Where: "a > 1"},
		"type = \"rename\"\ncolumns = {a = \"b\"}":                                   &Rename{ID: "rename-2", Columns: map[string]string{"a": "b"}},
		"type = \"drop\"\ncolumns = [\"a\", \"b\"]":                                  &Drop{ID: "drop-2", Columns: []string{"a", "b"}},
		"type = \"cast\"\ncolumns = {a = \"int8\"}":                                  &Cast{ID: "cast-2", Columns: map[string]record.Type{"a": number}},
		"type = \"set\"\ncolumns = {b = \"1\", a = \"2\"}\ntypes = {a = \"string\"}": &Set{ID: "set-2", Columns: []Assignment{{Column: "b", Value: "1"}, {Column: "a", Value: "2", Type: &str}}},
	} {
		step, section, err := open(text)
		if err != nil {
			t.Errorf("%s: got error %v, %v", text, err, section.Err())
			continue
		}
		same(t, text, step, want)
	}
	for text, want := range map[string]string{
		"type = \"filter\"":                                             "where",
		"type = \"filter\"\nwhere = \"x\"\nwhen = 1":                    "unknown key",
		"type = \"cast\"\ncolumns = {a = \"int\"}":                      "test.toml:2:12: columns.a: type \"int\": unknown type",
		"type = \"set\"\ncolumns = {a = \"1\"}\ntypes = {b = \"int8\"}": "does not set this column",
		"type = \"drop\"\ncolumns = []":                                 "columns",
	} {
		_, section, err := open(text)
		if err == nil || section.Err() == nil || fault.KindOf(err) != fault.Misconfigured {
			t.Errorf("%s: got error %v and section error %v", text, err, section.Err())
			continue
		}
		contains(t, section.Err().Error(), want)
	}
}

func TestSpecs_areSound(t *testing.T) {
	settings := map[string]any{
		"filter": &filterSettings{}, "rename": &renameSettings{}, "drop": &dropSettings{}, "cast": &castSettings{}, "set": &setSettings{},
	}
	for _, spec := range Specs() {
		if err := config.CheckSpec(spec, settings[spec.Type]); err != nil {
			t.Errorf("%s: %v", spec.Type, err)
		}
	}
}
