package config

import (
	"slices"
	"testing"
)

func TestNearest_guessesWhatWasMeant(t *testing.T) {
	known := []string{"brokers", "topics", "topics_regex", "start", "start_time", "fetch_bytes_max", "id", "tls"}
	for name, want := range map[string]string{
		"broker": "brokers", "borkers": "brokers", "brokrs": "brokers", "bookers": "brokers", "Topics": "topics", "topicsRegex": "topics_regex",
		"topics-regex": "topics_regex", "fetchBytesMax": "fetch_bytes_max", "fetch_max_bytes": "", "startt": "start", "statr": "start",
		"start_tme": "start_time", "ID": "id", "di": "id", "tsl": "tls", "xyz": "", "": "", "interval": "", "x": "",
		"a_name_that_is_much_longer_than_any_key_that_there_can_be_in_a_spec": "",
	} {
		if got := nearest(name, known); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

// TestDistance_isAMetricOfEdits compares with known distances and checks the symmetry.
func TestDistance_isAMetricOfEdits(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "", 1}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"kitten", "sitting", 3}, {"ca", "abc", 3}, {"abcdef", "badcfe", 3},
	} {
		for _, pair := range [][2]string{{c.a, c.b}, {c.b, c.a}} {
			if got := distance(pair[0], pair[1]); got != c.want {
				t.Errorf("distance(%q, %q): got %d, want %d", pair[0], pair[1], got, c.want)
			}
		}
	}
}

// TestCoreSpecs_agreeWithTheirStructs applies to config's own tables what every plugin's spec must pass.
func TestCoreSpecs_agreeWithTheirStructs(t *testing.T) {
	limits := deadLetterSpec()
	limits.Doc = "A spec that shares its table with a plugin's."
	for name, err := range map[string]error{
		"daemon": CheckSpec(daemonSpec(), &Daemon{}), "pipeline": CheckSpec(pipelineSpec(), &Pipeline{}),
		"checkpoint": CheckSpec(checkpointSpec(), &Checkpoint{}), "restart": CheckSpec(restartSpec(), &Restart{}),
		"dead_letter": CheckSpec(limits, &DeadLetterLimits{}),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range subtables() {
		spec := pipelineSpec()
		if slices.Contains(spec.names(), name) {
			t.Errorf("%s is a key and a table of a pipeline", name)
		}
	}
}

// TestUnfinished_matchesTheParsersWords: if the parser's library words its messages otherwise, the places of these errors
// would silently get worse.
func TestUnfinished_matchesTheParsersWords(t *testing.T) {
	for _, document := range []string{"a = [", "a = [1,\n2,\n", "a = {", "a = { b = 1,\n", `a = """` + "\nx\n", "a = '''\nx\n", `a = """x"`, "a = [{ b = '''"} {
		f := Parse("f.toml", []byte("x = 1\n "+document+"\n\n"), Env{})
		if errs := f.problems.sorted("", f.place); len(errs) != 1 || errs[0].Line != 2 || errs[0].Column != 2 {
			t.Errorf("%q: got %v, want one error at 2:2", document, errs)
		}
	}
}
