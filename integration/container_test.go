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
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	tcnetwork "github.com/testcontainers/testcontainers-go/network"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const sidecarConfig = `[daemon]
data_dir = "/data"
listen = "0.0.0.0:9464"

[pipeline.side.source]
type = "kafka"
brokers = ["kafka:9092"]
topics = ["side"]

[pipeline.side.decode]
type = "raw"

[pipeline.side.sink]
type = "file"
path = "/data/rows"
roll = { every_checkpoint = true }

[pipeline.side.checkpoint]
interval = "100ms"

[pipeline.side.restart]
backoff_min = "100ms"
backoff_max = "1s"
`

// The image from scratch runs as a container beside Kafka: it finds the broker by name, writes as a user without rights, and
// stops in order when the engine says so.
func TestContainer_runsBesideKafka(t *testing.T) {
	ctx := context.Background()
	image := buildImage(t)
	nw, err := tcnetwork.New(ctx) // it ends with the broker's container in it, by the reaper
	if err != nil {
		t.Fatal(err)
	}
	brokers, _ := startKafka(t, kafkaSetup{network: nw.Name})
	produceLines(t, brokers[0], "side", 1000)
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(data, 0o777); err != nil { //nolint:gosec // the container's user is another
		t.Fatal(err)
	}
	config := filepath.Join(dir, "ingestd.toml")
	if err := os.WriteFile(config, []byte(sidecarConfig), 0o644); err != nil { //nolint:gosec // the container's user reads it
		t.Fatal(err)
	}
	c, err := testcontainers.Run(ctx, image,
		testcontainers.WithCmd("run", "-c", "/etc/ingestd.toml"),
		tcnetwork.WithNetworkName([]string{"ingestd"}, nw.Name),
		testcontainers.WithHostConfigModifier(func(h *container.HostConfig) {
			h.Binds = []string{data + ":/data", config + ":/etc/ingestd.toml:ro"}
			h.ReadonlyRootfs = true
			h.CapDrop = []string{"ALL"}
		}))
	if err != nil {
		t.Fatal(err)
	}
	testcontainers.CleanupContainer(t, c, testcontainers.StopTimeout(0))
	rows := filepath.Join(data, "rows")
	for deadline := time.Now().Add(time.Minute); countLines(t, rows) < 1000 && time.Now().Before(deadline); {
		waitABit()
	}
	if got := countLines(t, rows); got != 1000 {
		t.Errorf("got %d rows, want 1000", got)
	}
	stopInOrder(t, c)
}

// stopInOrder sends SIGTERM and wants exit code 0.
func stopInOrder(t *testing.T, c *testcontainers.DockerContainer) {
	t.Helper()
	ctx := context.Background()
	docker, err := testcontainers.NewDockerClientWithOpts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer docker.Close()
	if _, err := docker.ContainerKill(ctx, c.GetContainerID(), client.ContainerKillOptions{Signal: "TERM"}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); waitABit() {
		state, err := c.State(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if !state.Running {
			if state.ExitCode != 0 {
				t.Errorf("exit code %d after SIGTERM, want 0", state.ExitCode)
			}
			return
		}
	}
	t.Error("the container did not end within 30 s of SIGTERM")
}

// buildImage makes the image as `make container` does.
func buildImage(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	copyFile(t, daemonBinary(t, "timetzdata"), filepath.Join(dir, "ingestd"))
	copyFile(t, "../deploy/container/Dockerfile", filepath.Join(dir, "Dockerfile"))
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o755); err != nil { //nolint:gosec // a folder of an image
		t.Fatal(err)
	}
	if _, err := os.Stat("/etc/ssl/certs/ca-certificates.crt"); err == nil {
		copyFile(t, "/etc/ssl/certs/ca-certificates.crt", filepath.Join(dir, "ca-certificates.crt"))
	}
	const tag = "ingestd:integration"
	cmd := exec.Command("docker", "build", "-q", "-t", tag, dir)
	cmd.Env = append(os.Environ(), "DOCKER_BUILDKIT=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("docker build: %v\n%s", err, out)
	}
	return tag
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o755); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
}

func produceLines(t *testing.T, broker, topic string, n int) {
	t.Helper()
	produceWide(t, broker, topic, n, 0)
}

// produceWide writes n numbered lines of at least width bytes.
func produceWide(t *testing.T, broker, topic string, n, width int) {
	t.Helper()
	producer, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.DefaultProduceTopic(topic))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	if _, err := kadm.NewClient(producer).CreateTopic(context.Background(), 2, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	var records []*kgo.Record
	for i := range n {
		records = append(records, &kgo.Record{Value: fmt.Appendf(nil, "line %-*d", width, i)})
	}
	if err := producer.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

func countLines(t *testing.T, dir string) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		n += strings.Count(string(data), "\n")
	}
	return n
}
