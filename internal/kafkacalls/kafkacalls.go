// Package kafkacalls is for tests: connections to Kafka brokers on which each request is one call that a test may lose, delay or double.
package kafkacalls

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// callConn makes one call of each request that the client writes, and its answer.
type callConn struct {
	net.Conn
	call Call
	sent *lastRequest // of all connections of the process

	mu      sync.Mutex
	arrived *sync.Cond
	in      []byte // answers that the client has not read
	part    []byte // of an answer that has not come whole
	answers int    // that came whole
	err     error  // of the server's side
	broken  error  // by the test
	closed  bool
}

// ErrCut is what the client sees of a connection that the test broke.
var ErrCut = errors.New("the test cut the connection")

// Call is what happens to one request: it calls send, or not, or later. After an error the client sees a broken connection.
type Call func(name string, send func() error) error

// Dial opens connections whose requests go through do.
func Dial(do Call) func(ctx context.Context, network, address string) (net.Conn, error) {
	sent := new(lastRequest)
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		var d net.Dialer
		server, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		c := &callConn{Conn: server, call: do, sent: sent}
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
		c.part = append(c.part, buf[:n]...)
		for len(c.part) >= 4 {
			size := 4 + int(binary.BigEndian.Uint32(c.part))
			if len(c.part) < size {
				break
			}
			c.in = append(c.in, c.part[:size]...)
			c.part = c.part[size:]
			c.answers++
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

// lastRequest is the last request of a process.
type lastRequest struct {
	mu    sync.Mutex
	frame []byte
}

// repeats tells that a request is the last one again, which it is when the broker asked for patience: how often it does differs from
// time to time.
func (l *lastRequest) repeats(frame []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	const correlation, after = 8, 12
	same := len(l.frame) == len(frame) && bytes.Equal(l.frame[:correlation], frame[:correlation]) && bytes.Equal(l.frame[after:], frame[after:])
	l.frame = frame
	return same
}

// forget makes the next request count, whichever it is: the last one was broken.
func (l *lastRequest) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.frame = nil
}

// Write carries out the call. What a client asks about versions first is not one, nor is a repetition.
func (c *callConn) Write(b []byte) (int, error) {
	const apiVersions = 18
	key := int16(binary.BigEndian.Uint16(b[4:]))
	frame := append([]byte{}, b...)
	var err error
	if send := func() error { return c.send(frame) }; key == apiVersions || c.sent.repeats(frame) {
		err = send()
	} else {
		err = c.call(kmsg.NameForKey(key), send)
	}
	if err == nil {
		return len(b), nil
	}
	c.sent.forget()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken = fmt.Errorf("%w: %w", ErrCut, err)
	c.arrived.Broadcast()
	return len(b), c.broken // of a request of which nothing was written the library knows that it had no effect, and sends it again
}

// Deadlines are for the context of a call, which these tests don't need: what they break they break at once.
func (c *callConn) SetReadDeadline(time.Time) error  { return nil }
func (c *callConn) SetWriteDeadline(time.Time) error { return nil }

// send sends one request and waits for the answer.
func (c *callConn) send(frame []byte) error {
	c.mu.Lock()
	before := c.answers
	c.mu.Unlock()
	if _, err := c.Conn.Write(frame); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.answers == before && c.err == nil {
		c.arrived.Wait()
	}
	if c.answers == before {
		return c.err
	}
	return nil
}

// Close closes the server's side too, unless the test broke the connection: then a request may still be sent late.
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
