package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// ObjectBytesMax bounds an entry of the log and the other objects with a header. A manifest of 10,000 splits takes 2 MB; what is
// above the bound was not written by this program.
const ObjectBytesMax = 256 << 20

const (
	frameMagic   = "ingestd"
	frameVersion = 1
	// headerBytesMax is above the longest header that can be written, of 101 bytes.
	headerBytesMax = 256
)

// placeError is what is wrong with stored bytes, and where.
type placeError struct {
	offset int
	err    error
}

func (e *placeError) Error() string { return fmt.Sprintf("byte %d: %v", e.offset, e.err) }

func (e *placeError) Unwrap() error { return e.err }

func bad(offset int, format string, args ...any) error {
	return &placeError{offset, fmt.Errorf(format, args...)}
}

// errNewer says that the bytes have a format version that this program doesn't know.
var errNewer = errors.New("written by a newer version of ingestd")

// seal puts the header line before a body: magic, format version, kind, length and SHA-256 of the body.
func seal(kind string, body []byte) []byte {
	sum := sha256.Sum256(body)
	header := fmt.Sprintf("%s %d %s %d sha256:%s\n", frameMagic, frameVersion, kind, len(body), hex.EncodeToString(sum[:]))
	return append([]byte(header), body...)
}

// unseal checks everything that the header says and returns kind and body, a part of data.
func unseal(data []byte) (kind string, body []byte, err error) {
	if err := checkSize(len(data)); err != nil {
		return "", nil, err
	}
	end := bytes.IndexByte(data[:min(len(data), headerBytesMax)], '\n')
	if !bytes.HasPrefix(data, []byte(frameMagic+" ")) {
		return "", nil, bad(0, "does not begin with %q", frameMagic+" ")
	}
	if end < 0 {
		return "", nil, bad(min(len(data), headerBytesMax), "the header line does not end")
	}
	fields := strings.Split(string(data[:end]), " ")
	if err := checkVersion(fields[1]); err != nil {
		return "", nil, err
	}
	if len(fields) != 5 {
		return "", nil, bad(0, "the header has %d fields, want 5", len(fields))
	}
	body = data[end+1:]
	if err := checkLength(fields[3], len(body), end+1); err != nil {
		return "", nil, err
	}
	sum := sha256.Sum256(body)
	if want := "sha256:" + hex.EncodeToString(sum[:]); fields[4] != want {
		return "", nil, bad(end+1, "the body's checksum is %s, the header says %s", want, fields[4])
	}
	return fields[2], body, nil
}

func checkSize(n int) error {
	if n > ObjectBytesMax {
		return bad(ObjectBytesMax, "%d bytes, more than the bound of %d", n, ObjectBytesMax)
	}
	return nil
}

// checkVersion is called before anything that a later version may write in another way.
func checkVersion(text string) error {
	n, ok := parseNumber(text)
	switch {
	case !ok || n == 0:
		return bad(len(frameMagic)+1, "format version %q", text)
	case n > frameVersion:
		return fmt.Errorf("format version %d, known up to %d: %w", n, frameVersion, errNewer)
	}
	return nil
}

func checkLength(text string, got, offset int) error {
	want, ok := parseNumber(text)
	switch {
	case !ok:
		return bad(0, "the header's length is %q", text)
	case want > uint64(got):
		return bad(offset+got, "cut off: the body is %d bytes, the header says %d", got, want)
	case want < uint64(got):
		return bad(offset+int(want), "%d bytes follow the body", uint64(got)-want)
	}
	return nil
}

// parseNumber reads a decimal number as fmt writes it: no sign, no leading zeros.
func parseNumber(text string) (uint64, bool) {
	n, err := strconv.ParseUint(text, 10, 64)
	return n, err == nil && strconv.FormatUint(n, 10) == text
}

// marshal writes v as the body of an object: indented JSON, one member a line, members in the order of the Go fields, and a
// line feed. The same value gives the same bytes.
func marshal(v any) ([]byte, error) {
	body, err := json.Marshal(v, json.Deterministic(true), jsontext.WithIndent(" "))
	if err != nil {
		return nil, err
	}
	return append(body, '\n'), nil
}

// unmarshal reads a body that begins at byte base of its object into v. It refuses every body that marshal can't have made,
// but for white space and the choice of escapes: unknown, missing, repeated, null or reordered members, numbers in another
// form, and base64 with loose ends. A missing member would else be read as zero.
func unmarshal(body []byte, base int, v any) error {
	if err := json.Unmarshal(body, v, json.RejectUnknownMembers(true)); err != nil {
		return locate(err, base)
	}
	canonical, err := marshal(v)
	if err != nil {
		return locate(err, base)
	}
	got, want := jsontext.NewDecoder(bytes.NewReader(body)), jsontext.NewDecoder(bytes.NewReader(canonical))
	for {
		w, wantErr := want.ReadToken()
		switch {
		case errors.Is(wantErr, io.EOF):
			return nil // the body is one valid value, and everything was equal so far
		case wantErr != nil:
			return locate(wantErr, base)
		}
		wantText := w.String()
		g, gotErr := got.ReadToken()
		if gotErr != nil || g.Kind() != w.Kind() || g.String() != wantText {
			return bad(base+int(got.InputOffset()), "at %q: %s, where a writer puts %s", string(want.StackPointer()), shorten(g.String()), shorten(wantText))
		}
	}
}

// locate turns an error of the JSON library into one with the place in the object.
func locate(err error, base int) error {
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return bad(base+int(e.ByteOffset), "at %q: %w", string(e.JSONPointer), e.Err)
	}
	e, ok := errors.AsType[*json.SemanticError](err)
	switch {
	case !ok:
		return bad(base, "%w", err)
	case e.Err != nil:
		return bad(base+int(e.ByteOffset), "at %q: %w", string(e.JSONPointer), e.Err)
	}
	return bad(base+int(e.ByteOffset), "at %q: a JSON %v is no %v", string(e.JSONPointer), e.JSONKind, e.GoType)
}

func shorten(text string) string {
	const most = 40
	if len(text) > most {
		return strconv.Quote(text[:most]) + "…"
	}
	return strconv.Quote(text)
}
