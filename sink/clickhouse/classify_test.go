package clickhouse

import (
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/sink"
)

func exception(code int, message string) error {
	return fmt.Errorf("handle packet: %w", &ch.Exception{Code: proto.Error(code), Name: "DB::Exception", Message: message})
}

func TestClassify_whatAnInsertsErrorLeavesKnown(t *testing.T) {
	cases := []struct {
		why  string
		err  error
		at   progress
		want class
	}{
		{"the connection broke: the block may be on its way", io.ErrUnexpectedEOF, withData, classUnknown},
		{"the connection broke before the data: the statement may still run and get its data from the socket", io.ErrUnexpectedEOF, beforeData, classUnknown},
		{"the time is over: the server goes on", context.DeadlineExceeded, withData, classUnknown},
		{"the call was given up: the server goes on", context.Canceled, beforeData, classUnknown},
		{"an attempt of this name is running", exception(216, "Query with id = … is already running"), beforeData, classUnknown},
		{"memory is short after data were sent: parts may be there", exception(241, "Memory limit exceeded"), withData, classUnknown},
		{"memory is short before data were sent: the statement is over", exception(241, "Memory limit exceeded"), beforeData, classNothing},
		{"the query was killed in the midst of the data", exception(394, "Query was cancelled"), withData, classUnknown},
		{"the disk is full: some partitions may be there", exception(243, "Cannot reserve"), withData, classUnknown},
		{"the server ends, and had no data", exception(236, "The server is shutting down"), beforeData, classNothing},
		{"the server ends with the data", exception(236, "The server is shutting down"), withData, classUnknown},
		{"the user may not insert", exception(497, "Not enough privileges"), beforeData, classNothing},
		{"the fence, as the first rows come", exception(395, fenceMarker+": while executing"), withData, classFenced},
		{"the fence, before rows come", exception(395, fenceMarker), beforeData, classFenced},
		{"a throwIf of the table's own", exception(395, "no such customer"), withData, classRefused},
		{"a throwIf that no row can cause", exception(395, "no such customer"), beforeData, classNothing},
		{"a constraint", exception(469, "Constraint `c` is violated at row 3."), withData, classRefused},
		{"a default expression that can't read a text", exception(6, "Cannot parse string"), withData, classRefused},
		{"too many partitions of the block", exception(252, "Too many partitions for single INSERT block. The limit is controlled by 'max_partitions_per_insert_block'"), withData, classWide},
		{"merges are behind", exception(252, "Too many parts (300). Merges are processing significantly slower than inserts"), beforeData, classNothing},
		{"merges are behind, and data were sent", exception(252, "Too many parts (300)"), withData, classUnknown},
		{"a column is gone", exception(16, "No such column x"), beforeData, classSchema},
		{"a column became MATERIALIZED", exception(44, "Cannot insert column x"), beforeData, classSchema},
		{"the table is gone", exception(60, "Table db.t does not exist"), beforeData, classSchema},
	}
	for _, c := range cases {
		if got := classify(c.err, c.at); got != c.want {
			t.Errorf("%s: got %d, want %d", c.why, got, c.want)
		}
	}
}

func TestClassify_kindsOfQueryErrors(t *testing.T) {
	cases := []struct {
		err  error
		want fault.Kind
	}{
		{io.EOF, fault.Transient},
		{context.DeadlineExceeded, fault.Transient},
		{errRunning, fault.Transient},
		{exception(241, "memory"), fault.Transient},
		{exception(516, "Authentication failed"), fault.Misconfigured},
		{exception(497, "Not enough privileges"), fault.Misconfigured},
		{exception(60, "no table"), fault.Misconfigured},
		{fmt.Errorf("x: %w", errNoTable), fault.Misconfigured},
		{fmt.Errorf("x: %w", errFenced), fault.Fenced},
		{fmt.Errorf("x: %w", errStore), fault.Lost},
		{fault.E("", fault.Corrupt, io.EOF), fault.Corrupt},
	}
	for _, c := range cases {
		if got := kindOf(c.err); got != c.want {
			t.Errorf("%v: got %v, want %v", c.err, got, c.want)
		}
	}
}

// The error of an unknown outcome says so, unless a person must act; it never turns an outcome into a better one.
func TestClassify_kindOfAnOutcome(t *testing.T) {
	cases := []struct {
		outcome sink.Outcome
		err     error
		want    fault.Kind
	}{
		{sink.Unknown, io.EOF, fault.Unknown},
		{sink.Unknown, exception(516, "Authentication failed"), fault.Misconfigured},
		{sink.Retry, io.EOF, fault.Transient},
		{sink.Rejected, exception(469, "x"), fault.Rejected},
		{sink.Fenced, errFenced, fault.Fenced},
		{sink.Lost, fault.E("", fault.Lost, io.EOF), fault.Lost},
	}
	for _, c := range cases {
		if got := kindFor(c.outcome, c.err); got != c.want {
			t.Errorf("%v, %v: got %v, want %v", c.outcome, c.err, got, c.want)
		}
	}
}

// The row of a message is taken only if it lies in what was sent.
func TestClassify_rowOfAMessage(t *testing.T) {
	violated := func(n string) *ch.Exception {
		return &ch.Exception{Code: 469, Message: "Constraint `c` for table db.t (x) is violated at row " + n + ". Expression: (a < 1). Column values: a = 5"}
	}
	cases := []struct {
		e    *ch.Exception
		want int
	}{
		{violated("1"), 100},
		{violated("50"), 149},
		{violated("51"), -1},
		{violated("0"), -1},
		{violated("99999999999999999999"), -1},
		{&ch.Exception{Code: 469, Message: "Constraint expression returns nullable column"}, -1},
		{&ch.Exception{Code: 6, Message: "is violated at row 1."}, -1},
	}
	for _, c := range cases {
		if got := hintOf(c.e, span{100, 150}); got != c.want {
			t.Errorf("%s: got row %d, want %d", c.e.Message, got, c.want)
		}
	}
}
