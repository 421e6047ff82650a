package clickhouse

import (
	"context"
	"errors"
	"strings"

	"github.com/ClickHouse/ch-go"

	"github.com/ingestd/ingestd/fault"
)

// class is what an insert's error says about its effect.
type class uint8

const (
	// classUnknown: it may have taken effect, wholly or in part, now or later.
	classUnknown class = iota
	// classNothing: the server refused the statement before it took any row.
	classNothing
	// classFenced: the fence row is not ours; no row was written.
	classFenced
	// classSchema: the statement does not fit the table any more; no row was taken.
	classSchema
	// classWide: the block touches more partitions than the server's setting allows. What took effect must be looked for.
	classWide
	// classRefused: the server may have refused a row. What took effect must be looked for.
	classRefused
)

// The server's error codes that are told apart.
const (
	codeArgumentOutOfBound     = 69
	codeBadArguments           = 36
	codeCannotConvert          = 70
	codeCannotInsertNull       = 349
	codeCannotParseDate        = 38
	codeCannotParseDateTime    = 41
	codeCannotParseNumber      = 72
	codeCannotParseText        = 6
	codeCannotParseInput       = 27
	codeCannotParseUUID        = 376
	codeDecimalOverflow        = 407
	codeDivision               = 153
	codeOutOfRange             = 321
	codeTooLargeString         = 131
	codeTypeMismatch           = 53
	codeUnknownEnum            = 691
	codeViolatedConstraint     = 469
	codeThrowIf                = 395
	codeSameQueryID            = 216
	codeNoSuchColumn           = 16
	codeIllegalColumn          = 44
	codeUnknownIdentifier      = 47
	codeUnknownTable           = 60
	codeUnknownDatabase        = 81
	codeWrongPassword          = 193
	codeUnknownUser            = 192
	codeAuthentication         = 516
	codeAccessDenied           = 497
	codeReadonly               = 164
	codeUnknownSetting         = 115
	codeSettingConstraint      = 452
	codeSyntax                 = 62
	codeQueryCancelled         = 394
	codeUnknownType            = 50
	codeTooManyParts           = 252
	codeTableIsReadOnly        = 242
	codeDatabaseAccessDenied   = 291
	codeRequiredPassword       = 194
	codeIPAddressNotAllowed    = 195
	codeNumberOfArguments      = 42
	codeIllegalTypeOfArgument  = 43
	codeCannotCompileRegexp    = 427
	codeCannotParseIPv4        = 675
	codeCannotParseIPv6        = 676
	codeCannotParseBool        = 467
	codeIncorrectData          = 117
	codeUnsupportedMethod      = 1
	codeNotImplemented         = 48
	codeSizesOfArraysDontMatch = 190
)

// progress is how far an insert had come when its error was made.
type progress uint8

const (
	beforeData progress = iota // no byte of the block was sent
	withData
)

// classify says what an insert's error leaves known.
//
// An exception that came whole, before data were sent, ends the statement before it could write. Everything else, an
// exception in the midst of the data, a cut connection, a timeout, leaves the outcome open.
func classify(err error, at progress) class {
	var e *ch.Exception
	if !errors.As(err, &e) {
		return classUnknown
	}
	if e.Code == codeSameQueryID {
		return classUnknown // an attempt of this name is still running
	}
	if e.Code == codeThrowIf && strings.Contains(e.Message, fenceMarker) {
		return classFenced
	}
	if e.Code == codeTooManyParts && strings.Contains(e.Message, "max_partitions_per_insert_block") {
		return classWide
	}
	if mayRefuseRow(int(e.Code)) && at == withData {
		return classRefused
	}
	if at == withData {
		return classUnknown
	}
	if aboutSchema(int(e.Code)) {
		return classSchema
	}
	return classNothing
}

// isException reports whether an error is the server's own, which came whole.
func isException(err error) bool {
	_, ok := errors.AsType[*ch.Exception](err)
	return ok
}

// mayRefuseRow reports whether a code can come from the values of a row: a CHECK constraint, or an expression of a DEFAULT or
// MATERIALIZED column, of the partition key or of an index that can't be computed.
func mayRefuseRow(code int) bool {
	switch code {
	case codeViolatedConstraint, codeThrowIf, codeCannotParseText, codeCannotParseInput, codeBadArguments, codeCannotParseDate,
		codeCannotParseDateTime, codeTypeMismatch, codeArgumentOutOfBound, codeCannotConvert, codeCannotParseNumber,
		codeTooLargeString, codeDivision, codeOutOfRange, codeCannotInsertNull, codeCannotParseUUID, codeDecimalOverflow,
		codeUnknownEnum, codeCannotCompileRegexp, codeCannotParseIPv4, codeCannotParseIPv6, codeCannotParseBool,
		codeIncorrectData, codeSizesOfArraysDontMatch:
		return true
	}
	return false
}

// aboutSchema reports whether a code says that the table is not what it was.
func aboutSchema(code int) bool {
	switch code {
	case codeNoSuchColumn, codeIllegalColumn, codeUnknownIdentifier, codeUnknownTable, codeUnknownDatabase, codeUnknownType,
		codeNumberOfArguments, codeIllegalTypeOfArgument, codeTypeMismatch:
		return true
	}
	return false
}

// kindOf gives an error of a query, or of connecting, the kind that tells what to do. Inserts are classified by classify.
func kindOf(err error) fault.Kind {
	if k := fault.KindOf(err); k != fault.Unknown {
		return k
	}
	switch {
	case errors.Is(err, errFenced):
		return fault.Fenced
	case errors.Is(err, errStore):
		return fault.Lost
	case errors.Is(err, errNumber), errors.Is(err, errNoTable):
		return fault.Misconfigured
	case errors.Is(err, errRunning), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fault.Transient
	}
	var e *ch.Exception
	if !errors.As(err, &e) {
		return fault.Transient // connecting, reading: nothing of ours was changed that another call would not change again
	}
	switch int(e.Code) {
	case codeWrongPassword, codeUnknownUser, codeAuthentication, codeAccessDenied, codeReadonly, codeUnknownSetting,
		codeSettingConstraint, codeSyntax, codeNoSuchColumn, codeIllegalColumn, codeUnknownIdentifier, codeUnknownTable,
		codeUnknownDatabase, codeDatabaseAccessDenied, codeRequiredPassword, codeIPAddressNotAllowed, codeUnsupportedMethod,
		codeNotImplemented:
		return fault.Misconfigured
	}
	return fault.Transient
}
