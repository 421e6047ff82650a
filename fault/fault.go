// Package fault classifies errors by what the daemon must do about them.
//
// A plugin decides the [Kind] where it sees its library's error; nobody else looks inside. The text is for people, the kind
// is for the code: one function in pipeline maps each kind to a reaction.
package fault

import (
	"errors"
	"strings"
)

// Kind says how the daemon reacts to an error. The list is append-only, and the zero value is the worst case.
type Kind uint8

const (
	// Unknown means that the act may or may not have happened. Ask the authority (a ledger, the log) again; never report success.
	Unknown Kind = iota
	// Transient means that nothing happened and that the same call may succeed later. Back off and call again.
	Transient
	// Rejected means that the record or batch can never succeed. Dead-letter it with its position, or stop, as configured.
	Rejected
	// Fenced means that a newer lease owns this. From the own log: stop, delete nothing. From a sink: read the own log first.
	Fenced
	// Lost means that prepared work, or input that was not read yet, is gone for ever. Stop loudly.
	Lost
	// Corrupt means that stored bytes fail a check. Stop, keep the evidence, name file and offset.
	Corrupt
	// Misconfigured means that a person must act. Refuse to start, with the place and the remedy.
	Misconfigured
)

// String returns the kind's name in lower case, as it stands in logs and metrics.
func (k Kind) String() string {
	switch k {
	case Unknown:
		return "unknown"
	case Transient:
		return "transient"
	case Rejected:
		return "rejected"
	case Fenced:
		return "fenced"
	case Lost:
		return "lost"
	case Corrupt:
		return "corrupt"
	case Misconfigured:
		return "misconfigured"
	}
	return "invalid"
}

// Op names the operation that failed, as package and method: "sink/clickhouse.Commit".
type Op string

// Error is a classified error. Its text is "op: cause", and the remedy, when there is one, follows on a line of its own.
type Error struct {
	Op     Op
	Kind   Kind
	Err    error
	Remedy string // the statement or command that leads on; may be empty
}

// E wraps err, which must not be nil, with the operation and the kind. Wrap once per package border.
func E(op Op, kind Kind, err error) error {
	return &Error{Op: op, Kind: kind, Err: err}
}

// WithRemedy is [E] with the exact statement or command by which a person can mend the cause.
func WithRemedy(op Op, kind Kind, err error, remedy string) error {
	return &Error{Op: op, Kind: kind, Err: err, Remedy: remedy}
}

// Error returns the operation and the cause.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Op != "" {
		b.WriteString(string(e.Op))
		b.WriteString(": ")
	}
	b.WriteString(e.Err.Error())
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the outermost classified error in err's chain. An error that nobody classified is [Unknown].
// It must not be called with nil: no error has no kind.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Unknown
}

// RemedyOf returns the first remedy in err's chain, or "".
func RemedyOf(err error) string {
	for {
		var e *Error
		if !errors.As(err, &e) {
			return ""
		}
		if e.Remedy != "" {
			return e.Remedy
		}
		err = e.Err
	}
}
