package config

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// Bytes is a size in bytes. In a file it is a string with a unit, decimal or binary: "512B", "1GB", "64MiB", "1.5GiB".
type Bytes int64

// unit is one unit of size.
type unit struct {
	name  string
	bytes int64
}

// units lists the units of size, the greatest first.
func units() []unit {
	return []unit{
		{"TiB", 1 << 40},
		{"TB", 1e12},
		{"GiB", 1 << 30},
		{"GB", 1e9},
		{"MiB", 1 << 20},
		{"MB", 1e6},
		{"KiB", 1 << 10},
		{"KB", 1e3},
		{"B", 1},
	}
}

// ParseBytes reads a size. The number may have a fraction if the result is a whole number of bytes. The unit is needed and
// its case counts.
func ParseBytes(text string) (Bytes, error) {
	number := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	name := text[len(number):]
	if !plainNumber(number) {
		return 0, fmt.Errorf("%q is not a number and a unit", text)
	}
	for _, u := range units() {
		if u.name == name || (name == "kB" && u.name == "KB") {
			return scale(text, number, u)
		}
	}
	return 0, unitError(number, name)
}

// plainNumber reports whether s is digits, with or without a fraction of at most nine digits.
func plainNumber(s string) bool {
	whole, fraction, dotted := strings.Cut(s, ".")
	const wholeDigits, fractionDigits = 19, 9 // an int64 has at most 19 digits
	return digits(whole) && len(whole) <= wholeDigits && (!dotted || digits(fraction) && len(fraction) <= fractionDigits)
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

func scale(text, number string, u unit) (Bytes, error) {
	exact, ok := new(big.Rat).SetString(number)
	if !ok {
		return 0, fmt.Errorf("%q is not a number and a unit", text)
	}
	exact.Mul(exact, new(big.Rat).SetInt64(u.bytes))
	if !exact.IsInt() {
		return 0, fmt.Errorf("%q is not a whole number of bytes", text)
	}
	if !exact.Num().IsInt64() {
		return 0, fmt.Errorf("%q is more than %s", text, Bytes(math.MaxInt64))
	}
	return Bytes(exact.Num().Int64()), nil
}

// unitError says which unit is meant, if that can be guessed.
func unitError(number, name string) error {
	if name == "" {
		return fmt.Errorf("%q has no unit", number)
	}
	var fits []string
	for _, u := range units() {
		if strings.EqualFold(u.name, name) || strings.EqualFold(u.name, name+"B") || strings.EqualFold(u.name, name+"iB") {
			fits = append(fits, fmt.Sprintf("%q", number+u.name))
		}
	}
	if len(fits) == 0 {
		return fmt.Errorf("unknown unit %q", name)
	}
	return fmt.Errorf("unknown unit %q, write %s", name, strings.Join(fits, " or "))
}

// String gives the size in the greatest unit that divides it: 64MiB, 1GB, 1000001B. [ParseBytes] reads it back.
func (b Bytes) String() string {
	for _, u := range units() {
		if b != 0 && int64(b)%u.bytes == 0 {
			return fmt.Sprintf("%d%s", int64(b)/u.bytes, u.name)
		}
	}
	return fmt.Sprintf("%dB", int64(b))
}

// day is the length of the unit d, which stands before all others: "7d", "1d12h".
const day = 24 * time.Hour

// parseDuration reads what time.ParseDuration reads, with days, and without negative values and bare numbers.
func parseDuration(text string) (time.Duration, error) {
	if plainNumber(text) {
		return 0, fmt.Errorf("%q has no unit", text)
	}
	if strings.HasPrefix(text, "-") {
		return 0, fmt.Errorf("%q is negative", text)
	}
	number, rest, found := strings.Cut(text, "d")
	if !found {
		number, rest = "0", text
	}
	if found && rest == "" {
		rest = "0s"
	}
	days, err := strconv.ParseUint(number, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration", text)
	}
	d, err := time.ParseDuration(rest)
	if err != nil || strings.Trim(rest[:1], "0123456789.") != "" {
		return 0, fmt.Errorf("%q is not a duration", text)
	}
	if limit := (math.MaxInt64 - d) / day; time.Duration(days) > limit {
		return 0, fmt.Errorf("%q is too long", text)
	}
	return time.Duration(days)*day + d, nil
}

// formatDuration writes a duration as a person would: 1m30s, not 1m30.0s; 1h, not 1h0m0s.
func formatDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
