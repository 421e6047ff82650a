package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingestd/ingestd/config"
)

// TestParse_badFilesSayWhatIsWrongAndWhere reads each testdata/*.bad.toml and compares all its errors, one a line, with the
// *.bad.txt beside it.
func TestParse_badFilesSayWhatIsWrongAndWhere(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.bad.toml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no testdata/*.bad.toml: %v", err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			document, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			f, pipelines := check(path, string(document))
			for i := range pipelines {
				settings := &brokerSettings{}
				if s := pipelines[i].Source; s != nil && s.Type() == "broker" {
					s.Decode(brokerSpec(), settings) // a second time: no error may be listed twice
				}
			}
			got := f.Err()
			if got == nil {
				t.Fatal("got no error")
			}
			if _, ok := errors.AsType[*config.Error](got); !ok {
				t.Fatalf("got a %T without an *Error in it", got)
			}
			if strings.Contains(got.Error(), canary) {
				t.Errorf("the errors hold a secret:\n%s", got)
			}
			expect(t, strings.TrimSuffix(filepath.Base(path), ".toml")+".txt", []byte(got.Error()+"\n"))
		})
	}
}
