//go:build integration

package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	securedUser     = "app"
	securedPassword = `p"w\d` // what a config and a URL would have to escape
)

// A broker with TLS, SASL, certificates of clients and ACLs: each way in reads the topic whole, and whatever is wrong is named.
func TestKafkaSource_securedBroker(t *testing.T) {
	dir := t.TempDir()
	certificates(t, dir)
	plain, sasl, mtls := securedKafka(t, dir)
	produceLines(t, plain, "secured", 500)
	credentials(t, plain)
	path := daemonBinary(t, "")
	run := func(t *testing.T, verb, broker, more string) (output string, code int) {
		t.Helper()
		home := t.TempDir()
		config := filepath.Join(home, "my.toml")
		text := fmt.Sprintf(securedConfig, home, broker, more, home)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(path, append(strings.Fields(verb), "-c", config)...)
		cmd.Env = append(os.Environ(), "KAFKA_PASSWORD="+securedPassword)
		out, _ := cmd.CombinedOutput()
		if verb == "run" && countLines(t, filepath.Join(home, "rows")) != 500 {
			t.Errorf("%d rows, want 500\n%s", countLines(t, filepath.Join(home, "rows")), out)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	tls := fmt.Sprintf("tls = { ca = %q }\n", filepath.Join(dir, "ca.pem"))
	user := func(mechanism, name, password string) string {
		return tls + fmt.Sprintf("sasl = { mechanism = %q, username = %q, password = %q }\n", mechanism, name, password)
	}
	both := fmt.Sprintf("tls = { ca = %q, cert = %q, key = %q }\n", filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	for _, c := range []struct{ name, broker, more string }{
		{"tls and plain", sasl, user("PLAIN", securedUser, "${env:KAFKA_PASSWORD}")},
		{"tls and scram 256", sasl, user("SCRAM-SHA-256", securedUser, "${env:KAFKA_PASSWORD}")},
		{"tls and scram 512", sasl, user("SCRAM-SHA-512", securedUser, "${env:KAFKA_PASSWORD}")},
		{"mutual tls", mtls, both},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, verb := range []string{"validate --connect", "run"} {
				if out, code := run(t, verb, c.broker, c.more); code != 0 || strings.Contains(out, securedPassword) {
					t.Errorf("%s: exit code %d\n%s", verb, code, out)
				}
			}
		})
	}
	for _, c := range []struct{ name, broker, more, want string }{
		{"wrong password", sasl, user("SCRAM-SHA-256", securedUser, "guess"), "SASL_AUTHENTICATION_FAILED"},
		{"without the right to read", sasl, user("PLAIN", "stranger", "${env:KAFKA_PASSWORD}"), "AUTHORIZATION_FAILED"},
		{"without a certificate", mtls, tls, "certificate"},
		{"unknown authority", mtls, "tls = {}\n", "certificate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, code := run(t, "validate --connect", c.broker, c.more)
			if code == 0 || !strings.Contains(out, c.want) || strings.Contains(out, securedPassword) {
				t.Errorf("exit code %d, want one that says %q\n%s", code, c.want, out)
			}
		})
	}
}

const securedConfig = `[daemon]
data_dir = "%s/data"
listen = ""

[pipeline.p]
sink = { type = "file", path = "%[4]s/rows", roll = { every_checkpoint = true } }
decode = { type = "raw" }

[pipeline.p.source]
type = "kafka"
brokers = ["%[2]s"]
topics = ["secured"]
until = "end"
%[3]s
`

// securedKafka starts a broker that lets anybody in at its first listener only, to set it up.
func securedKafka(t *testing.T, dir string) (plain, sasl, mtls string) {
	t.Helper()
	files := map[string][]byte{}
	for path, parts := range map[string][]string{"/tmp/server.pem": {"pkcs8.pem", "cert.pem"}, "/tmp/ca.pem": {"ca.pem"}} {
		for _, name := range parts {
			data, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			files[path] = append(files[path], data...)
		}
	}
	password := strings.NewReplacer(`\`, `\\\\`, `"`, `\\"`).Replace(securedPassword) // escaped for JAAS, and for a properties file
	addrs, _ := startKafka(t, kafkaSetup{
		listeners: []string{"NAMED:SASL_SSL", "MUTUAL:SSL"}, files: files,
		env: map[string]string{
			"KAFKA_SSL_KEYSTORE_TYPE": "PEM", "KAFKA_SSL_KEYSTORE_LOCATION": "/tmp/server.pem",
			"KAFKA_SSL_TRUSTSTORE_TYPE": "PEM", "KAFKA_SSL_TRUSTSTORE_LOCATION": "/tmp/ca.pem",
			"KAFKA_LISTENER_NAME_MUTUAL_SSL_CLIENT_AUTH":                   "required",
			"KAFKA_LISTENER_NAME_NAMED_SASL_ENABLED_MECHANISMS":            "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
			"KAFKA_LISTENER_NAME_NAMED_PLAIN_SASL_JAAS_CONFIG":             `org.apache.kafka.common.security.plain.PlainLoginModule required user_app="` + password + `" user_stranger="` + password + `";`,
			"KAFKA_LISTENER_NAME_NAMED_SCRAM___SHA___256_SASL_JAAS_CONFIG": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
			"KAFKA_LISTENER_NAME_NAMED_SCRAM___SHA___512_SASL_JAAS_CONFIG": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
			"KAFKA_AUTHORIZER_CLASS_NAME":                                  "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
			"KAFKA_SUPER_USERS":                                            "User:ANONYMOUS;User:CN=test",
		},
	})
	return addrs[0], addrs[1], addrs[2]
}

// credentials makes the user of SCRAM and lets it read.
func credentials(t *testing.T, addr string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	const iterations = 4096
	for _, m := range []kadm.ScramMechanism{kadm.ScramSha256, kadm.ScramSha512} {
		res, err := adm.AlterUserSCRAMs(context.Background(), nil, []kadm.UpsertSCRAM{{User: securedUser, Mechanism: m, Iterations: iterations, Password: securedPassword}})
		if err != nil || res[securedUser].Err != nil {
			t.Fatal(err, res[securedUser].Err)
		}
	}
	acl := kadm.NewACLs().Allow("User:"+securedUser).AllowHosts("*").Topics("secured").ResourcePatternType(kadm.ACLPatternLiteral).Operations(kadm.OpRead, kadm.OpDescribe)
	res, err := adm.CreateACLs(context.Background(), acl)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range res {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
}
