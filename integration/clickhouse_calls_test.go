//go:build integration

package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	chsink "github.com/ingestd/ingestd/sink/clickhouse"
)

// callConn makes calls of what is written between two settings of the write deadline: ch-go sets it before it flushes and
// takes it away after.
type callConn struct {
	net.Conn
	call call
	// flushes counts what ch-go flushed. Its second flush of a connection ends the handshake and has no answer, so it goes with
	// the first statement.
	flushes int

	mu       sync.Mutex
	out      []byte
	arrived  *sync.Cond
	in       []byte
	received int   // bytes since the beginning
	err      error // of the server's side
	broken   error // by the test
	closed   bool
}

var errCut = errors.New("the test cut the connection")

// call is what happens to one flush: it calls send, or not, or later. After an error the client sees a broken connection.
type call func(out []byte, send func() error) error

// dialCalls opens connections whose calls go through do.
func dialCalls(do call) chsink.Dial {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		var d net.Dialer
		server, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		c := &callConn{Conn: server, call: do}
		c.arrived = sync.NewCond(&c.mu)
		go c.pump()
		return c, nil
	}
}

// pump takes in what the server sends.
func (c *callConn) pump() {
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Conn.Read(buf)
		c.mu.Lock()
		c.in = append(c.in, buf[:n]...)
		c.received += n
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

func (c *callConn) Read(b []byte) (int, error) {
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

func (c *callConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return 0, c.broken
	}
	c.out = append(c.out, b...)
	return len(b), nil
}

// SetReadDeadline is for the context of a call, which these tests don't need: what they break they break at once.
func (c *callConn) SetReadDeadline(time.Time) error { return nil }

func (c *callConn) SetWriteDeadline(at time.Time) error {
	c.mu.Lock()
	out := c.out
	if at.IsZero() && len(out) > 0 {
		c.flushes++
	}
	const handshakeEnd = 2
	if !at.IsZero() || len(out) == 0 || c.flushes == handshakeEnd {
		c.mu.Unlock()
		return nil
	}
	c.out = nil
	c.mu.Unlock()
	if err := c.call(out, func() error { return c.send(out) }); err != nil {
		c.mu.Lock()
		c.broken = fmt.Errorf("%w: %w", errCut, err)
		c.arrived.Broadcast()
		c.mu.Unlock()
	}
	return nil
}

// send sends one call and waits for the beginning of the answer.
func (c *callConn) send(out []byte) error {
	c.mu.Lock()
	before := c.received
	c.mu.Unlock()
	if _, err := c.Conn.Write(out); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.received == before && c.err == nil {
		c.arrived.Wait()
	}
	return c.err
}

// Close closes the server's side too, unless the test broke the connection: then a call may still be sent late. The server
// gives such a connection up by itself.
func (c *callConn) Close() error {
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

// callName shows the readable part of a call in messages.
func callName(out []byte) string {
	name := make([]byte, 0, 60)
	for _, b := range out {
		if b >= ' ' && b < 0x7f {
			name = append(name, b)
		}
		if len(name) == cap(name) {
			break
		}
	}
	return string(name)
}
