package postgres

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ingestd/ingestd/fault"
)

// The server's error codes that are told apart (Appendix A of its manual).
const (
	codeDeadlock         = "40P01"
	codeSerialization    = "40001"
	codeCompletion       = "40003" // statement_completion_unknown
	codeLockNotAvailable = "55P03"
	codeReadOnly         = "25006"
	codeUndefinedTable   = "42P01"
	codeUndefinedColumn  = "42703"
	codeUndefinedSchema  = "3F000"
	codeDuplicateTable   = "42P07"
	codePrivilege        = "42501"
	codeRaise            = "P0001"
	codeProgramLimit     = "54000"
	codeCheckViolation   = "23514"
)

var (
	// errFenced says that another run has taken the ledger's row over.
	errFenced = errors.New("another run has taken over")
	// errStore says that the ledger's row is of another checkpoint store.
	errStore = errors.New("the ledger's row is of another checkpoint store")
	// errBack says that the server knows less than it has told.
	errBack = errors.New("the server has forgotten commits")
	// errAhead says that the server knows more than the checkpoint store.
	errAhead = errors.New("the checkpoint store is older than the ledger")
	// errNoTable says that the target is not there.
	errNoTable = errors.New("there is no such table")
)

// serverError is the server's own error, nil when the error is not one.
func serverError(err error) *pgconn.PgError {
	e, _ := errors.AsType[*pgconn.PgError](err)
	return e
}

// answered reports whether an error is the server's whole answer to a statement, which then had no effect. A fatal one ends the
// session, and may come after the effect of a statement whose answer is lost by it.
func answered(err error) bool {
	e := serverError(err)
	return e != nil && e.SeverityUnlocalized != "FATAL" && e.SeverityUnlocalized != "PANIC" && e.Code != codeCompletion
}

// mayRefuseRow reports whether a code can come from the values of a row.
//
// Class 22 is what is wrong with a value, class 23 a constraint, a missing partition among them, P0001 what a trigger raises, and
// 54000 an index entry that is too large. A trigger may raise any other code: that is not a row's fault until a person says so.
func mayRefuseRow(code string) bool {
	return strings.HasPrefix(code, "22") || strings.HasPrefix(code, "23") || code == codeRaise || code == codeProgramLimit
}

// again reports whether the same transaction may succeed when it is begun anew, at once.
func again(err error) bool {
	e := serverError(err)
	return e != nil && (e.Code == codeDeadlock || e.Code == codeSerialization)
}

// kindOf gives an error the kind that tells what to do.
func kindOf(err error) fault.Kind {
	if k := fault.KindOf(err); k != fault.Unknown {
		return k
	}
	switch {
	case errors.Is(err, errFenced):
		return fault.Fenced
	case errors.Is(err, errStore), errors.Is(err, errBack), errors.Is(err, errAhead):
		return fault.Lost
	case errors.Is(err, errNoTable):
		return fault.Misconfigured
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fault.Transient
	}
	e := serverError(err)
	if e == nil || len(e.Code) < 2 {
		return fault.Transient // connecting, reading: what was changed is asked by the next call
	}
	switch e.Code[:2] {
	case "28", "42", "3D", "3F", "0A": // who one is, what there is and what one may do, a database, a schema, what is not built
		return fault.Misconfigured
	}
	return fault.Transient
}
