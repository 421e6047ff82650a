package config

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Entry is one key of a KindStringMap table with its place, for tables whose order counts.
type Entry struct {
	Key, Value string
	Pos        Pos
}

// scalar reads the value n of the key k: a string, int64, float64, bool, time.Duration, Bytes, time.Time or Secret. The Error
// has neither place nor path.
func (f *File) scalar(k *Key, n *node) (any, *Error) {
	if !k.takes(n.form) {
		return nil, &Error{Message: k.found(n), Expected: k.expected(), Hint: k.remedy(n)}
	}
	text := n.text
	if n.form == formString {
		expanded, err := f.expand(text)
		if err != nil && err.Expected != "" && k.Kind == KindSecret {
			err.Message = "it holds ${ but no reference that is known" // the text may be the secret itself
		}
		if err != nil {
			return nil, err
		}
		text = expanded
	}
	value, err := k.parse(n.form, text)
	if err == nil {
		err = k.limit(value)
	}
	if err != nil && text != n.text { // what came in from outside must not stand in a message
		message := "what " + n.shown() + " stands for does not fit"
		if text == "" {
			message = "what " + n.shown() + " stands for is empty"
		}
		return nil, &Error{Message: message, Expected: k.expected()}
	}
	if err != nil {
		return nil, err
	}
	n.plain, n.canonical = k.Kind != KindSecret, canonical(n, value)
	return value, nil
}

// takes reports whether a value of this form can be read as k's kind.
func (k *Key) takes(found form) bool {
	switch k.Kind {
	case KindInt, KindIntMap:
		return found == formInteger
	case KindFloat:
		return found == formFloat || found == formInteger
	case KindBool:
		return found == formBool
	case KindTime:
		return found == formTime || found == formString
	case KindString, KindStrings, KindDuration, KindBytes, KindSecret, KindEnum, KindStringMap:
		return found == formString
	case KindTable, KindTables, KindTableMap, KindSection:
	}
	return false
}

// parse reads a value whose form fits.
func (k *Key) parse(found form, text string) (any, *Error) {
	switch found {
	case formInteger, formFloat:
		if k.Kind == KindFloat {
			return parseFloat(text)
		}
		return parseInt(text)
	case formBool:
		return text == "true", nil
	case formTime, formString, formLocalTime, formTable, formArray:
	}
	return k.parseText(text)
}

// parseText reads the content of a string.
func (k *Key) parseText(text string) (any, *Error) {
	var value any
	var err error
	switch k.Kind {
	case KindDuration:
		value, err = parseDuration(text)
	case KindBytes:
		value, err = ParseBytes(text)
	case KindTime:
		value, err = parseTime(text)
	case KindSecret:
		value = NewSecret(text)
	case KindEnum:
		if !slices.Contains(k.Enum, text) {
			return nil, &Error{Message: "found " + shorten(quote(text)), Expected: k.expected(), Hint: guess(text, k.Enum)}
		}
		value = text
	case KindString, KindStrings, KindInt, KindFloat, KindBool, KindTable, KindTables, KindStringMap, KindIntMap, KindTableMap,
		KindSection:
		value = text
	}
	if err != nil {
		return nil, &Error{Message: err.Error(), Expected: k.expected()}
	}
	if k.Required && k.empty(text) {
		return nil, &Error{Message: "the value is empty", Expected: k.expected()}
	}
	return value, nil
}

// empty reports whether a required key of strings was given nothing.
func (k *Key) empty(text string) bool {
	return text == "" && (k.Kind == KindString || k.Kind == KindSecret || k.Kind == KindStrings)
}

// guess is the did-you-mean for one of few values, which the message lists anyway.
func guess(name string, candidates []string) string {
	if near := nearest(name, candidates); near != "" {
		return "did you mean " + quote(near) + "?"
	}
	return ""
}

func parseInt(text string) (any, *Error) {
	value, err := strconv.ParseInt(strings.TrimPrefix(text, "+"), 0, 64)
	if err != nil {
		return nil, &Error{Message: shorten(text) + " does not fit into 64 bits", Expected: "an integer"}
	}
	return value, nil
}

func parseFloat(text string) (any, *Error) {
	value, err := strconv.ParseFloat(strings.ReplaceAll(text, "_", ""), 64)
	if err != nil || math.IsInf(value, 0) || math.IsNaN(value) {
		return nil, &Error{Message: shorten(text) + " is not a finite number", Expected: "a number"}
	}
	return value, nil
}

// parseTime reads RFC 3339 with what TOML allows beside it: a space, t or z.
func parseTime(text string) (time.Time, error) {
	normal := strings.ToUpper(text)
	if len(normal) > len(time.DateOnly) && normal[len(time.DateOnly)] == ' ' {
		normal = normal[:len(time.DateOnly)] + "T" + normal[len(time.DateOnly)+1:]
	}
	value, err := time.Parse(time.RFC3339Nano, normal)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s is not a date-time with an offset", shorten(quote(text)))
	}
	return value.UTC(), nil
}

// canonical is the value in the one form that a digest takes. A reference stays as it is written: what it stands for may be
// a secret and may differ between machines.
func canonical(n *node, value any) string {
	if n.form == formString && strings.Contains(n.text, "${") {
		return quote(n.text)
	}
	switch v := value.(type) {
	case string:
		return quote(v)
	case time.Time:
		return v.Format(time.RFC3339Nano)
	case Secret:
		return ""
	default:
		return fmt.Sprint(v)
	}
}

// shown is a value in a message, as it is written in the file, cut to a readable length.
func (n *node) shown() string {
	if n.form == formString {
		return shorten(quote(n.text))
	}
	return shorten(n.text)
}

func shorten(text string) string {
	const charactersMax = 80
	if utf8.RuneCountInString(text) <= charactersMax {
		return text
	}
	return string([]rune(text)[:charactersMax]) + "…"
}

// found says what stands in the file instead of what k wants.
func (k *Key) found(n *node) string {
	if k.Kind == KindSecret || n.form == formTable || n.form == formArray {
		return "found " + n.form.String()
	}
	return "found " + n.form.String() + ", " + n.shown()
}

// remedy says how to write the value if that can be guessed from its form.
func (k *Key) remedy(n *node) string {
	switch {
	case k.Kind == KindDuration && n.form == formInteger && digits(n.text):
		return `write "` + n.text + `s" if seconds are meant`
	case k.Kind == KindBytes && n.form == formInteger && digits(n.text):
		if value, err := strconv.ParseInt(n.text, 10, 64); err == nil {
			return `write ` + quote(Bytes(value).String()) + ` if bytes are meant`
		}
	case k.Kind == KindStrings && n.form == formString:
		return "write [" + n.shown() + "]"
	case k.Kind == KindTables && n.form == formTable:
		return "write the header in double brackets, [[…]]"
	case k.Kind == KindTable && n.form == formArray:
		return "write the header in single brackets, […]"
	case k.Kind == KindBool && n.form == formString && (n.text == "true" || n.text == "false"),
		k.Kind == KindInt && n.form == formString && digits(n.text):
		return "leave out the quotes"
	case (k.Kind == KindString || slices.Contains(k.Enum, n.text)) &&
		(n.form == formInteger || n.form == formFloat || n.form == formBool):
		return "write " + quote(n.text)
	case k.Kind == KindTime && n.form == formLocalTime:
		return "add the offset, such as Z for UTC"
	}
	return ""
}
