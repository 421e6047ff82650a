package config

import "strings"

// hiddenValue stands for a secret, and for everything that no spec says is none.
const hiddenValue = `"(hidden)"`

// PipelineText returns what the file says about one pipeline as TOML, one line for each key, without secrets: "" if there is no such
// pipeline. References such as ${env:NAME} stay as they are written. It is complete after [File.Pipelines].
func (f *File) PipelineText(name string) string {
	n := f.root.get("pipeline").get(name)
	if n == nil {
		return ""
	}
	var b strings.Builder
	b.WriteString("[pipeline." + bareKey(name) + "]\n")
	for _, field := range n.fields {
		b.WriteString(bareKey(field.name) + " = ")
		writeValue(&b, field.value)
		b.WriteString("\n")
	}
	return b.String()
}

// writeValue writes a value on one line.
func writeValue(b *strings.Builder, n *node) {
	switch n.form {
	case formTable:
		b.WriteString("{")
		for i, field := range n.fields {
			b.WriteString(separator(i) + bareKey(field.name) + " = ")
			writeValue(b, field.value)
		}
		b.WriteString(" }")
	case formArray:
		b.WriteString("[")
		for i, item := range n.items {
			if i > 0 {
				b.WriteString(", ")
			}
			writeValue(b, item)
		}
		b.WriteString("]")
	case formString, formInteger, formFloat, formBool, formTime, formLocalTime:
		switch {
		case !n.plain:
			b.WriteString(hiddenValue)
		case n.form == formString:
			b.WriteString(quote(n.text))
		default:
			b.WriteString(n.text)
		}
	}
}

func separator(i int) string {
	if i == 0 {
		return " "
	}
	return ", "
}

// bareKey is a key as TOML takes it, without quotes where that is possible.
func bareKey(name string) string {
	if name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == "" {
		return name
	}
	return quote(name)
}
