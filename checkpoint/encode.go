package checkpoint

import (
	"errors"
	"fmt"

	"github.com/ingestd/ingestd/fault"
)

const (
	kindClaim    = "claim"
	kindManifest = "manifest"
)

// Encode returns the bytes under which an entry is stored: a header line and a JSON body that a person can read, as described
// in docs/formats/manifest.md. The same entry gives the same bytes, always; a nil slice and an empty one are the same. The
// entry is checked first.
//
// Error kinds: fault.Corrupt for an entry that breaks a rule (see [Manifest.Check]) or has both or neither of its fields set,
// fault.Misconfigured for a name that is not valid UTF-8 and for an entry above [ObjectBytesMax].
func Encode(e Entry) ([]byte, error) {
	const op = "checkpoint.Encode"
	kind, value, err := e.checked()
	if err != nil {
		return nil, fault.E(op, fault.Corrupt, err)
	}
	data, err := encode(kind, value)
	if err != nil {
		return nil, fault.E(op, fault.Misconfigured, err)
	}
	return data, nil
}

// Decode reads an entry from its stored bytes and checks it. It keeps no reference to data. Every byte that [Encode] can't have
// written is refused.
//
// Error kinds: fault.Corrupt with a reason and the place in data, fault.Misconfigured for a newer format version.
func Decode(data []byte) (Entry, error) {
	const op = "checkpoint.Decode"
	kind, body, err := unseal(data)
	if err != nil {
		return Entry{}, classifyRead(op, err)
	}
	var e Entry
	var value any
	switch kind {
	case kindClaim:
		e.Claim = new(Claim)
		value = e.Claim
	case kindManifest:
		e.Manifest = new(Manifest)
		value = e.Manifest
	default:
		return Entry{}, classifyRead(op, bad(0, "kind %q is no entry of a log", kind))
	}
	base := len(data) - len(body)
	if err := unmarshal(body, base, value); err != nil {
		return Entry{}, classifyRead(op, err)
	}
	if _, _, err := e.checked(); err != nil {
		return Entry{}, classifyRead(op, bad(base, "%w", err))
	}
	return e, nil
}

// checked returns the kind and the value of an entry that keeps every rule.
func (e Entry) checked() (kind string, value any, err error) {
	switch {
	case e.Claim != nil && e.Manifest != nil:
		return "", nil, errors.New("an entry is a claim or a manifest, not both")
	case e.Claim != nil:
		return kindClaim, e.Claim, e.Claim.check()
	case e.Manifest != nil:
		return kindManifest, e.Manifest, e.Manifest.check()
	}
	return "", nil, errors.New("an entry is a claim or a manifest, this is neither")
}

// encode returns the stored bytes of any object with a header.
func encode(kind string, value any) ([]byte, error) {
	body, err := marshal(value)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", kind, err)
	}
	data := seal(kind, body)
	if err := checkSize(len(data)); err != nil {
		return nil, fmt.Errorf("%s: %w", kind, err)
	}
	return data, nil
}

// decode reads the stored bytes of an object of one kind.
func decode(kind string, data []byte, value any) error {
	got, body, err := unseal(data)
	if err != nil {
		return err
	}
	if got != kind {
		return bad(0, "kind %q, want %q", got, kind)
	}
	return unmarshal(body, len(data)-len(body), value)
}

// classifyRead gives an error of reading its kind.
func classifyRead(op fault.Op, err error) error {
	if errors.Is(err, errNewer) {
		return fault.WithRemedy(op, fault.Misconfigured, err, "run the version that wrote it, or a later one")
	}
	return fault.E(op, fault.Corrupt, err)
}
