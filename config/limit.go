package config

import (
	"cmp"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// limit checks a value against Min and Max.
func (k *Key) limit(value any) *Error {
	if (k.Min == "" || k.side(value, k.Min) >= 0) && (k.Max == "" || k.side(value, k.Max) <= 0) {
		return nil
	}
	e := &Error{Expected: k.expected()}
	switch v := value.(type) {
	case string:
		e.Message = fmt.Sprintf("the value has %d characters", utf8.RuneCountInString(v))
	case []string:
		e.Message = fmt.Sprintf("the array has %d elements", len(v))
	case time.Duration:
		e.Message = quote(formatDuration(v)) + " is outside the limits"
	case Bytes:
		e.Message = quote(v.String()) + " is outside the limits"
	case time.Time:
		e.Message = v.Format(time.RFC3339Nano) + " is outside the limits"
	default:
		e.Message = fmt.Sprint(v) + " is outside the limits"
	}
	return e
}

// side compares a value with a bound: negative below, positive above. A bound that does not parse bounds nothing here;
// CheckSpec refuses it.
func (k *Key) side(value any, bound string) int {
	switch v := value.(type) {
	case int64:
		if b, err := parseInt(bound); err == nil {
			return cmp.Compare(v, b.(int64)) //nolint:errcheck // parseInt gives an int64
		}
	case float64:
		if b, err := parseFloat(bound); err == nil {
			return cmp.Compare(v, b.(float64)) //nolint:errcheck // parseFloat gives a float64
		}
	case time.Duration:
		if b, err := parseDuration(unquote(bound)); err == nil {
			return cmp.Compare(v, b)
		}
	case Bytes:
		if b, err := ParseBytes(unquote(bound)); err == nil {
			return cmp.Compare(v, b)
		}
	case time.Time:
		if b, err := parseTime(unquote(bound)); err == nil {
			return v.Compare(b)
		}
	case string:
		return k.count(utf8.RuneCountInString(v), bound)
	case []string:
		return k.count(len(v), bound)
	}
	return 0
}

// count compares a number of characters or elements with a bound.
func (k *Key) count(n int, bound string) int {
	if b, err := parseInt(bound); err == nil {
		return cmp.Compare(int64(n), b.(int64)) //nolint:errcheck // parseInt gives an int64
	}
	return 0
}

// expected describes what the key takes, as the end of "expected …".
func (k *Key) expected() string {
	switch k.Kind {
	case KindString, KindSecret:
		return "a string" + k.bounds(" of", " character")
	case KindStrings:
		return "an array of strings" + k.bounds(" with", " element")
	case KindInt:
		return "an integer" + k.bounds("", "")
	case KindFloat:
		return "a number" + k.bounds("", "")
	case KindBool:
		return "true or false"
	case KindDuration:
		return `a duration such as "250ms" or "1h30m"` + k.bounds(",", "")
	case KindBytes:
		return `a size such as "64MiB" or "1GB"` + k.bounds(",", "")
	case KindTime:
		return "a date-time such as 2026-01-31T12:00:00Z" + k.bounds(",", "")
	case KindEnum:
		return "one of " + quoteAll(k.Enum)
	case KindTable:
		return "a table"
	case KindTables:
		return "an array of tables"
	case KindStringMap:
		return "a table of strings"
	case KindIntMap:
		return "a table of integers"
	case KindTableMap:
		return "a table of tables"
	case KindSection:
		return "a table with the key type"
	}
	return k.Kind.String()
}

// bounds describes Min and Max; after is what they count, in the singular.
func (k *Key) bounds(before, after string) string {
	least, most := unquote(k.Min), unquote(k.Max)
	if last := cmp.Or(most, least); after != "" && last != "1" {
		after += "s"
	}
	if k.Kind == KindDuration || k.Kind == KindBytes {
		least, most = quoteSome(least), quoteSome(most)
	}
	switch {
	case least == "" && most == "":
		return ""
	case most == "":
		return before + " at least " + least + after
	case least == "":
		return before + " at most " + most + after
	}
	return before + " from " + least + " to " + most + after
}

func quoteSome(text string) string {
	if text == "" {
		return ""
	}
	return quote(text)
}

func quoteAll(texts []string) string {
	quoted := make([]string, len(texts))
	for i := range texts {
		quoted[i] = quote(texts[i])
	}
	return strings.Join(quoted, ", ")
}

// unquote takes off the quotes that a spec may put around a text.
func unquote(text string) string {
	if len(text) >= 2 && text[0] == '"' && text[len(text)-1] == '"' {
		return text[1 : len(text)-1]
	}
	return text
}
