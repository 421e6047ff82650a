//go:build integration

package integration

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/testcontainers/testcontainers-go"
	tcnetwork "github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"
)

const kafkaImage = "apache/kafka:4.3.1"

// sharedKafka is one broker for all tests that don't harm it. It ends with the test binary, by the reaper.
var sharedKafka = struct {
	sync.Mutex
	addr string
}{}

// kafkaServer returns the address of the shared broker.
func kafkaServer(t *testing.T) string {
	t.Helper()
	sharedKafka.Lock()
	defer sharedKafka.Unlock()
	if sharedKafka.addr == "" {
		sharedKafka.addr = startKafka(t, "")
	}
	return sharedKafka.addr
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

// startKafka starts a broker whose port on the host is known to itself. In a network, when one is given, it is kafka:9092.
func startKafka(t *testing.T, inNetwork string) string {
	t.Helper()
	port := freePort(t)
	var more []testcontainers.ContainerCustomizer
	if inNetwork != "" {
		more = append(more, tcnetwork.WithNetworkName([]string{"kafka"}, inNetwork))
	}
	_, err := testcontainers.Run(context.Background(), kafkaImage, append(more,
		testcontainers.WithExposedPorts("19092/tcp"),
		testcontainers.WithEnv(map[string]string{
			"CLUSTER_ID": "5L6g3nShT-eMCtK--X86sw", "KAFKA_NODE_ID": "1", "KAFKA_PROCESS_ROLES": "broker,controller",
			"KAFKA_LISTENERS":                                "HOST://:19092,INSIDE://:9092,CONTROLLER://:9093",
			"KAFKA_ADVERTISED_LISTENERS":                     "HOST://127.0.0.1:" + port + ",INSIDE://kafka:9092",
			"KAFKA_CONTROLLER_LISTENER_NAMES":                "CONTROLLER",
			"KAFKA_INTER_BROKER_LISTENER_NAME":               "HOST",
			"KAFKA_LISTENER_SECURITY_PROTOCOL_MAP":           "HOST:PLAINTEXT,INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT",
			"KAFKA_CONTROLLER_QUORUM_VOTERS":                 "1@localhost:9093",
			"KAFKA_LOG_DIRS":                                 "/var/lib/kafka/data",
			"KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS":             "1",
			"KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR":         "1",
			"KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS":     "1",
			"KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
			"KAFKA_TRANSACTION_STATE_LOG_MIN_ISR":            "1",
			"KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS":         "0",
			"KAFKA_AUTO_CREATE_TOPICS_ENABLE":                "false",
		}),
		testcontainers.WithHostConfigModifier(func(h *container.HostConfig) {
			h.PortBindings = network.PortMap{network.MustParsePort("19092/tcp"): {{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: port}}}
		}),
		testcontainers.WithWaitStrategyAndDeadline(2*time.Minute, wait.ForLog("Kafka Server started").WithPollInterval(50*time.Millisecond)))...)
	if err != nil {
		t.Fatal(err)
	}
	return "127.0.0.1:" + port
}
