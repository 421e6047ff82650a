package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The configs of the examples are right as they stand, and promise exactly-once. That of examples/customstep is for another daemon,
// which its own module tests.
func TestExamples_validate(t *testing.T) {
	paths, err := filepath.Glob("../../examples/*/*.toml")
	if err != nil || len(paths) < 4 {
		t.Fatalf("%q, %v", paths, err)
	}
	texts := map[string]string{}
	for _, path := range paths {
		if strings.Contains(path, "customstep") {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		texts[path] = string(data)
		if folder, name := filepath.Split(path); filepath.Base(folder) != "wordcount" && name != filepath.Base(folder)+".toml" {
			t.Errorf("%s: the config of an example has the name of its folder", path)
		}
	}
	for _, name := range []string{"CLICKHOUSE_PASSWORD", "POSTGRES_PASSWORD", "KAFKA_PASSWORD", "REGISTRY_PASSWORD", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"} {
		t.Setenv(name, "example")
	}
	h := newHome(t)
	for path, text := range texts {
		t.Run(filepath.Base(path), func(t *testing.T) {
			h.write("my.toml", text)
			h.run("validate", "-c", "my.toml").want(t, 0, "exactly-once")
		})
	}
}
