package config

import (
	"crypto/subtle"
	"fmt"
	"log/slog"
)

// redacted is what every way of printing a Secret gives.
const redacted = "[redacted]"

// Secret is a string that can't be printed by accident: fmt with any verb, JSON, text encoders and slog all give
// "[redacted]", also when it lies in an unexported field. Only Reveal gives the value. The zero value is the empty secret.
type Secret struct {
	// A function, because reflection walks through strings and pointers of unexported fields but not into a function.
	reveal func() string
}

// NewSecret wraps value.
func NewSecret(value string) Secret {
	return Secret{reveal: func() string { return value }}
}

// Reveal returns the value. What receives it must neither log nor store it.
func (s Secret) Reveal() string {
	if s.reveal == nil {
		return ""
	}
	return s.reveal()
}

// Equal reports whether both hold the same value, in time that does not depend on where they differ.
func (s Secret) Equal(other Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(other.Reveal())) == 1
}

// String returns "[redacted]", also for the empty secret.
func (s Secret) String() string { return redacted }

// GoString returns "[redacted]".
func (s Secret) GoString() string { return redacted }

// Format writes "[redacted]" for every verb.
func (s Secret) Format(state fmt.State, _ rune) {
	_, _ = state.Write([]byte(redacted)) //nolint:errcheck // fmt.State keeps what is written in memory and can't fail
}

// MarshalJSON gives the JSON string "[redacted]".
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText gives "[redacted]".
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue gives "[redacted]".
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }
