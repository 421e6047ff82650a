package config_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/config"
)

// told is a pipeline with its sections replaced by what is told of them.
type told struct {
	Pipeline                          config.Pipeline
	Source, Decode, DeadLetter, Store string
	Steps, Sinks                      []string
}

func tell(p config.Pipeline) told {
	describe := func(s *config.Section) string {
		if s == nil {
			return ""
		}
		return s.Path() + " = " + s.Type()
	}
	t := told{
		Source: describe(p.Source), Decode: describe(p.Decode), DeadLetter: describe(p.DeadLetter),
		Store: describe(p.Checkpoint.Store),
	}
	for _, s := range p.Steps {
		t.Steps = append(t.Steps, describe(s))
	}
	for _, s := range p.Sinks {
		t.Sinks = append(t.Sinks, strings.TrimSpace(fmt.Sprintf("%s: %s %s", s.ID, describe(s.Section), s.When)))
	}
	p.Source, p.Decode, p.Sinks, p.DeadLetter, p.Steps, p.Checkpoint.Store = nil, nil, nil, nil, nil, nil
	t.Pipeline = p
	return t
}

// TestFile_readsPipelinesAndDaemon: all keys of a full file, and the defaults of a short one.
func TestFile_readsPipelinesAndDaemon(t *testing.T) {
	document, err := os.ReadFile("testdata/full.good.toml")
	if err != nil {
		t.Fatal(err)
	}
	f := config.Parse("testdata/full.good.toml", document, world())
	daemon, pipelines := f.Daemon(), f.Pipelines(registry())
	if err := f.Err(); err != nil {
		t.Fatal(err)
	}
	wantDaemon := config.Daemon{
		DataDir: "kafka-1:9092/data", Log: config.Log{Format: "json", Level: "debug"}, ShutdownTimeout: time.Minute, MemoryLimit: 2 << 30,
		StallAfter: 45 * time.Second,
	}
	if diff := cmp.Diff(wantDaemon, daemon); diff != "" {
		t.Errorf("daemon differs (-want +got):\n%s", diff)
	}
	defaults := config.Pipeline{
		Name: "inline", ID: "inline", Delivery: config.AtLeastOnce, DeadLetterLimits: config.DeadLetterLimits{MaxRatio: 1, RatioWindow: 10000},
		Checkpoint: config.Checkpoint{Interval: time.Second, Keep: 3, Timeout: 10 * time.Minute, MaxPending: 2},
		Restart:    config.Restart{BackoffMin: time.Second, BackoffMax: time.Minute},
		State:      config.State{Memory: 128 << 20},
		EventTime:  config.EventTime{Disorder: 5 * time.Second, IdleAfter: 30 * time.Second, AheadMax: 24 * time.Hour},
	}
	full := config.Pipeline{
		Name: "orders", ID: "orders-2026", Delivery: config.ExactlyOnce, Tasks: 4,
		DeadLetterLimits: config.DeadLetterLimits{MaxRatio: 0.01, RatioWindow: 1000},
		Checkpoint:       config.Checkpoint{Interval: 500 * time.Millisecond, Bytes: 64 << 20, Keep: 5, Timeout: 5 * time.Minute, MaxPending: 1},
		Restart:          config.Restart{BackoffMin: 100 * time.Millisecond, BackoffMax: 10 * time.Second, Limit: 3},
		State:            config.State{KeyGroups: 64, Memory: 1 << 30},
		EventTime:        config.EventTime{Disorder: time.Minute, IdleAfter: 0, AheadMax: time.Hour},
	}
	want := []told{
		{
			Pipeline: defaults, Source: "pipeline.inline.source = lines", Decode: "pipeline.inline.decode = raw",
			Sinks: []string{"sink: pipeline.inline.sink = null"}, Store: "pipeline.inline.checkpoint = file",
		},
		{
			Pipeline: full, Source: "pipeline.orders.source = broker", Decode: "pipeline.orders.decode = json",
			Sinks: []string{"sink: pipeline.orders.sink = dir"}, DeadLetter: "pipeline.orders.dead_letter = dir", Store: "pipeline.orders.checkpoint = file",
			Steps: []string{"pipeline.orders.step[0] = filter", "pipeline.orders.step[1] = filter"},
		},
	}
	var got []told
	for _, p := range pipelines {
		got = append(got, tell(p))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pipelines differ (-want +got):\n%s", diff)
	}
	var columns decoderSettings
	pipelines[1].Decode.Decode(decoderSpec(), &columns)
	wantColumns := []config.Entry{
		{Key: "id", Value: "int64", Pos: config.Pos{Line: 26, Column: 1}},
		{Key: "tags.a", Value: "string", Pos: config.Pos{Line: 27, Column: 1}},
		{Key: "at", Value: "timestamp", Pos: config.Pos{Line: 28, Column: 1}},
	}
	if diff := cmp.Diff(wantColumns, columns.Columns); diff != "" {
		t.Errorf("columns differ (-want +got):\n%s", diff)
	}
	var store struct {
		Path string `config:"path"`
	}
	pipelines[0].Checkpoint.Store.Decode(registry().Roles[config.RoleStore][0], &store)
	if store.Path != "/var/lib/ingestd/checkpoints" || f.Err() != nil {
		t.Errorf("an absent checkpoint table: got the path %q, %v", store.Path, f.Err())
	}
}

