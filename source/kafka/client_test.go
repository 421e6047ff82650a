package kafka

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/source"
)

// authority makes certificates.
type authority struct {
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	ca   string // file
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.ca, _ = a.issue(t, "ca", nil)
	return a
}

// issue writes a certificate and its key to files; without a parent it is the authority's own.
func (a *authority) issue(t *testing.T, name string, parent *x509.Certificate) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: parent == nil,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	signer := a.key
	if parent == nil {
		a.key, a.cert, parent, signer = key, template, template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(a.dir, name+".crt"), filepath.Join(a.dir, name+".key")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// Every way of connecting that the settings know, and what is said when it fails.
func TestSource_connectsWithTLSAndSASL(t *testing.T) {
	a := newAuthority(t)
	serverCert, serverKey := a.issue(t, "broker", a.cert)
	clientCert, clientKey := a.issue(t, "client", a.cert)
	pair, err := tls.LoadX509KeyPair(serverCert, serverKey)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	caPEM, err := os.ReadFile(a.ca)
	if err != nil || !roots.AppendCertsFromPEM(caPEM) {
		t.Fatal("no authority", err)
	}
	c := cluster(t, kfake.SeedTopics(1, "orders"), kfake.EnableSASL(),
		kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert}),
		kfake.Superuser(mechanismPlain, "plain", "p1"), kfake.Superuser(mechanismScram256, "scram256", "p2"),
		kfake.Superuser(mechanismScram512, "scram512", "p3"))
	mutual := TLS{CA: a.ca, Cert: clientCert, Key: clientKey}
	user := func(mechanism, name, password string) *SASL {
		return &SASL{Mechanism: mechanism, Username: name, Password: config.NewSecret(password)}
	}
	noCA := TLS{Cert: clientCert, Key: clientKey}
	insecure := noCA
	insecure.InsecureSkipVerify = true
	otherName := mutual
	otherName.ServerName = "somebody-else"
	rightName := mutual
	rightName.ServerName = "broker"
	missing := mutual
	missing.CA = filepath.Join(a.dir, "none.crt")
	noCert := mutual
	noCert.CA = clientKey
	cases := []struct {
		name string
		tls  *TLS
		sasl *SASL
		kind fault.Kind
		err  string
	}{
		{"plain", &mutual, user(mechanismPlain, "plain", "p1"), 0, ""},
		{"scram 256", &mutual, user(mechanismScram256, "scram256", "p2"), 0, ""},
		{"scram 512", &mutual, user(mechanismScram512, "scram512", "p3"), 0, ""},
		{"default mechanism", &mutual, user("", "scram256", "p2"), 0, ""},
		{"server name", &rightName, user(mechanismPlain, "plain", "p1"), 0, ""},
		{"insecure", &insecure, user(mechanismPlain, "plain", "p1"), 0, ""},
		{"unknown authority", &noCA, user(mechanismPlain, "plain", "p1"), fault.Misconfigured, "certificate signed by unknown authority"},
		{"other name", &otherName, user(mechanismPlain, "plain", "p1"), fault.Misconfigured, "somebody-else"},
		{"no CA file", &missing, nil, fault.Misconfigured, "tls.ca: open"},
		{"no certificate in the CA file", &noCert, nil, fault.Misconfigured, "tls.ca: no certificate"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			s := settings(c, "orders")
			s.TLS, s.SASL, s.Until = tc.tls, tc.sasl, untilEnd
			src := newSource(t, s)
			splits, err := src.Discover(t.Context(), nil)
			findings := src.Check(t.Context())
			if tc.err != "" {
				wantFault(t, err, tc.kind, tc.err)
				if len(findings) == 0 || findings[0].Level != source.Blocks || !strings.Contains(findings[0].Text, tc.err) {
					t.Errorf("got the findings %+v, want one that blocks and says %q", findings, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			readAll(t, openReader(t, src, splits, nil), splits)
			if len(findings) > 0 && tc.name != "insecure" {
				t.Errorf("got the findings %+v, want none", findings)
			}
		})
	}
}

// A wrong password is no reason to try again for ever.
func TestSource_wrongPasswordIsMisconfigured(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "orders"), kfake.EnableSASL(), kfake.Superuser(mechanismPlain, "app", "right"))
	s := settings(c, "orders")
	s.SASL = &SASL{Mechanism: mechanismPlain, Username: "app", Password: config.NewSecret("right")}
	src := newSource(t, s)
	splits := discover(t, src)
	// The fake cluster hangs up without the code that a broker sends before it does.
	c.ControlKey(int16(kmsg.SASLAuthenticate), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		resp := kreq.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		resp.ErrorCode = kerr.SaslAuthenticationFailed.Code
		return resp, nil, true
	})
	s.SASL.Password = config.NewSecret("wrong")
	_, err := newSource(t, s).Discover(t.Context(), nil)
	wantFault(t, err, fault.Misconfigured, "SASL_AUTHENTICATION_FAILED")
	if got := fault.RemedyOf(err); !strings.Contains(got, "sasl.password") {
		t.Errorf("got the remedy %q, want the key to check", got)
	}
	err = pollError(t, openReader(t, src, splits, nil), splits)
	wantFault(t, err, fault.Misconfigured, "SASL_AUTHENTICATION_FAILED")
	for _, text := range []string{err.Error(), fmt.Sprintf("%+v", s)} {
		if strings.Contains(text, "right") || strings.Contains(text, "wrong") {
			t.Errorf("got %q, want no password in it", text)
		}
	}
}

