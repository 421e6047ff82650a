//go:build integration

package integration

import (
	"bytes"
	"context"
	"maps"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/testcontainers/testcontainers-go"
	tcnetwork "github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"
)

const kafkaImage = "apache/kafka:4.3.1"

// sharedKafka is one broker for all tests that don't harm it. It may be restarted, and ends with the test binary, by the reaper.
var sharedKafka = struct {
	sync.Mutex
	addr      string
	container testcontainers.Container
}{}

// kafkaServer returns the shared broker.
func kafkaServer(t *testing.T) (addr string, broker testcontainers.Container) {
	t.Helper()
	sharedKafka.Lock()
	defer sharedKafka.Unlock()
	if sharedKafka.addr == "" {
		var addrs []string
		addrs, sharedKafka.container = startKafka(t, kafkaSetup{})
		sharedKafka.addr = addrs[0]
	}
	return sharedKafka.addr, sharedKafka.container
}

// freePort returns a port that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// kafkaSetup is what a broker has besides the listener for its own connections and everybody's.
type kafkaSetup struct {
	network   string            // where it is kafka:9092, "" for none
	listeners []string          // name:protocol of further listeners, each with a port on the host
	env       map[string]string // more of its settings, as the image takes them
	files     map[string][]byte // by their path in the container
	mounts    []mount.Mount
}

// startKafka starts a broker and returns the addresses of its listeners on the host, the plain one first. A listener has the same
// port inside the container and outside: a broker connects to itself by what it tells clients, and transactions need that.
func startKafka(t *testing.T, s kafkaSetup) (addrs []string, broker testcontainers.Container) {
	t.Helper()
	inside, advertised, protocols := "CONTROLLER://:9093", "", "CONTROLLER:PLAINTEXT"
	var ports []string
	bindings := network.PortMap{}
	for _, l := range append([]string{"HOST:PLAINTEXT"}, s.listeners...) {
		name, _, _ := strings.Cut(l, ":")
		port := freePort(t)
		inside += "," + name + "://:" + port
		advertised += "," + name + "://127.0.0.1:" + port
		protocols += "," + l
		ports, addrs = append(ports, port+"/tcp"), append(addrs, "127.0.0.1:"+port)
		bindings[network.MustParsePort(port+"/tcp")] = []network.PortBinding{{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: port}}
	}
	more := []testcontainers.ContainerCustomizer{
		testcontainers.WithExposedPorts(ports...),
		testcontainers.WithHostConfigModifier(func(h *container.HostConfig) { h.PortBindings, h.Mounts = bindings, s.mounts }),
		testcontainers.WithWaitStrategyAndDeadline(2*time.Minute, wait.ForLog("Kafka Server started").WithPollInterval(50*time.Millisecond)),
	}
	if s.network != "" {
		more = append(more, tcnetwork.WithNetworkName([]string{"kafka"}, s.network))
		inside, advertised, protocols = inside+",INSIDE://:9092", advertised+",INSIDE://kafka:9092", protocols+",INSIDE:PLAINTEXT"
	}
	for path, data := range s.files {
		more = append(more, testcontainers.WithFiles(testcontainers.ContainerFile{Reader: bytes.NewReader(data), ContainerFilePath: path, FileMode: 0o644}))
	}
	env := map[string]string{
		"CLUSTER_ID": "5L6g3nShT-eMCtK--X86sw", "KAFKA_NODE_ID": "1", "KAFKA_PROCESS_ROLES": "broker,controller",
		"KAFKA_LISTENERS":                                inside,
		"KAFKA_ADVERTISED_LISTENERS":                     advertised[1:],
		"KAFKA_CONTROLLER_LISTENER_NAMES":                "CONTROLLER",
		"KAFKA_INTER_BROKER_LISTENER_NAME":               "HOST",
		"KAFKA_LISTENER_SECURITY_PROTOCOL_MAP":           protocols,
		"KAFKA_CONTROLLER_QUORUM_VOTERS":                 "1@localhost:9093",
		"KAFKA_LOG_DIRS":                                 "/var/lib/kafka/data",
		"KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS":             "1",
		"KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR":         "1",
		"KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS":     "1",
		"KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
		"KAFKA_TRANSACTION_STATE_LOG_MIN_ISR":            "1",
		"KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS":         "0",
		"KAFKA_AUTO_CREATE_TOPICS_ENABLE":                "false",
		"KAFKA_LOG_CLEANER_BACKOFF_MS":                   "500",
	}
	maps.Copy(env, s.env)
	broker, err := testcontainers.Run(context.Background(), kafkaImage, append(more, testcontainers.WithEnv(env))...)
	if err != nil {
		t.Fatal(err)
	}
	return addrs, broker
}
