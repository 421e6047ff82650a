package clickhouse

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/ClickHouse/ch-go"
	"github.com/ClickHouse/ch-go/proto"

	"github.com/ingestd/ingestd/fault"
)

// server is which server answers. Everything that a unit needs (attempts, kills, looks) happens on one server.
type server struct {
	Host string `json:"host"`
	UUID string `json:"uuid,omitempty"` // "" when the server has none
}

// clientName is what the server shows of this client.
const clientName = "ingestd"

// noUUID is what a server without a UUID of its own answers.
const noUUID = "00000000-0000-0000-0000-000000000000"

// same reports whether both are one server. The UUID lies in the server's data folder and outlives a change of the host name.
func (s server) same(other server) bool {
	if s.UUID != "" && other.UUID != "" {
		return s.UUID == other.UUID
	}
	return s.Host == other.Host
}

// String names the server for people.
func (s server) String() string {
	if s.UUID == "" {
		return s.Host
	}
	return s.Host + " (" + s.UUID + ")"
}

// dialer opens connections as the settings say.
type dialer struct {
	settings *Settings
	tls      *tls.Config
	network  Dial
}

// Dial opens a connection, as net.Dialer.DialContext does.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// conn is one connection. It is used by one goroutine at a time.
type conn struct {
	client *ch.Client
	// raw is the client's connection: between its queries an insert uses it by itself.
	raw net.Conn
	// version is that of the protocol, as both sides know it.
	version     int
	compression string
	addr        string
	server      server
	// start is when the server's process began, seconds since 1970 by its own clock, give or take one.
	start   int64
	timeout time.Duration // of a query
}