// TestFile_readsSinks: one sink has a name of its own, several say theirs, and an array of one is no different from a table.
func TestFile_readsSinks(t *testing.T) {
	for name, c := range map[string]struct {
		document string
		want     []string
	}{
		"one":             {"[pipeline.a.sink]\ntype = \"null\"", []string{"sink: pipeline.a.sink = null"}},
		"one with an id":  {"[pipeline.a.sink]\ntype = \"null\"\nid = \"x\"\nwhen = \"n > 1\"", []string{"x: pipeline.a.sink = null n > 1"}},
		"one in an array": {"[[pipeline.a.sink]]\ntype = \"null\"", []string{"sink: pipeline.a.sink[0] = null"}},
		"that with an id": {"[[pipeline.a.sink]]\ntype = \"null\"\nid = \"x\"", []string{"x: pipeline.a.sink[0] = null"}},
		"several, in order": {
			"[[pipeline.a.sink]]\nid = \"sink\"\ntype = \"null\"\n[[pipeline.a.sink]]\nid = \"b-2\"\ntype = \"dir\"\npath = \"/b\"\nwhen = \"n > 1\"",
			[]string{"sink: pipeline.a.sink[0] = null", "b-2: pipeline.a.sink[1] = dir n > 1"},
		},
	} {
		f, pipelines := check("f.toml", "[pipeline.a]\nsource.type = \"lines\"\ndecode.type = \"raw\"\n"+c.document)
		if err := f.Err(); err != nil || len(pipelines) != 1 {
			t.Errorf("%s: %v, %d pipelines", name, err, len(pipelines))
			continue
		}
		if got := tell(pipelines[0]).Sinks; !cmp.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestFile_daemonHasDefaults(t *testing.T) {
	f := config.Parse("f.toml", nil, config.Env{})
	want := config.Daemon{
		DataDir: "/var/lib/ingestd", Listen: "127.0.0.1:9464", Log: config.Log{Format: "auto", Level: "info"},
		ShutdownTimeout: 30 * time.Second, StallAfter: 30 * time.Second,
	}
	if diff := cmp.Diff(want, f.Daemon()); diff != "" || f.Err() != nil {
		t.Errorf("daemon differs (-want +got):\n%s\n%v", diff, f.Err())
	}
}

// TestFile_namesARoleWithoutPlugins: a registry that lacks a role is not an empty list of choices.
func TestFile_namesARoleWithoutPlugins(t *testing.T) {
	reg := registry()
	reg.Roles[config.RoleStep] = nil
	f := config.Parse("f.toml", []byte(`pipeline.a = { source.type = "lines", decode.type = "raw", sink.type = "null", step = [{ type = "filter" }] }`), config.Env{})
	f.Pipelines(reg)
	if got, want := f.Err(), "f.toml:1:88: pipeline.a.step[0]: this daemon has no step built in"; got == nil || got.Error() != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestLoad_readsFilesOfTheProcess(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "my.toml")
	for name, content := range map[string]string{
		"my.toml": "[daemon]\ndata_dir = \"${file:name}/${env:INGESTD_TEST_NAME}/${file:" + dir + "/name}\"\n", "name": "x\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("INGESTD_TEST_NAME", "y")
	f, err := config.Load(path, config.ProcessEnv())
	if err != nil {
		t.Fatal(err)
	}
	if daemon := f.Daemon(); daemon.DataDir != "x/y/x" || f.Err() != nil {
		t.Errorf("got %q, %v", daemon.DataDir, f.Err())
	}
	_, err = config.Load(filepath.Join(dir, "none.toml"), config.ProcessEnv())
	var got *config.Error
	if !errors.As(err, &got) || got.Message != "the file can't be read: no such file or directory" || got.Line != 0 {
		t.Errorf("got %v", err)
	}
	if _, err := config.Load("x.toml", config.Env{}); err == nil {
		t.Error("an empty Env reads a file")
	}
}

// TestProcessEnv_readsNoDeviceWithoutEnd: a device given by mistake ends in an error, not in all memory.
func TestProcessEnv_readsNoDeviceWithoutEnd(t *testing.T) {
	if _, err := os.Stat("/dev/zero"); err != nil {
		t.Skip("this system has no /dev/zero")
	}
	f, err := config.Load("/dev/zero", config.ProcessEnv())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := f.Err(), "/dev/zero:1:1: the file has 1048577 bytes; expected at most 1MiB"; got == nil || got.Error() != want {
		t.Errorf("got %v, want %s", got, want)
	}
	f = config.Parse("f.toml", []byte(`daemon.listen = "${file:/dev/zero}"`), config.ProcessEnv())
	f.Daemon()
	if got, want := f.Err(), "f.toml:1:17: daemon.listen: the file /dev/zero is too long; expected at most 64KiB"; got == nil || got.Error() != want {
		t.Errorf("got %v, want %s", got, want)
	}
}
