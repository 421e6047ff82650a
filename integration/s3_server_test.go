//go:build integration

package integration

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awscredentials "github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	tcnetwork "github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"
)

// gateway is an S3 server in a container, with a port that stays the same when it is killed and started again. Its objects are
// files of the container.
type gateway struct {
	container *testcontainers.DockerContainer
	addr      string
	cert      []byte // nil without TLS
}

// gatewaySetup is what a server has besides its port on the host.
type gatewaySetup struct {
	network   string // where it is s3:7070, "" for none
	cert, key []byte // PEM; nil for no TLS
}

const (
	gatewayImage  = "versity/versitygw:v1.8.0"
	gatewayKey    = "ingestd"
	gatewaySecret = "ingestd-secret"
	gatewayBucket = "checkpoints"
)

func (g *gateway) url() string {
	if g.cert != nil {
		return "https://" + g.addr
	}
	return "http://" + g.addr
}

// sharedGateway is one server for all tests that don't harm it. It ends with the test binary, by the reaper.
var sharedGateway = struct {
	sync.Mutex
	server *gateway
}{}

func gatewayServer(t *testing.T) *gateway {
	t.Helper()
	sharedGateway.Lock()
	defer sharedGateway.Unlock()
	if sharedGateway.server == nil {
		sharedGateway.server = startGateway(t, gatewaySetup{})
	}
	return sharedGateway.server
}

// startGateway starts a server with one empty bucket. It ends with the test binary, by the reaper.
func startGateway(t *testing.T, s gatewaySetup) *gateway {
	t.Helper()
	port := freePort(t)
	g := &gateway{addr: "127.0.0.1:" + port, cert: s.cert}
	args := []string{"--port", ":7070", "--keep-alive", "--quiet"}
	ready := wait.ForHTTP("/").WithPort("7070/tcp").WithPollInterval(50 * time.Millisecond).
		WithStatusCodeMatcher(func(status int) bool { return status == http.StatusForbidden })
	options := []testcontainers.ContainerCustomizer{
		testcontainers.WithExposedPorts("7070/tcp"),
		testcontainers.WithEnv(map[string]string{"ROOT_ACCESS_KEY": gatewayKey, "ROOT_SECRET_KEY": gatewaySecret}),
		testcontainers.WithHostConfigModifier(func(h *container.HostConfig) {
			h.PortBindings = network.PortMap{network.MustParsePort("7070/tcp"): {{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: port}}}
		}),
	}
	if s.network != "" {
		options = append(options, tcnetwork.WithNetworkName([]string{"s3"}, s.network))
	}
	if s.cert != nil {
		args = append(args, "--cert", "/cert.pem", "--key", "/key.pem")
		ready = ready.WithTLS(true).WithAllowInsecure(true)
		options = append(options, testcontainers.WithFiles(
			testcontainers.ContainerFile{Reader: bytes.NewReader(s.cert), ContainerFilePath: "/cert.pem", FileMode: 0o644},
			testcontainers.ContainerFile{Reader: bytes.NewReader(s.key), ContainerFilePath: "/key.pem", FileMode: 0o644}))
	}
	options = append(options, testcontainers.WithCmd(append(args, "posix", "/data")...), testcontainers.WithWaitStrategyAndDeadline(time.Minute, ready))
	var err error
	if g.container, err = testcontainers.Run(context.Background(), gatewayImage, options...); err != nil {
		t.Fatal(err)
	}
	if _, err := g.client().CreateBucket(context.Background(), &awss3.CreateBucketInput{Bucket: aws.String(gatewayBucket)}); err != nil {
		t.Fatal(err)
	}
	return g
}

// client is the library alone, for what the store does not do.
func (g *gateway) client() *awss3.Client {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(g.cert)
	return awss3.New(awss3.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(g.url()), UsePathStyle: true,
		Credentials: awscredentials.NewStaticCredentialsProvider(gatewayKey, gatewaySecret, ""),
		HTTPClient:  &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}},
	})
}

// kill ends the server with SIGKILL.
func (g *gateway) kill(t *testing.T, docker *testcontainers.DockerClient) {
	t.Helper()
	if _, err := docker.ContainerKill(context.Background(), g.container.GetContainerID(), client.ContainerKillOptions{Signal: "KILL"}); err != nil {
		t.Fatal(err)
	}
}

// restart starts a server again that was killed.
func (g *gateway) restart(t *testing.T) {
	t.Helper()
	var err error
	for range 100 { // the engine may not have seen yet that it is gone
		if err = g.container.Start(context.Background()); err == nil {
			return
		}
		waitABit()
	}
	t.Fatal(err)
}
