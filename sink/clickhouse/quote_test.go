package clickhouse

import (
	"strings"
	"testing"
)

// unquote reads a quoted text by the server's rules, written here a second time and the other way round.
func unquote(t *testing.T, quoted string, quote byte) string {
	t.Helper()
	if len(quoted) < 2 || quoted[0] != quote || quoted[len(quoted)-1] != quote {
		t.Fatalf("%q is not between quotes", quoted)
	}
	var b strings.Builder
	body := quoted[1 : len(quoted)-1]
	for i := 0; i < len(body); i++ {
		switch c := body[i]; c {
		case quote:
			t.Fatalf("%q ends before its end", quoted)
		case '\\':
			i++
			if i == len(body) {
				t.Fatalf("%q escapes its end", quoted)
			}
			b.WriteByte(map[byte]byte{'0': 0, 'n': '\n', 'r': '\r', 't': '\t', '\\': '\\', quote: quote}[body[i]])
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

func TestQuote_textsStandForThemselves(t *testing.T) {
	cases := map[string]string{
		"":                 "''",
		"plain":            "'plain'",
		"it's":             `'it\'s'`,
		`\`:                `'\\'`,
		`\'`:               `'\\\''`,
		"a\nb\x00c\td\re`": `'a\nb\0c\td\re` + "`'",
		"ü\xff":            "'ü\xff'",
	}
	for text, want := range cases {
		if got := literal(text); got != want {
			t.Errorf("got %s for %q, want %s", got, text, want)
		}
	}
	if got, want := identifier("a`b'c\\"), "`a\\`b'c\\\\`"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := (tableName{"d`", "t"}).String(), "`d\\``.`t`"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// No text can end its quotes early, and each is read back as it was.
func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "'", "`", `\`, `\'`, "a'; DROP TABLE t; --", "\x00", "\\\\'", "ü\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := unquote(t, literal(s), '\''); got != s {
			t.Errorf("literal: got %q, want %q", got, s)
		}
		if got := unquote(t, identifier(s), '`'); got != s {
			t.Errorf("identifier: got %q, want %q", got, s)
		}
	})
}