// Permissions that are missing are found before the start, each with its topic.
func TestSource_checkFindsMissingPermissions(t *testing.T) {
	allow := func(topic string, op kmsg.ACLOperation) kfake.ACL {
		return kfake.ACL{
			Resource: kmsg.ACLResourceTypeTopic, Name: topic, Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: op, Allow: true,
		}
	}
	c := cluster(t, kfake.EnableSASL(), kfake.EnableACLs(), kfake.SeedTopics(2, "full", "blind", "hidden"),
		kfake.Superuser(mechanismScram256, "admin", "a"),
		kfake.User(mechanismScram256, "app", "p",
			allow("full", kmsg.ACLOperationRead), allow("full", kmsg.ACLOperationDescribe), allow("blind", kmsg.ACLOperationDescribe)))
	admin := client(t, c, kgo.SASL(scram.Auth{User: "admin", Pass: "a"}.AsSha256Mechanism()))
	produce(t, admin, "full", 0, "v")
	cases := []struct {
		topics []string
		group  string
		want   []string
	}{
		{[]string{"full"}, "", nil},
		{[]string{"full", "blind"}, "", []string{"topic blind: read: TOPIC_AUTHORIZATION_FAILED"}},
		{[]string{"full", "hidden"}, "", []string{"topic hidden: TOPIC_AUTHORIZATION_FAILED"}},
		{[]string{"full"}, "lag", []string{"mirror group lag: GROUP_AUTHORIZATION_FAILED"}},
	}
	for _, tc := range cases {
		s := settings(c, tc.topics...)
		s.SASL = &SASL{Username: "app", Password: config.NewSecret("p")}
		s.GroupMirror = tc.group
		findings := newSource(t, s).Check(t.Context())
		if len(findings) != len(tc.want) {
			t.Errorf("%v: got the findings %+v, want %q", tc.topics, findings, tc.want)
			continue
		}
		for i, want := range tc.want {
			if f := findings[i]; f.Level != source.Blocks || !strings.HasPrefix(f.Text, want) || f.Remedy == "" {
				t.Errorf("%v: got the finding %+v, want %q with a remedy", tc.topics, f, want)
			}
		}
	}
}

func TestSource_checkTellsWhatWeakens(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "orders"))
	s := settings(c)
	s.TopicsRegex, s.Isolation, s.OnLoss = "none", readUncommitted, lossSkip
	var levels []source.Level
	for _, f := range newSource(t, s).Check(t.Context()) {
		levels = append(levels, f.Level)
	}
	if diff := cmp.Diff([]source.Level{source.Weakens, source.Weakens, source.Note}, levels); diff != "" {
		t.Errorf("levels differ (-want +got):\n%s", diff)
	}
	s = settings(c, "orders", "missing")
	findings := newSource(t, s).Check(t.Context())
	if len(findings) != 1 || findings[0].Text != "topics: the topic missing does not exist" {
		t.Errorf("got the findings %+v, want the missing topic", findings)
	}
}

func TestSpec_fitsTheSettings(t *testing.T) {
	text := `
type = "kafka"
brokers = ["a:1", "b:2"]
topics = ["orders"]
start = "offsets"
start_offsets = { "orders/0" = 5 }
until = "timestamp"
until_timestamp = 2026-01-02T03:04:05Z
gone_after = "1m"
[tls]
[sasl]
username = "u"
password = "p"
`
	section := config.ParseSection("source", []byte(text), config.Env{})
	var s Settings
	if !section.Decode(Spec(), &s) {
		t.Fatal(section.Err())
	}
	if s.SASL == nil || s.SASL.Password.Reveal() != "p" || s.SASL.Mechanism != mechanismScram256 || s.TLS == nil {
		t.Errorf("got the tables %+v, %+v", s.SASL, s.TLS)
	}
	p, err := s.check()
	if err != nil {
		t.Fatal(err)
	}
	if p.startOffsets[splitKey{"orders", 0}] != 5 || p.UntilTimestamp.Year() != 2026 || p.GoneAfter != time.Minute {
		t.Errorf("got %+v", p)
	}
	// The defaults of the spec are those that a program gets that fills the struct itself.
	bare := config.ParseSection("source", []byte("type = \"kafka\"\nbrokers = [\"a\"]\ntopics = [\"t\"]\n"), config.Env{})
	var decoded Settings
	if !bare.Decode(Spec(), &decoded) {
		t.Fatal(bare.Err())
	}
	filled, err := Settings{Brokers: []string{"a"}, Topics: []string{"t"}}.check()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(filled.Settings, decoded, cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Dial" }, cmp.Ignore())); diff != "" {
		t.Errorf("defaults differ (-filled +decoded):\n%s", diff)
	}
	if bare.Err() != nil || decoded.TLS != nil || decoded.SASL != nil {
		t.Errorf("got TLS %v, SASL %v, %v; want none", decoded.TLS, decoded.SASL, bare.Err())
	}
}
