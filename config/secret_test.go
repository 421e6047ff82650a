package config_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/config"
)

// TestSecret_neverPrints sends a secret, bare and inside other values, through every fmt verb, JSON, XML, slog and go-cmp.
func TestSecret_neverPrints(t *testing.T) {
	type inner struct {
		Exported config.Secret
		hidden   config.Secret
		pointer  *config.Secret
	}
	secret := config.NewSecret(canary)
	values := map[string]any{
		"bare":     secret,
		"pointer":  &secret,
		"struct":   inner{Exported: secret, hidden: secret, pointer: &secret},
		"slice":    []config.Secret{secret},
		"map":      map[string]config.Secret{"a": secret},
		"settings": &brokerSettings{Password: secret, TLS: &tlsSettings{Key: secret}},
	}
	for name, value := range values {
		var out bytes.Buffer
		for verb := '!'; verb <= 'z'; verb++ {
			for _, flags := range []string{"", "+", "#", "-9", "09.3", " "} {
				fmt.Fprintf(&out, "%"+flags+string(verb)+"\n", value)
			}
		}
		fmt.Fprintln(&out, value, errors.Join(fmt.Errorf("wrap: %v", value)))
		asJSON, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(asJSON)
		for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			slog.New(handler).Info("text", slog.Any("value", value), slog.Group("group", slog.Any("value", value)))
		}
		out.WriteString(cmp.Diff(secret, config.NewSecret("other")))
		if text := out.String(); strings.Contains(text, canary) || strings.Contains(text, fmt.Sprintf("%x", canary)) {
			t.Errorf("%s: the secret is in the output:\n%s", name, text)
		}
	}
	asXML, err := xml.Marshal(tlsSettings{Key: secret})
	if err != nil || strings.Contains(string(asXML), canary) {
		t.Errorf("XML: got %s, %v", asXML, err)
	}
	if got, want := fmt.Sprintf("%v %s %d %q %#v", secret, secret, secret, &secret, secret), strings.Repeat("[redacted] ", 5); got+" " != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := string(mustJSON(t, secret)), `"[redacted]"`; got != want {
		t.Errorf("JSON: got %s, want %s", got, want)
	}
}

func mustJSON(t *testing.T, value any) []byte {
	t.Helper()
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestSecret_revealAndEqual(t *testing.T) {
	secret := config.NewSecret(canary)
	if got := secret.Reveal(); got != canary {
		t.Errorf("got %q, want %q", got, canary)
	}
	if got := (config.Secret{}).Reveal(); got != "" {
		t.Errorf("the zero secret reveals %q", got)
	}
	for _, c := range []struct {
		a, b config.Secret
		want bool
	}{
		{secret, config.NewSecret(canary), true},
		{secret, config.NewSecret(canary + "x"), false},
		{config.Secret{}, config.NewSecret(""), true},
		{config.Secret{}, secret, false},
	} {
		if got := c.a.Equal(c.b); got != c.want {
			t.Errorf("Equal(%q, %q): got %v, want %v", c.a.Reveal(), c.b.Reveal(), got, c.want)
		}
	}
}
