package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// Dial opens a connection, as net.Dialer.DialContext does.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// dialer opens connections as the settings say.
type dialer struct {
	settings *Settings
	network  Dial
}

// conn is one connection. It is used by one goroutine at a time. Nothing is kept in the server's session between transactions,
// so that a pooler may give each transaction another one.
type conn struct {
	pg      *pgconn.PgConn
	timeout time.Duration // of a statement that moves no rows
	// warning is what the server warned of since it was last cleared.
	warning string
}

// defaultPort is the server's.
const defaultPort = "5432"

// endpoint splits an address; a path is the folder of a Unix socket.
func endpoint(addr string) (host, port string, err error) {
	if strings.HasPrefix(addr, "/") {
		return addr, defaultPort, nil
	}
	if host, port, err = net.SplitHostPort(addr); err != nil {
		return "", "", fmt.Errorf("addr: %q is not host:port", addr)
	}
	return host, port, nil
}

// config makes the library's configuration. Every word that the environment could set otherwise is set here.
func (d *dialer) config() (*pgconn.Config, error) {
	s := d.settings
	var hosts, ports []string
	for _, addr := range s.Addr {
		host, port, err := endpoint(addr)
		if err != nil {
			return nil, err
		}
		hosts, ports = append(hosts, host), append(ports, port)
	}
	words := []string{
		"host", strings.Join(hosts, ","), "port", strings.Join(ports, ","), "user", s.User, "dbname", s.Database, "sslmode", s.SSLMode,
		"target_session_attrs", "read-write", "application_name", s.ApplicationName, "client_encoding", "UTF8", "service", "",
		"connect_timeout", strconv.Itoa(max(1, int(s.DialTimeout/time.Second))),
		"sslrootcert", s.SSLRootCert, "sslcert", s.SSLCert, "sslkey", s.SSLKey,
	}
	var text strings.Builder
	for i := 0; i < len(words); i += 2 {
		if words[i+1] != "" {
			text.WriteString(words[i] + "='" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(words[i+1]) + "' ")
		}
	}
	c, err := pgconn.ParseConfig(text.String())
	if err != nil {
		return nil, err
	}
	c.Password = s.Password.Reveal() // after the parsing, whose errors show what was parsed
	c.DialFunc = pgconn.DialFunc(d.network)
	return c, nil
}

// dial connects to the first server that takes writes.
func (d *dialer) dial(ctx context.Context) (*conn, error) {
	config, err := d.config()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, d.settings.DialTimeout*time.Duration(len(d.settings.Addr)))
	defer cancel()
	c := &conn{timeout: d.settings.ReadTimeout}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { // called by the reads of the goroutine that uses the connection
		if n.SeverityUnlocalized == "WARNING" {
			c.warning = n.Message
		}
	}
	if c.pg, err = pgconn.ConnectConfig(ctx, config); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return c, nil
}

// usable reports whether the connection may still work: what broke it before is known.
func (c *conn) usable() bool { return c != nil && !c.pg.IsClosed() }

// close ends the connection.
func (c *conn) close() {
	if c == nil {
		return
	}
	const patience = time.Second
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = c.pg.Close(ctx) //nolint:errcheck // the connection is given up, whatever closing it says
}

// abandon makes calls that another goroutine has under way fail. Only their own end shows in usable.
func (c *conn) abandon() {
	if c != nil {
		_ = c.pg.Conn().Close() //nolint:errcheck // the connection is given up, whatever closing it says
	}
}

// exec runs statements without parameters or results.
func (c *conn) exec(ctx context.Context, statements string) error {
	return c.long(ctx, statements, c.timeout)
}

// long is exec with a time limit of its own.
func (c *conn) long(ctx context.Context, statements string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return c.pg.Exec(ctx, statements).Close()
}

// query runs one statement. Arguments and results are texts; a null is "".
func (c *conn) query(ctx context.Context, statement string, args ...string) ([][]string, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	values := make([][]byte, len(args))
	for i, a := range args {
		values[i] = []byte(a)
	}
	result := c.pg.ExecParams(ctx, statement, values, nil, nil, nil).Read()
	if result.Err != nil {
		return nil, result.Err
	}
	rows := make([][]string, len(result.Rows))
	for i, row := range result.Rows {
		for _, v := range row {
			rows[i] = append(rows[i], string(v))
		}
	}
	return rows, nil
}

// text runs a statement that answers one value; ok is false for no row.
func (c *conn) text(ctx context.Context, statement string, args ...string) (value string, ok bool, err error) {
	rows, err := c.query(ctx, statement, args...)
	if err != nil || len(rows) == 0 {
		return "", false, err
	}
	return rows[0][0], true, nil
}

// yes runs a statement that answers one boolean.
func (c *conn) yes(ctx context.Context, statement string, args ...string) (bool, error) {
	value, _, err := c.text(ctx, statement, args...)
	return value == "t", err
}

// copyRows sends rows by COPY. limit is how long it may take.
func (c *conn) copyRows(ctx context.Context, statement string, rows io.Reader, limit time.Duration) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tag, err := c.pg.CopyFrom(ctx, rows, statement)
	return tag.RowsAffected(), err
}

// signature is what the server shows of a run's transactions: by it a successor finds and ends those that hold its row. It fits
// the server's 63 bytes and ends with the lease.
func signature(id sink.Identity, lease record.Lease) (prefix, name string) {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %d %q", id.Pipeline, id.Lane, id.Sink))
	const digits = 8
	prefix = "ingestd " + hex.EncodeToString(sum[:digits]) + " lease "
	return prefix, prefix + strconv.FormatUint(uint64(lease), 10)
}

// begin opens a transaction. What it depends on is set in it and not in the session: under a pooler the session is another's.
// The level is named because the role may have a stricter one as its default, in which a row that was waited for can't be read.
func (c *conn) begin(ctx context.Context, name string, s *Settings, lockTimeout time.Duration) error {
	return c.exec(ctx, "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL application_name = "+literal(name)+
		"; SET LOCAL statement_timeout = "+milliseconds(s.StatementTimeout)+
		"; SET LOCAL idle_in_transaction_session_timeout = "+milliseconds(s.IdleTimeout)+
		"; SET LOCAL lock_timeout = "+milliseconds(lockTimeout)+
		"; SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'")
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(max(d.Milliseconds(), 1), 10) }

// rollback ends a transaction without effect. An error only says that the connection is gone, and the transaction with it.
func (c *conn) rollback(ctx context.Context) {
	if !c.usable() {
		return
	}
	if err := c.exec(context.WithoutCancel(ctx), "ROLLBACK"); err != nil {
		c.close()
	}
}

// commit ends a transaction. nil means that it took effect and is durable. known is false when the error leaves that open. A
// warning says that the server gave up waiting for its synchronous standbys: it has the rows then, and they may not.
func (c *conn) commit(ctx context.Context, limit time.Duration) (known bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c.warning = ""
	results, err := c.pg.Exec(ctx, "COMMIT").ReadAll()
	if err != nil {
		return answered(err) || pgconn.SafeToRetry(err), err
	}
	if len(results) != 1 || results[0].CommandTag.String() != "COMMIT" {
		return true, errors.New("the server rolled the transaction back")
	}
	if c.warning != "" {
		return false, fmt.Errorf("the server warns: %s", c.warning)
	}
	return true, nil
}
