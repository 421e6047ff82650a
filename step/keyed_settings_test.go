package step

import (
	"testing"
	"time"

	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/state"
)

func TestKeyedSpecs_areSound(t *testing.T) {
	settings := map[string]any{"dedup": &dedupSettings{}, "aggregate": &aggregateSettings{}, "explode": &explodeSettings{}, "enrich": &enrichSettings{}}
	for _, spec := range append(KeyedSpecs(), ExplodeSpec()) {
		if err := config.CheckSpec(spec, settings[spec.Type]); err != nil {
			t.Errorf("%s: %v", spec.Type, err)
		}
	}
}

func TestOpenKeyed_readsSections(t *testing.T) {
	for text, want := range map[string]KeyedStep{
		"type = \"dedup\"\nkey = [\"a\"]": &Dedup{ID: "dedup-2", Key: []string{"a"}},
		"type = \"dedup\"\nid = \"once\"\nkey = [\"a\", \"b\"]\nttl = \"1h\"\nttl_time = \"processing\"\ntime_column = \"ts\"": &Dedup{
			ID: "once", Key: []string{"a", "b"}, TTL: state.TTL{For: time.Hour, By: state.ProcessingTime}, TimeColumn: "ts",
		},
		"type = \"aggregate\"\nkey = [\"a\"]\ncolumns = {n = \"count()\", b = \"sum(x)\"}\nemit = \"final\"": &Aggregate{
			ID: "aggregate-2", Key: []string{"a"}, Columns: []AggregateColumn{{"n", "count()"}, {"b", "sum(x)"}}, Emit: EmitFinal, Late: LateDeadLetter,
		},
		"type = \"aggregate\"\nkey = [\"a\"]\ncolumns = {n = \"count()\"}\nlate = \"drop\"\nallowed_lateness = \"5s\"\n" +
			"window = {type = \"hopping\", size = \"1m\", slide = \"10s\", offset = \"3s\", end = \"until\"}": &Aggregate{
			ID: "aggregate-2", Key: []string{"a"}, Columns: []AggregateColumn{{"n", "count()"}}, Late: LateDrop, AllowedLateness: 5 * time.Second,
			Window: Window{Kind: Hopping, Size: time.Minute, Slide: 10 * time.Second, Offset: 3 * time.Second}, Start: "window_start", End: "until",
		},
	} {
		section := config.ParseSection("test.toml", []byte(text), config.Env{})
		got, err := OpenKeyed(section, 2)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		same(t, text, got, want)
	}
}

func TestOpenKeyed_namesThePlaceOfAnError(t *testing.T) {
	aggregate := "type = \"aggregate\"\nkey = [\"a\"]\ncolumns = {n = \"count()\"}\n"
	for text, want := range map[string]string{
		"type = \"dedup\"": "key",
		"type = \"dedup\"\nkey = [\"a\"]\nttl = \"0s\"":                                       "test.toml:3:7: ttl",
		"type = \"dedup\"\nkey = [\"a\"]\nwhere = 1":                                          "unknown key",
		"type = \"aggregate\"\nkey = [\"a\"]\ncolumns = {n = \"count()\", m = \"median(x)\"}": "test.toml:3:27: columns.m: there is no aggregate \"median\"",
		aggregate + "window = {type = \"hopping\", size = \"1m\"}":                            "window.slide",
		aggregate + "window = {size = \"1m\"}":                                                "window.type",
		aggregate + "window = {type = \"session\", gap = \"1m\"}\nemit = \"update\"":          "sessions can grow together",
		aggregate + "ttl = \"1h\"\nwindow = {type = \"tumbling\", size = \"1m\"}":             "a window has its own end",
		aggregate + "emit = \"sometimes\"":                                                    "emit",
		"type = \"nothing\"":                                                                  "there is no keyed step",
	} {
		section := config.ParseSection("test.toml", []byte(text), config.Env{})
		_, err := OpenKeyed(section, 2)
		if err == nil || fault.KindOf(err) != fault.Misconfigured {
			t.Errorf("%s: got error %v", text, err)
			continue
		}
		contains(t, err.Error(), want)
	}
}

func TestOpenExplode_readsSections(t *testing.T) {
	open := func(text string) (Step, error) {
		return OpenExplode(config.ParseSection("test.toml", []byte(text), config.Env{}), 2)
	}
	got, err := open("type = \"explode\"\ncolumn = \"line\"\nsplit = \"separator\"\nseparator = \",\"\ninto = \"w\"\nlimit = 5")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "explode", got, Step(&Explode{ID: "explode-2", Column: "line", Split: SplitSeparator, Separator: ",", Into: "w", Limit: 5}))
	if _, err := open("type = \"explode\"\ncolumn = \"line\"\nsplit = \"separator\""); err == nil {
		t.Error("no separator: got no error")
	} else {
		contains(t, err.Error(), "is needed there")
	}
	if _, err := open("type = \"explode\""); err == nil || fault.KindOf(err) != fault.Misconfigured {
		t.Errorf("no column: got error %v", err)
	}
}
