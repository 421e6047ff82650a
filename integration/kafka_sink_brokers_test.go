//go:build integration

package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	tcnetwork "github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/ingestd/ingestd/sink"
)

// trio is a cluster of three brokers, of which two must have a record before it is acknowledged.
type trio struct {
	*sinkCluster
	brokers [3]*testcontainers.DockerContainer
}

func startTrio(t *testing.T) *trio {
	t.Helper()
	ctx := context.Background()
	nw, err := tcnetwork.New(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var x trio
	var addrs []string
	var work sync.WaitGroup
	errs := make([]error, len(x.brokers))
	for i := range x.brokers {
		port := freePort(t)
		addrs = append(addrs, "127.0.0.1:"+port)
		work.Go(func() { x.brokers[i], errs[i] = startOfThree(ctx, i+1, port, nw.Name) })
	}
	work.Wait()
	t.Cleanup(func() {
		for _, b := range x.brokers {
			if b != nil {
				_ = b.Terminate(ctx, testcontainers.StopTimeout(0))
			}
		}
		_ = nw.Remove(ctx)
	})
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	x.sinkCluster = newSinkCluster(t, 3, addrs...)
	return &x
}

// startOfThree starts a broker that is controller, too.
func startOfThree(ctx context.Context, node int, port, networkName string) (*testcontainers.DockerContainer, error) {
	name := fmt.Sprintf("kafka%d", node)
	return testcontainers.Run(ctx, kafkaImage,
		testcontainers.WithExposedPorts(port+"/tcp"),
		tcnetwork.WithNetworkName([]string{name}, networkName),
		testcontainers.WithHostConfigModifier(func(h *container.HostConfig) {
			h.PortBindings = network.PortMap{network.MustParsePort(port + "/tcp"): {{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: port}}}
		}),
		testcontainers.WithWaitStrategyAndDeadline(3*time.Minute, wait.ForLog("Kafka Server started").WithPollInterval(100*time.Millisecond)),
		testcontainers.WithEnv(map[string]string{
			"CLUSTER_ID": "5L6g3nShT-eMCtK--X86sw", "KAFKA_NODE_ID": fmt.Sprint(node), "KAFKA_PROCESS_ROLES": "broker,controller",
			"KAFKA_LISTENERS":                                                   "CONTROLLER://:9093,INSIDE://:9092,HOST://:" + port,
			"KAFKA_ADVERTISED_LISTENERS":                                        "INSIDE://" + name + ":9092,HOST://127.0.0.1:" + port,
			"KAFKA_LISTENER_SECURITY_PROTOCOL_MAP":                              "CONTROLLER:PLAINTEXT,INSIDE:PLAINTEXT,HOST:PLAINTEXT",
			"KAFKA_CONTROLLER_LISTENER_NAMES":                                   "CONTROLLER",
			"KAFKA_INTER_BROKER_LISTENER_NAME":                                  "INSIDE",
			"KAFKA_CONTROLLER_QUORUM_VOTERS":                                    "1@kafka1:9093,2@kafka2:9093,3@kafka3:9093",
			"KAFKA_LOG_DIRS":                                                    "/var/lib/kafka/data",
			"KAFKA_MIN_INSYNC_REPLICAS":                                         "2",
			"KAFKA_DEFAULT_REPLICATION_FACTOR":                                  "3",
			"KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS":                                "1",
			"KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR":                            "3",
			"KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS":                        "3",
			"KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR":                    "3",
			"KAFKA_TRANSACTION_STATE_LOG_MIN_ISR":                               "2",
			"KAFKA_BROKER_HEARTBEAT_INTERVAL_MS":                                "500",
			"KAFKA_BROKER_SESSION_TIMEOUT_MS":                                   "3000",
			"KAFKA_REPLICA_LAG_TIME_MAX_MS":                                     "5000",
			"KAFKA_AUTO_CREATE_TOPICS_ENABLE":                                   "false",
			"KAFKA_TRANSACTION_ABORT_TIMED_OUT_TRANSACTION_CLEANUP_INTERVAL_MS": "200",
		}))
}

// kill ends a broker with SIGKILL.
func (x *trio) kill(t *testing.T, i int) {
	t.Helper()
	docker, err := testcontainers.NewDockerClientWithOpts(context.Background())
	if err != nil {
		t.Error(err)
		return
	}
	defer docker.Close()
	if _, err := docker.ContainerKill(context.Background(), x.brokers[i].GetContainerID(), client.ContainerKillOptions{Signal: "KILL"}); err != nil {
		t.Error(err)
	}
}

// restart starts a killed broker and waits until every partition of the topics has all replicas again.
func (x *trio) restart(t *testing.T, i int, topics ...string) {
	t.Helper()
	ctx := context.Background()
	if err := x.brokers[i].Start(ctx); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(2 * time.Minute); ; waitABit() {
		found, err := x.admin.ListTopicsWithInternal(ctx, append(topics, "__transaction_state")...)
		whole := err == nil
		found.EachPartition(func(p kadm.PartitionDetail) { whole = whole && p.Err == nil && len(p.ISR) == len(x.brokers) })
		if whole {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("broker %d does not catch up: %v", i+1, err)
		}
	}
}

// Brokers are killed while checkpoints are committed, and leaders move back while others are; now and then another run takes over.
// Every row is there once, in order.
func TestFaults_kafkaBrokerKillsLoseAndDoubleNothing(t *testing.T) {
	x := startTrio(t)
	s := x.settings(t, 6)
	segments := new(segmentsInMemory)
	random := rand.New(rand.NewPCG(7, 8))
	r := startSinkRun(t, runOf{s, 1, segments}, nil)
	const rounds, rows = 6, 3000
	unknown, next := 0, int64(0)
	for round := range rounds {
		victim := round % len(x.brokers)
		var units []sink.Committable
		for range 4 {
			units = append(units, r.unit(next, next+rows))
			next += rows
		}
		var work sync.WaitGroup
		delay := time.Duration(random.IntN(120)) * time.Millisecond
		work.Go(func() { <-time.After(delay); x.kill(t, victim) })
		unknown += commitThrough(t, r, units)
		work.Wait()
		// Once more with the broker certainly gone, and with leaders that move back when it is there again.
		u := r.unit(next, next+rows)
		next += rows
		unknown += commitThrough(t, r, []sink.Committable{u})
		x.restart(t, victim, s.Topic, s.Ledger.Topic)
		work.Go(func() {
			_, _ = x.admin.ElectLeaders(context.Background(), kadm.ElectPreferredReplica, nil) // those that lead already are refused
		})
		u = r.unit(next, next+rows)
		next += rows
		if round%3 == 2 { // a successor finds the last one pending
			r = startSinkRun(t, runOf{s, r.lease + 1, segments}, r.state, u)
		}
		unknown += commitThrough(t, r, []sink.Committable{u})
		work.Wait()
	}
	if unknown == 0 {
		t.Error("no commit was ever in doubt: the kills missed")
	}
	x.wait(t, transactionalIDOf(s), decided)
	records, err := x.committed(context.Background(), s.Topic)
	if err != nil {
		t.Fatal(err)
	}
	seen, last := map[int64]int{}, map[int32]int64{}
	for _, record := range records {
		var v struct {
			ID int64 `json:"id"`
		}
		if err := json.Unmarshal(record.Value, &v); err != nil || !bytes.Contains(record.Value, fmt.Appendf(nil, `"row %d"`, v.ID)) {
			t.Fatalf("a foreign or altered record: %s", record.Value)
		}
		seen[v.ID]++
		if before, ok := last[record.Partition]; ok && before >= v.ID {
			t.Fatalf("partition %d: row %d comes after row %d", record.Partition, v.ID, before)
		}
		last[record.Partition] = v.ID
	}
	missing, doubled := 0, 0
	for id := range next {
		switch n := seen[id]; {
		case n == 0:
			missing++
		case n > 1:
			doubled++
		}
	}
	t.Logf("%d broker kills, %d commits in doubt: %d rows, %d missing, %d doubled, %d foreign", rounds, unknown, len(records), missing, doubled, len(seen)-int(next)+missing)
	if missing+doubled > 0 || len(seen) != int(next) {
		t.Error("rows are missing, doubled or foreign")
	}
}

// commitThrough commits units however often it takes, and returns how many answers were no success.
func commitThrough(t *testing.T, r *sinkRun, units []sink.Committable) (unknown int) {
	t.Helper()
	for _, u := range units {
		deadline := time.Now().Add(2 * time.Minute)
		for {
			outcome, err := r.commit(u)
			if outcome == sink.Committed {
				break
			}
			unknown++
			if outcome != sink.Unknown || time.Now().After(deadline) {
				t.Fatalf("checkpoint %d: %s, %s", u.Checkpoint, outcome, strings.ReplaceAll(err.Error(), "\n", "; "))
			}
			waitABit()
		}
	}
	return unknown
}
