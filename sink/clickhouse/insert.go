package clickhouse

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"
)

// insertQuery is an INSERT … SELECT … FROM input(…) with its one block.
type insertQuery struct {
	body     string
	id       string
	settings []ch.Setting
	block    *block
}

// insert sends one insert. ch-go's own client holds a whole block three times to compress it; here it goes out in frames as it
// is made. The packets are ch-go's, the statement is sent as written.
//
// nil: the server has acknowledged it. progress says, for an error, whether any byte of the block was sent. After an error with
// data the connection is closed: the server may still be reading.
func (c *conn) insert(ctx context.Context, q insertQuery) (progress, error) {
	stop := context.AfterFunc(ctx, c.close)
	defer stop()
	s := exchange{conn: c, query: q, reader: proto.NewReader(c.raw)}
	at, err := s.run(ctx)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	if err != nil && (at == withData || !isException(err)) {
		c.close()
	}
	return at, err
}

// exchange is one insert under way on a connection.
type exchange struct {
	conn   *conn
	query  insertQuery
	reader *proto.Reader
}

func (s *exchange) run(ctx context.Context) (progress, error) {
	if err := s.flushed(ctx, s.sendStatement); err != nil {
		return beforeData, fmt.Errorf("send the statement: %w", err)
	}
	if ended, err := s.receive(proto.ServerCodeData); err != nil || ended {
		if err == nil {
			err = io.ErrUnexpectedEOF // the server took no block
		}
		return beforeData, err
	}
	// The server may refuse the block while it is being sent, and then not read on.
	done := make(chan error, 1)
	go func() {
		_, err := s.receive(proto.ServerCodeEndOfStream)
		if err != nil {
			_ = s.conn.raw.SetWriteDeadline(time.Unix(1, 0)) //nolint:errcheck // the connection is closed after this error
		}
		done <- err
	}()
	sendErr := s.flushed(ctx, s.sendBlock)
	if sendErr != nil && ctx.Err() == nil {
		// What the server says counts more, if it says something: give it the time for an exception that is on its way.
		_ = s.conn.raw.SetReadDeadline(time.Now().Add(time.Second)) //nolint:errcheck // then the answer is not awaited that long
	}
	err := <-done
	switch {
	case isException(err):
		return withData, err
	case sendErr != nil:
		return withData, fmt.Errorf("send the block: %w", sendErr)
	}
	return withData, err
}

// flushed runs a send under the context's deadline.
func (s *exchange) flushed(ctx context.Context, send func() error) error {
	if deadline, ok := ctx.Deadline(); ok {
		if err := s.conn.raw.SetWriteDeadline(deadline); err != nil {
			return err
		}
	}
	if err := send(); err != nil {
		return err
	}
	return s.conn.raw.SetWriteDeadline(time.Time{})
}

// sendStatement sends the query and the end of external tables, of which there are none.
func (s *exchange) sendStatement() error {
	c := s.conn
	q := proto.Query{
		ID: s.query.id, Body: s.query.body, Stage: proto.StageComplete,
		Info: proto.ClientInfo{
			ProtocolVersion: c.version, Interface: proto.InterfaceTCP, Query: proto.ClientQueryInitial,
			InitialQueryID: s.query.id, InitialAddress: c.raw.LocalAddr().String(), ClientName: clientName,
		},
	}
	if c.compression != compressionNone {
		q.Compression = proto.CompressionEnabled
	}
	// A later setting overwrites an earlier one of the same name.
	for _, list := range [][]ch.Setting{lookSettings(), s.query.settings} {
		for _, setting := range list {
			q.Settings = append(q.Settings, proto.Setting{Key: setting.Key, Value: setting.Value, Important: setting.Important})
		}
	}
	var b proto.Buffer
	q.EncodeAware(&b, c.version)
	if _, err := c.raw.Write(b.Buf); err != nil {
		return err
	}
	return s.sendData(&block{})
}

// sendBlock sends the block and the end of data.
func (s *exchange) sendBlock() error {
	if err := s.sendData(s.query.block); err != nil {
		return err
	}
	return s.sendData(&block{})
}

// sendData sends one data packet; an empty block is an end.
func (s *exchange) sendData(b *block) error {
	var head proto.Buffer
	proto.ClientCodeData.Encode(&head)
	proto.ClientData{}.EncodeAware(&head, s.conn.version)
	if _, err := s.conn.raw.Write(head.Buf); err != nil {
		return err
	}
	return b.encode(newFrameWriter(s.conn.raw, s.conn.compression), s.conn.version)
}

// receive reads packets until one of the wanted code, or the end of the statement, which ended reports. The error is the
// server's exception, or one of the connection.
func (s *exchange) receive(want proto.ServerCode) (ended bool, err error) {
	for {
		n, err := s.reader.UVarInt()
		if err != nil {
			return false, err
		}
		code := proto.ServerCode(n)
		if code == proto.ServerCodeEndOfStream {
			return true, nil
		}
		if err := s.packet(code); err != nil {
			return false, fmt.Errorf("%s packet: %w", code, err)
		}
		if code == want {
			return false, nil
		}
	}
}

// packet reads one packet of the server and drops it, unless it is an exception.
func (s *exchange) packet(code proto.ServerCode) error {
	version := s.conn.version
	switch code { //nolint:exhaustive // an insert has no answers of the other kinds
	case proto.ServerCodeException:
		var e proto.Exception
		if err := e.DecodeAware(s.reader, version); err != nil {
			return err
		}
		return &ch.Exception{Code: e.Code, Name: e.Name, Message: e.Message, Stack: e.Stack}
	case proto.ServerCodeProgress:
		return new(proto.Progress).DecodeAware(s.reader, version)
	case proto.ServerCodeProfile:
		return new(proto.Profile).DecodeAware(s.reader, version)
	case proto.ServerCodeTableColumns:
		return new(proto.TableColumns).DecodeAware(s.reader, version)
	case proto.ServerCodeData:
		return s.dropBlock(code, nil)
	case proto.ServerProfileEvents:
		return s.dropBlock(code, new(proto.ProfileEvents).Result())
	case proto.ServerCodeLog:
		return s.dropBlock(code, new(proto.Logs).Result())
	}
	return fmt.Errorf("unexpected in the answer to an insert")
}

// dropBlock reads a block: the empty one that shows the table's columns, profile events or log lines.
func (s *exchange) dropBlock(code proto.ServerCode, into proto.Result) error {
	if _, err := s.reader.Str(); err != nil { // the name of an external table
		return err
	}
	if code.Compressible() && s.conn.compression != compressionNone {
		s.reader.EnableCompression()
		defer s.reader.DisableCompression()
	}
	var b proto.Block
	return b.DecodeBlock(s.reader, s.conn.version, into)
}
