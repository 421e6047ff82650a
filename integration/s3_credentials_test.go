//go:build integration

package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingestd/ingestd/checkpoint/s3"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
)

// alone takes away what the machine that runs the tests has of credentials.
func alone(t *testing.T) {
	t.Helper()
	none := filepath.Join(t.TempDir(), "none")
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "", "AWS_REGION": "",
		"AWS_CONFIG_FILE": none, "AWS_SHARED_CREDENTIALS_FILE": none, "AWS_WEB_IDENTITY_TOKEN_FILE": "", "AWS_ROLE_ARN": "",
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "",
	} {
		t.Setenv(name, value)
	}
}

// Credentials come from every place that the documentation names, and open a real store.
func TestS3_credentialsComeFromEverywhere(t *testing.T) {
	g := gatewayServer(t)
	expiry := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	for _, c := range []struct {
		name string
		set  func(t *testing.T, s *s3.Settings)
	}{
		{"config", func(_ *testing.T, s *s3.Settings) {
			s.AccessKeyID, s.SecretAccessKey = gatewayKey, config.NewSecret(gatewaySecret)
		}},
		{"environment", func(t *testing.T, _ *s3.Settings) {
			t.Helper()
			t.Setenv("AWS_ACCESS_KEY_ID", gatewayKey)
			t.Setenv("AWS_SECRET_ACCESS_KEY", gatewaySecret)
		}},
		{"shared file and profile", func(t *testing.T, s *s3.Settings) {
			t.Helper()
			file := filepath.Join(t.TempDir(), "credentials")
			text := fmt.Sprintf("[default]\naws_access_key_id = nobody\naws_secret_access_key = x\n\n[ingest]\naws_access_key_id = %s\naws_secret_access_key = %s\n", gatewayKey, gatewaySecret)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
			s.Profile = "ingest"
		}},
		{"web identity", func(t *testing.T, s *s3.Settings) {
			t.Helper()
			token := filepath.Join(t.TempDir(), "token")
			if err := os.WriteFile(token, []byte("signed by the cluster"), 0o600); err != nil {
				t.Fatal(err)
			}
			sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.FormValue("Action") != "AssumeRoleWithWebIdentity" || r.FormValue("WebIdentityToken") != "signed by the cluster" || r.FormValue("RoleArn") != "arn:aws:iam::1:role/ingestd" {
					http.Error(w, "no", http.StatusForbidden)
					return
				}
				fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials>`+
					`<AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken></SessionToken><Expiration>%s</Expiration>`+
					`</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, gatewayKey, gatewaySecret, expiry)
			}))
			t.Cleanup(sts.Close)
			t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", token)
			t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/ingestd")
			t.Setenv("AWS_ENDPOINT_URL_STS", sts.URL)
		}},
		{"instance metadata", func(t *testing.T, _ *s3.Settings) {
			t.Helper()
			imds := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token":
					w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "21600")
					fmt.Fprint(w, "session")
				case r.Header.Get("X-Aws-Ec2-Metadata-Token") != "session":
					http.Error(w, "no", http.StatusUnauthorized)
				case strings.HasSuffix(r.URL.Path, "/security-credentials/"):
					fmt.Fprint(w, "role")
				case strings.HasSuffix(r.URL.Path, "/security-credentials/role"):
					_ = json.NewEncoder(w).Encode(map[string]string{
						"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": gatewayKey, "SecretAccessKey": gatewaySecret, "Expiration": expiry,
					})
				default:
					http.NotFound(w, r)
				}
			}))
			t.Cleanup(imds.Close)
			t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
			t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds.URL)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			alone(t)
			settings := gatewaySettings(g)
			settings.AccessKeyID, settings.SecretAccessKey = "", config.Secret{}
			c.set(t, &settings)
			store, _ := openS3(t, settings)
			if err := store.Create(t.Context(), "p/a", []byte("x")); err != nil {
				t.Errorf("%v; next: %s", err, fault.RemedyOf(err))
			}
		})
	}
	t.Run("nowhere", func(t *testing.T) {
		alone(t)
		settings := gatewaySettings(g)
		settings.AccessKeyID, settings.SecretAccessKey = "", config.Secret{}
		store, _ := openS3(t, settings)
		_, err := store.List(t.Context(), "", "")
		if err == nil || fault.KindOf(err) != fault.Misconfigured || !strings.Contains(err.Error(), "no credentials") || !strings.Contains(fault.RemedyOf(err), "AWS_WEB_IDENTITY_TOKEN_FILE") {
			t.Errorf("got %v; next: %s, want fault.Misconfigured that names the places", err, fault.RemedyOf(err))
		}
	})
}

// A server with a certificate of a private authority is trusted with ca_file, and without it the error says so.
func TestS3_privateAuthority(t *testing.T) {
	cert, key := selfSigned(t)
	settings := gatewaySettings(startGateway(t, gatewaySetup{cert: cert, key: key}))
	store, _ := openS3(t, settings)
	_, err := store.List(t.Context(), "", "")
	if err == nil || fault.KindOf(err) != fault.Misconfigured || !strings.Contains(fault.RemedyOf(err), "ca_file") {
		t.Errorf("got %v; next: %s, want fault.Misconfigured about ca_file", err, fault.RemedyOf(err))
	}
	settings.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(settings.CAFile, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	store, d := openS3(t, settings)
	if err := store.Create(t.Context(), "p/a", make([]byte, 12<<20)); err != nil {
		t.Fatalf("%v; next: %s", err, fault.RemedyOf(err))
	}
	if data, err := store.Get(t.Context(), "p/a"); err != nil || len(data) != 12<<20 {
		t.Errorf("got %d bytes, %v", len(data), err)
	}
	if got := d.counted(); got[http.MethodPut] < 5 {
		t.Errorf("got requests %v, want two writes of the trial, its part and three parts", got)
	}
}

// selfSigned makes a certificate for 127.0.0.1 that is its own authority.
func selfSigned(t *testing.T) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "s3"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}
