package config_test

import (
	"os"
	"strings"
	"testing"
)

// What a savepoint keeps of the config means the same as the file, and has no secret.
func TestFile_textMeansTheSameWithoutSecrets(t *testing.T) {
	full, err := os.ReadFile("testdata/full.good.toml")
	if err != nil {
		t.Fatal(err)
	}
	for name, document := range map[string]string{
		"base":           digestBase,
		"full":           string(full),
		"a plain secret": strings.Replace(digestBase, `"one"`, `"`+canary+`"`, 1),
		"odd keys":       strings.Replace(digestBase, `{ id = "int64", at`, `{ "tags.a \"b\" ü" = "int64", at`, 1),
		"odd text":       strings.Replace(digestBase, `["t"]`, `["a\nb", 'c:\d']`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			f, _ := check("testdata/f.toml", document)
			if err := f.Err(); err != nil {
				t.Fatal(err)
			}
			text := f.PipelineText("orders")
			again, _ := check("testdata/f.toml", text)
			if err := again.Err(); err != nil {
				t.Fatalf("%v in\n%s", err, text)
			}
			if a, b := f.PipelineDigest("orders"), again.PipelineDigest("orders"); a != b {
				t.Errorf("the text has another digest than the file:\n%s", text)
			}
			if again.PipelineText("orders") != text {
				t.Errorf("the text of the text is another one:\n%s", text)
			}
			if strings.Contains(text, canary) || strings.Count(text, "(hidden)") != 1 {
				t.Errorf("the secret is not hidden:\n%s", text)
			}
		})
	}
	f, _ := check("testdata/f.toml", digestBase)
	if got := f.PipelineText("none"); got != "" {
		t.Errorf("got %q for a pipeline that is not there", got)
	}
}

// Before the specs have said what is a secret, everything is taken for one.
func TestFile_textOfWhatNobodyDescribedIsHidden(t *testing.T) {
	f, _ := check("testdata/f.toml", digestBase+"surprise = \""+canary+"\"\n")
	if text := f.PipelineText("orders"); strings.Contains(text, canary) || !strings.Contains(text, `surprise = "(hidden)"`) {
		t.Errorf("got\n%s", text)
	}
}
