package postgres

import (
	"strings"
	"testing"
	"time"

	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
)

func TestSettings_specFitsTheStruct(t *testing.T) {
	if err := config.CheckSpec(Spec(), &Settings{}); err != nil {
		t.Error(err)
	}
}

// decode reads a sink's section with its defaults.
func decode(t *testing.T, section string) Settings {
	t.Helper()
	parsed := config.ParseSection("c.toml", []byte("type = \"postgres\"\n"+section), config.Env{})
	var s Settings
	if !parsed.Decode(Spec(), &s) {
		t.Fatalf("the section is refused: %v", parsed.Err())
	}
	return s
}

const needed = `addr = ["h:5432"]
database = "d"
user = "u"
table = "t"
`

func TestSettings_defaults(t *testing.T) {
	s := decode(t, needed)
	if s.Mode != modeAppend || s.OnReject != rejectDeadLetter || s.Schema != "public" || s.SSLMode != "prefer" || s.LockTimeout != 20*time.Second ||
		s.ledger() != (tableName{"public", ledgerTable}) || s.target() != (tableName{"public", "t"}) {
		t.Errorf("got the defaults %+v", s)
	}
	if _, err := New(s); err != nil {
		t.Error(err)
	}
}

func TestSettings_whatDoesNotFitIsRefused(t *testing.T) {
	for _, c := range []struct{ section, want string }{
		{`key = ["a"]`, "only mode"},
		{`delete_column = "gone"`, "only mode"},
		{"mode = \"upsert\"\nkey = [\"a\"]\ndelete_column = \"a\"", "in the key"},
		{`sslcert = "/c.pem"`, "belong together"},
		{"sslmode = \"verify-full\"\nsslrootcert = \"/there/is/none.pem\"", "none.pem"},
	} {
		_, err := New(decode(t, needed+c.section))
		if err == nil || fault.KindOf(err) != fault.Misconfigured || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.section, err, c.want)
		}
	}
	s := decode(t, needed)
	s.Addr = []string{"nowhere"}
	if _, err := New(s); err == nil || !strings.Contains(err.Error(), "host:port") {
		t.Errorf("got %v", err)
	}
}

// What the library reads from the environment must not reach a daemon's sink, and a password must not reach a message.
func TestSettings_environmentAndPassword(t *testing.T) {
	for name, value := range map[string]string{
		"PGHOST": "elsewhere", "PGPORT": "1", "PGUSER": "other", "PGDATABASE": "other", "PGAPPNAME": "other", "PGSSLMODE": "require", "PGTARGETSESSIONATTRS": "any",
	} {
		t.Setenv(name, value)
	}
	s := decode(t, needed+`sslmode = "disable"`)
	s.Addr, s.Password = []string{"a:1", "b:2"}, config.NewSecret(`it's a \ secret`)
	p, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	c, err := p.dialer.config()
	if err != nil {
		t.Fatal(err)
	}
	if c.Host != "a" || c.Port != 1 || c.User != "u" || c.Database != "d" || c.TLSConfig != nil || c.Password != `it's a \ secret` || len(c.Fallbacks) != 1 ||
		c.Fallbacks[0].Host != "b" || c.RuntimeParams["application_name"] != "ingestd" || c.ValidateConnect == nil {
		t.Errorf("got host %s:%d, user %s, database %s, %d fallbacks, parameters %v", c.Host, c.Port, c.User, c.Database, len(c.Fallbacks), c.RuntimeParams)
	}
	s.SSLMode, s.SSLRootCert = "verify-full", "/there/is/none.pem"
	if _, err := New(s); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v, want an error without the password", err)
	}
}

func TestQuote_namesAndLiterals(t *testing.T) {
	if got := (tableName{`a"b`, "T"}).String(); got != `"a""b"."T"` {
		t.Errorf("got %s", got)
	}
	if got := literal(`it's \n`); got != `E'it\'s \\n'` {
		t.Errorf("got %s", got)
	}
}
