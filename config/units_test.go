package config_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/ingestd/ingestd/config"
)

func TestParseBytes_readsUnits(t *testing.T) {
	for text, want := range map[string]config.Bytes{
		"0B": 0, "1B": 1, "512B": 512, "1kB": 1000, "1KB": 1000, "1KiB": 1024, "64MiB": 64 << 20, "1GB": 1e9, "1.5GiB": 3 << 29,
		"2TB": 2e12, "1TiB": 1 << 40, "0.001KB": 1, "9223372036854775807B": math.MaxInt64, "8388607TiB": 8388607 << 40,
		"007MiB": 7 << 20,
	} {
		got, err := config.ParseBytes(text)
		if err != nil || got != want {
			t.Errorf("%s: got %d, %v, want %d", text, got, err, want)
		}
	}
}

func TestParseBytes_refusesWhatIsNoSize(t *testing.T) {
	for text, want := range map[string]string{
		"":                     `"" is not a number and a unit`,
		"B":                    `"B" is not a number and a unit`,
		"-1B":                  `"-1B" is not a number and a unit`,
		"+1B":                  `"+1B" is not a number and a unit`,
		"1":                    `"1" has no unit`,
		"1.5":                  `"1.5" has no unit`,
		"1 MiB":                `"1 MiB" is not a number and a unit`,
		"1e3B":                 `"1e3B" is not a number and a unit`,
		".5MiB":                `".5MiB" is not a number and a unit`,
		"5.MiB":                `"5.MiB" is not a number and a unit`,
		"0.5B":                 `"0.5B" is not a whole number of bytes`,
		"1.0000000001GB":       `"1.0000000001GB" is not a number and a unit`,
		"9223372036854775808B": `"9223372036854775808B" is more than 9223372036854775807B`,
		"8388608TiB":           `"8388608TiB" is more than 9223372036854775807B`,
		"1M":                   `unknown unit "M", write "1MiB" or "1MB"`,
		"1mib":                 `unknown unit "mib", write "1MiB"`,
		"1b":                   `unknown unit "b", write "1B"`,
		"1PB":                  `unknown unit "PB"`,
	} {
		got, err := config.ParseBytes(text)
		if err == nil || err.Error() != want {
			t.Errorf("%s: got %d, %v, want %s", text, got, err, want)
		}
	}
}

// TestBytes_stringIsReadBack: what String writes is the same size again, in as few digits as a whole number has.
func TestBytes_stringIsReadBack(t *testing.T) {
	for size, want := range map[config.Bytes]string{
		0: "0B", 1: "1B", 1000: "1KB", 1024: "1KiB", 1500: "1500B", 64 << 20: "64MiB", 1e9: "1GB", 1 << 40: "1TiB", math.MaxInt64: "9223372036854775807B",
	} {
		got := size.String()
		back, err := config.ParseBytes(got)
		if got != want || err != nil || back != size {
			t.Errorf("%d: got %s and back %d, %v, want %s", int64(size), got, int64(back), err, want)
		}
	}
}

// TestDuration_unitsAndLimits goes through a section, as durations have no parser of their own outside.
func TestDuration_unitsAndLimits(t *testing.T) {
	spec := config.Spec{Keys: []config.Key{{Name: "d", Kind: config.KindDuration}}}
	var into struct {
		D time.Duration `config:"d"`
	}
	decode := func(text string) error {
		s := config.ParseSection("d.toml", []byte(`d = "`+text+`"`), config.Env{})
		s.Decode(spec, &into)
		return s.Err()
	}
	for text, want := range map[string]time.Duration{
		"0s": 0, "250ms": 250 * time.Millisecond, "1h30m": 90 * time.Minute, "1.5h": 90 * time.Minute, "7d": 168 * time.Hour,
		"1d12h": 36 * time.Hour, "106751d23h47m16.854775807s": math.MaxInt64, "1us": time.Microsecond, "1µs": time.Microsecond,
	} {
		if err := decode(text); err != nil || into.D != want {
			t.Errorf("%s: got %s, %v, want %s", text, into.D, err, want)
		}
	}
	for text, want := range map[string]string{
		"": "is not a duration", "5": "has no unit", "0": "has no unit", "1.5": "has no unit", "-5s": "is negative", "+5s": "is not a duration",
		"d": "is not a duration", "1.5d": "is not a duration", "1h1d": "is not a duration", "1d-1h": "is not a duration", "1d5": "is not a duration",
		"106752d": "is too long", "106751d24h": "is too long", "99999999999d": "is not a duration", "3000000h": "is not a duration", "1w": "is not a duration",
		" 1s": "is not a duration", "1 s": "is not a duration", "five": "is not a duration",
	} {
		if err := decode(text); err == nil || !strings.Contains(err.Error(), `"`+text+`" `+want) {
			t.Errorf("%q: got %v, want … %s", text, err, want)
		}
	}
}
