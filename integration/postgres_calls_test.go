//go:build integration

package integration

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	pgsink "github.com/ingestd/ingestd/sink/postgres"
)

// pgConn makes calls of what the client writes: each message, or run of messages, that the server answers, with what was written
// before it.
type pgConn struct {
	net.Conn
	call call

	mu      sync.Mutex
	out     []byte // written and not sent: messages without an answer, or a part of one
	arrived *sync.Cond
	in      []byte // what the client has not read
	part    []byte // of a message that has not come whole
	started bool   // the start-up message, which has no type, was sent
	answers int    // messages after which the server waits for the client
	err     error  // of the server's side
	broken  error  // by the test
	closed  bool
}

// dialPGCalls opens connections whose calls go through do.
func dialPGCalls(do call) pgsink.Dial {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		var d net.Dialer
		server, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		c := &pgConn{Conn: server, call: do}
		c.arrived = sync.NewCond(&c.mu)
		go c.pump()
		return c, nil
	}
}

// pgMessage splits the first message off. ok is false when it has not come whole.
func pgMessage(b []byte) (kind byte, message, rest []byte, ok bool) {
	const head = 5
	if len(b) < head {
		return 0, nil, b, false
	}
	size := 1 + int(binary.BigEndian.Uint32(b[1:]))
	if len(b) < size {
		return 0, nil, b, false
	}
	return b[0], b[:size], b[size:], true
}

// pump takes in what the server sends.
func (c *pgConn) pump() {
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Conn.Read(buf)
		c.mu.Lock()
		c.part = append(c.part, buf[:n]...)
		for {
			kind, message, rest, ok := pgMessage(c.part)
			if !ok {
				break
			}
			c.in, c.part = append(c.in, message...), rest
			// ReadyForQuery, CopyInResponse, and the requests for authentication, of which Ok and SASLFinal ask for nothing.
			asks := kind == 'R' && binary.BigEndian.Uint32(message[5:]) != 0 && binary.BigEndian.Uint32(message[5:]) != 12
			if kind == 'Z' || kind == 'G' || asks {
				c.answers++
			}
		}
		if err != nil {
			c.err = err
		}
		c.arrived.Broadcast()
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (c *pgConn) Read(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.broken != nil:
			return 0, c.broken
		case c.closed:
			return 0, net.ErrClosed
		case len(c.in) > 0:
			n := copy(b, c.in)
			c.in = c.in[n:]
			return n, nil
		case c.err != nil:
			return 0, c.err
		}
		c.arrived.Wait()
	}
}

// take returns what is to be sent as one call, and its name; nil while nothing written asks for an answer.
func (c *pgConn) take() (call []byte, name string) {
	if !c.started {
		const head = 4
		if len(c.out) < head || len(c.out) < int(binary.BigEndian.Uint32(c.out)) {
			return nil, ""
		}
		c.started = true
		call, c.out = c.out, nil
		return call, "start-up"
	}
	for rest := c.out; ; {
		kind, message, after, ok := pgMessage(rest)
		if !ok {
			return nil, ""
		}
		rest = after
		if strings.IndexByte("QScfp", kind) < 0 { // Query, Sync, CopyDone, CopyFail, an answer to a request for authentication
			continue
		}
		call, c.out = c.out[:len(c.out)-len(rest)], append([]byte{}, rest...)
		if kind == 'Q' {
			return call, callName(message[5:])
		}
		return call, fmt.Sprintf("%c %s", kind, callName(call[5:]))
	}
}

// Write keeps what is written, and carries out the calls in it.
func (c *pgConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	if c.broken != nil {
		c.mu.Unlock()
		return 0, c.broken
	}
	c.out = append(c.out, b...)
	out, name := c.take()
	c.mu.Unlock()
	if out == nil {
		return len(b), nil
	}
	if err := c.call([]byte(name), func() error { return c.send(out) }); err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.broken = fmt.Errorf("%w: %w", errCut, err)
		c.arrived.Broadcast()
		return len(b), nil // the client learns it when it reads: of a write that failed it could know that nothing was sent
	}
	return len(b), nil
}

// Deadlines are for the context of a call, which these tests don't need: what they break they break at once. One that has passed
// ends a call that waits.
func (c *pgConn) SetDeadline(at time.Time) error {
	if !at.IsZero() && at.Before(time.Now()) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.broken = errCut
		c.arrived.Broadcast()
	}
	return nil
}

func (c *pgConn) SetReadDeadline(time.Time) error  { return nil }
func (c *pgConn) SetWriteDeadline(time.Time) error { return nil }

// send sends one call and waits for the answer.
func (c *pgConn) send(out []byte) error {
	c.mu.Lock()
	before := c.answers
	c.mu.Unlock()
	if _, err := c.Conn.Write(out); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.answers == before && c.err == nil && c.broken == nil {
		c.arrived.Wait()
	}
	if c.answers == before && c.broken == nil {
		return c.err
	}
	return nil
}

// Close closes the server's side too, unless the test broke the connection: then a call may still be sent late.
func (c *pgConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.closed = true
	c.arrived.Broadcast()
	if c.broken != nil {
		return nil
	}
	return c.Conn.Close()
}
