package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ingestd/ingestd/config"
)

func TestCheckSpec_acceptsGoodSpecs(t *testing.T) {
	if err := config.CheckSpec(brokerSpec(), &brokerSettings{}); err != nil {
		t.Error(err)
	}
	if err := config.CheckSpec(decoderSpec(), &decoderSettings{}); err != nil {
		t.Error(err)
	}
}

// TestCheckSpec_findsWhatIsWrong: one broken key at a time, with the words that name its defect.
func TestCheckSpec_findsWhatIsWrong(t *testing.T) {
	type settings struct {
		Value  int            `config:"value"`
		Text   string         `config:"text"`
		Wait   time.Duration  `config:"wait"`
		Level  level          `config:"level"`
		Table  tlsSettings    `config:"table"`
		List   []string       `config:"list"`
		Time   time.Time      `config:"time"`
		Map    map[string]int `config:"map"`
		hidden string         `config:"hidden"` //nolint:unused // its tag is what is tested
	}
	twice := config.Key{Name: "value", Kind: config.KindInt, Doc: "D."}
	for want, key := range map[string]config.Key{
		"Upper: the name is not in lower snake case":                        {Name: "Upper", Kind: config.KindInt, Doc: "D."},
		"type: the key is taken":                                            {Name: "type", Kind: config.KindString, Doc: "D."},
		"value: the kind 0 is unknown":                                      {Name: "value", Doc: "D."},
		"value: the kind 99 is unknown":                                     {Name: "value", Kind: 99, Doc: "D."},
		"value: the key has no Doc":                                         {Name: "value", Kind: config.KindInt},
		"value: Enum belongs to KindEnum":                                   {Name: "value", Kind: config.KindInt, Doc: "D.", Enum: []string{"1"}},
		"level: Enum belongs to KindEnum":                                   {Name: "level", Kind: config.KindEnum, Doc: "D."},
		"table: Table belongs to KindTable":                                 {Name: "table", Kind: config.KindTable, Doc: "D."},
		"value: Table belongs to KindTable":                                 {Name: "value", Kind: config.KindInt, Doc: "D.", Table: &config.Spec{}},
		"value: a required key has no default":                              {Name: "value", Kind: config.KindInt, Doc: "D.", Required: true, Default: "1"},
		"value: the default x: ":                                            {Name: "value", Kind: config.KindInt, Doc: "D.", Default: "x"},
		"value: the default 5: ":                                            {Name: "value", Kind: config.KindInt, Doc: "D.", Default: "5", Max: "4"},
		"value: the limit 1s: ":                                             {Name: "value", Kind: config.KindInt, Doc: "D.", Min: "1s", Example: "1"},
		"wait: the limit 5: ":                                               {Name: "wait", Kind: config.KindDuration, Doc: "D.", Max: "5"},
		"text: the limit x: ":                                               {Name: "text", Kind: config.KindString, Doc: "D.", Max: "x"},
		"level: the limit 1: the kind one of has no limits":                 {Name: "level", Kind: config.KindEnum, Enum: []string{"low"}, Doc: "D.", Max: "1"},
		"value: what the example shows, 5 (set Example to another value): ": {Name: "value", Kind: config.KindInt, Doc: "D.", Min: "5", Max: "4", Example: "5"},
		"value: what the example shows, 0 (set Example to another value): ": {Name: "value", Kind: config.KindInt, Doc: "D.", Min: "5"},
		`text: what the example shows, "" (set Example`:                     {Name: "text", Kind: config.KindString, Doc: "D.", Required: true},
		"list: what the example shows, [] (set Example":                     {Name: "list", Kind: config.KindStrings, Doc: "D.", Required: true},
		`level: the field refuses "middle": no such level`:                  {Name: "level", Kind: config.KindEnum, Enum: []string{"low", "middle"}, Doc: "D."},
		"other: no exported field of":                                       {Name: "other", Kind: config.KindInt, Doc: "D."},
		"hidden: no exported field of":                                      {Name: "hidden", Kind: config.KindString, Doc: "D."},
		"value: a field of type int can't hold the kind string":             {Name: "value", Kind: config.KindString, Doc: "D."},
		"value: a field of type int can't hold the kind duration":           {Name: "value", Kind: config.KindDuration, Doc: "D."},
		"wait: a field of type time.Duration can't hold the kind integer":   {Name: "wait", Kind: config.KindInt, Doc: "D."},
		"map: a field of type map[string]int can't hold the kind table of":  {Name: "map", Kind: config.KindIntMap, Doc: "D."},
		"text: a field of type string can't hold the kind secret":           {Name: "text", Kind: config.KindSecret, Doc: "D."},
		"table.ca_file: the field config_test.tlsSettings.CA has this tag":  {Name: "table", Kind: config.KindTable, Doc: "D.", Table: &config.Spec{}},
		"table.key: the key has no Doc": {
			Name: "table", Kind: config.KindTable, Doc: "D.", Table: &config.Spec{Keys: []config.Key{{Name: "key", Kind: config.KindSecret}}},
		},
		"text: the field config_test.settings.Text has this tag": {Name: "value", Kind: config.KindInt, Doc: "D."},
		"time: the default yesterday: ":                          {Name: "time", Kind: config.KindTime, Doc: "D.", Default: "yesterday"},
	} {
		spec := config.Spec{Type: "x", Doc: "D.", Keys: []config.Key{key}}
		err := config.CheckSpec(spec, &settings{})
		if err == nil || !strings.Contains("\n"+err.Error(), "\n"+want) {
			t.Errorf("got %v\nwant a line with %s", err, want)
		}
	}
	err := config.CheckSpec(config.Spec{Doc: "D.", Keys: []config.Key{twice, twice}}, &settings{})
	if err == nil || !strings.Contains(err.Error(), "value: the key is there twice") {
		t.Errorf("got %v", err)
	}
	for _, into := range []any{nil, settings{}, (*settings)(nil), 7} {
		if err := config.CheckSpec(config.Spec{Doc: "D."}, into); err == nil {
			t.Errorf("%T is accepted as a settings struct", into)
		}
	}
	if err := config.CheckSpec(config.Spec{}, &struct{}{}); err == nil || err.Error() != "the spec has no Doc" {
		t.Errorf("got %v", err)
	}
}