// dial connects to one address and asks which server it is.
func (d *dialer) dial(ctx context.Context, addr string) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.settings.DialTimeout)
	defer cancel()
	compression := ch.CompressionLZ4
	switch d.settings.Compression {
	case compressionZSTD:
		compression = ch.CompressionZSTD
	case compressionNone:
		compression = ch.CompressionDisabled
	}
	raw, err := d.network(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	if config := d.tlsFor(addr); config != nil {
		raw = tls.Client(raw, config)
	}
	client, err := ch.Connect(ctx, raw, ch.Options{
		Database: d.settings.Database, User: d.settings.User,
		Password: d.settings.Password.Reveal(), Compression: compression, ClientName: clientName,
		HandshakeTimeout: d.settings.DialTimeout, Settings: lookSettings(),
		// A packet may be late; the context of each call says how late.
		ReadTimeout: ch.NoTimeout,
	})
	if err != nil {
		_ = raw.Close() //nolint:errcheck // the connection is given up, whatever closing it says
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	c := &conn{
		client: client, raw: raw, version: min(proto.Version, client.ServerInfo().Revision), compression: d.settings.Compression,
		addr: addr, timeout: d.settings.ReadTimeout,
	}
	if err := c.identify(ctx); err != nil {
		c.close()
		return nil, fmt.Errorf("ask %s who it is: %w", addr, err)
	}
	return c, nil
}

// tlsFor is the TLS configuration for an address, nil for none.
func (d *dialer) tlsFor(addr string) *tls.Config {
	if d.tls == nil || d.tls.ServerName != "" {
		return d.tls
	}
	config := d.tls.Clone()
	if host, _, err := net.SplitHostPort(addr); err == nil {
		config.ServerName = host
	}
	return config
}

// any connects to the first address that answers.
func (d *dialer) any(ctx context.Context) (*conn, error) {
	var errs []error
	for _, addr := range d.settings.Addr {
		c, err := d.dial(ctx, addr)
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// errOtherServer says that the addresses lead to servers, but not to the one that is needed.
var errOtherServer = errors.New("no address leads to the server that the unit belongs to")

// to connects to a named server.
func (d *dialer) to(ctx context.Context, want server) (*conn, error) {
	var errs []error
	for _, addr := range d.settings.Addr {
		c, err := d.dial(ctx, addr)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if c.server.same(want) {
			return c, nil
		}
		errs = append(errs, fmt.Errorf("%w: %s is %s, not %s", errOtherServer, addr, c.server, want))
		c.close()
	}
	return nil, errors.Join(errs...)
}

// identify asks for host name, UUID and the time of the start.
func (c *conn) identify(ctx context.Context) error {
	rows, err := c.query(ctx, "SELECT hostName(), toString(serverUUID()), toString(toInt64(toUnixTimestamp(now())) - toInt64(uptime()))", 3)
	if err != nil {
		return err
	}
	if len(rows) != 1 {
		return fmt.Errorf("%d rows instead of one", len(rows))
	}
	c.server.Host = rows[0][0]
	if rows[0][1] != noUUID {
		c.server.UUID = rows[0][1]
	}
	c.start, err = strconv.ParseInt(rows[0][2], 10, 64)
	return err
}

// usable reports whether the connection still answers.
func (c *conn) usable(ctx context.Context) bool {
	if c == nil || c.client.IsClosed() {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if err := c.client.Ping(ctx); err != nil {
		c.close()
		return false
	}
	return true
}

// close ends the connection.
func (c *conn) close() {
	if c != nil && !c.client.IsClosed() {
		_ = c.client.Close() //nolint:errcheck // the connection is given up, whatever closing it says
	}
}

// query runs a SELECT whose columns all are of type String.
func (c *conn) query(ctx context.Context, body string, columns int) ([][]string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	cols := make([]*proto.ColStr, columns)
	results := make(proto.Results, columns)
	for i := range cols {
		cols[i] = new(proto.ColStr)
		results[i] = proto.ResultColumn{Data: cols[i]}
	}
	var rows [][]string
	err := c.client.Do(ctx, ch.Query{
		Body: body, Result: results,
		OnResult: func(_ context.Context, b proto.Block) error {
			for i := range b.Rows {
				row := make([]string, columns)
				for j := range cols {
					row[j] = cols[j].Row(i)
				}
				rows = append(rows, row)
			}
			return nil
		},
	})
	return rows, err
}

// number runs a SELECT of one number, given as a String.
func (c *conn) number(ctx context.Context, body string) (int64, error) {
	rows, err := c.query(ctx, body, 1)
	if err != nil {
		return 0, err
	}
	if len(rows) != 1 {
		return 0, fmt.Errorf("%d rows instead of one", len(rows))
	}
	return strconv.ParseInt(rows[0][0], 10, 64)
}

// granted asks whether the user has a right.
func (c *conn) granted(ctx context.Context, right, on string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var result proto.ColUInt8
	err := c.client.Do(ctx, ch.Query{Body: "CHECK GRANT " + right + " ON " + on, Result: proto.Results{{Data: &result}}})
	return err == nil && result.Rows() == 1 && result.Row(0) == 1, err
}

// exec runs a statement whose result does not matter.
func (c *conn) exec(ctx context.Context, body string, settings ...ch.Setting) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	return c.client.Do(ctx, ch.Query{
		Body: body, Settings: settings, Result: (&proto.Results{}).Auto(),
		OnResult: func(context.Context, proto.Block) error { return nil },
	})
}

// exists reports whether a table is there, as far as the user may see.
func (c *conn) exists(ctx context.Context, name tableName) (bool, error) {
	n, err := c.number(ctx, "SELECT toString(count()) FROM system.tables WHERE database = "+literal(name.Database)+" AND name = "+literal(name.Table))
	return n > 0, err
}

// ensure makes a table if it is missing. A user without the right to do so can be given the table instead.
func (c *conn) ensure(ctx context.Context, name tableName, create string) error {
	there, err := c.exists(ctx, name)
	if err != nil || there {
		return err
	}
	if err := c.exec(ctx, create); err != nil {
		return fault.WithRemedy("", kindOf(err), fmt.Errorf("create %s: %w", name, err), create)
	}
	return nil
}
