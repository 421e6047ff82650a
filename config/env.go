package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Env is the outside world that a file can refer to. In the zero Env no variable is set and no file exists.
type Env struct {
	// Lookup returns the value of an environment variable and whether it is set.
	Lookup func(name string) (string, bool)
	// ReadFile returns the content of a file.
	ReadFile func(path string) ([]byte, error)
}

// ProcessEnv is the environment and the file system of this process. It reads at most 1 MiB and one byte of a file, so that
// a device given by mistake does not fill the memory; a longer file is refused by whoever asked for it.
func ProcessEnv() Env {
	return Env{Lookup: os.LookupEnv, ReadFile: readBounded}
}

func readBounded(path string) (data []byte, err error) {
	file, err := os.Open(path) //nolint:gosec // the path is what the operator configured
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return io.ReadAll(io.LimitReader(file, fileBytesMax+1))
}

func (e Env) read(path string) ([]byte, error) {
	if e.ReadFile == nil {
		return nil, fs.ErrNotExist
	}
	return e.ReadFile(path)
}

// reason is an error's text without the path that fs errors repeat.
func reason(err error) string {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Err.Error()
	}
	return err.Error()
}

// secretBytesMax bounds what ${file:PATH} may bring in: room for any key or certificate chain.
const secretBytesMax = 64 << 10

// expand replaces ${env:NAME} and ${file:PATH} in text, and $${ by ${. What comes in is not expanded again. The Error has
// neither place nor key, and Expected only if the reference is malformed; it never holds what comes in.
func (f *File) expand(text string) (string, *Error) {
	var b strings.Builder
	for {
		i := strings.Index(text, "${")
		if i < 0 {
			b.WriteString(text)
			return b.String(), nil
		}
		if i > 0 && text[i-1] == '$' {
			b.WriteString(text[:i-1] + "${")
			text = text[i+2:]
			continue
		}
		b.WriteString(text[:i])
		reference, rest, closed := strings.Cut(text[i+2:], "}")
		if !closed {
			return "", &Error{Message: "${ has no closing }", Hint: "write $${ for the characters ${"}
		}
		value, problem := f.resolve(reference)
		if problem != nil {
			return "", problem
		}
		b.WriteString(value)
		text = rest
	}
}

// resolve returns what stands behind one reference, the text between ${ and }.
func (f *File) resolve(reference string) (string, *Error) {
	scheme, name, _ := strings.Cut(reference, ":")
	switch {
	case scheme == "env" && variableName(name):
		return f.variable(name)
	case scheme == "env":
		return "", &Error{
			Message: "${" + reference + "} names no variable", Expected: "letters, digits and _ after ${env:",
			Hint: "defaults and commands are not supported",
		}
	case scheme == "file" && name != "":
		return f.content(name)
	}
	return "", &Error{
		Message: "unknown reference ${" + reference + "}", Expected: "${env:NAME} or ${file:PATH}",
		Hint: "write $${ for the characters ${",
	}
}

func (f *File) variable(name string) (string, *Error) {
	value, set := "", false
	if f.env.Lookup != nil {
		value, set = f.env.Lookup(name)
	}
	switch {
	case !set:
		return "", &Error{Message: "the environment variable " + name + " is not set", Hint: "set it for the daemon's process"}
	case !utf8.ValidString(value):
		return "", &Error{Message: "the environment variable " + name + " is not UTF-8"}
	}
	return value, nil
}

// content returns a file's content without the one line end that editors and echo leave.
func (f *File) content(path string) (string, *Error) {
	full := path
	if !filepath.IsAbs(path) {
		full = filepath.Join(filepath.Dir(f.name), path)
	}
	data, err := f.env.read(full)
	switch {
	case err != nil:
		return "", &Error{
			Message: "the file " + full + " can't be read: " + reason(err),
			Hint:    "create it or mend its permissions; a relative path starts at the config file's folder",
		}
	case len(data) > secretBytesMax:
		return "", &Error{Message: fmt.Sprintf("the file %s is too long", full), Expected: "at most " + Bytes(secretBytesMax).String()}
	case !utf8.Valid(data):
		return "", &Error{Message: "the file " + full + " is not UTF-8"}
	}
	value := strings.TrimSuffix(string(data), "\n")
	return strings.TrimSuffix(value, "\r"), nil
}

// variableName reports whether name can be the name of an environment variable.
func variableName(name string) bool {
	return name != "" && (name[0] < '0' || name[0] > '9') &&
		strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
}

// quote writes a string as TOML's basic string.
func quote(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ' || r == 0x7f:
			b.WriteString(`\u00` + strconv.FormatInt(int64(r)+0x100, 16)[1:])
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
