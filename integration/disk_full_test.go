//go:build integration

package integration

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/testcontainers/testcontainers-go"
	tcexec "github.com/testcontainers/testcontainers-go/exec"
	tcnetwork "github.com/testcontainers/testcontainers-go/network"
)

// keyedSidecar gives the pipeline a step with state, whose database wants room too.
const keyedSidecar = `
[[pipeline.side.step]]
type = "dedup"
id = "once"
key = ["value"]
`

// A full disk under checkpoints, keyed state and target stops nothing for good: the daemon says so, tries again, and goes on when there is room.
func TestContainer_fullDisk(t *testing.T) {
	ctx := context.Background()
	image := buildImage(t)
	nw, err := tcnetwork.New(ctx) // it ends with the containers in it, by the reaper
	if err != nil {
		t.Fatal(err)
	}
	// A volume of 600 MiB that two containers see: one has a shell, the daemon's has none.
	volume := mount.Mount{
		Type: mount.TypeVolume, Source: "ingestd-full-" + nw.Name, Target: "/data",
		VolumeOptions: &mount.VolumeOptions{
			Labels:       testcontainers.GenericLabels(),
			DriverConfig: &mount.Driver{Name: "local", Options: map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=600m,mode=1777"}},
		},
	}
	brokers, broker := startKafka(t, kafkaSetup{network: nw.Name, mounts: []mount.Mount{volume}})
	const lines, width = 40_000, 200
	produceWide(t, brokers[0], "side", lines, width)
	inBroker(t, broker, "head -c 598M /dev/zero > /data/filler")
	config := filepath.Join(t.TempDir(), "ingestd.toml")
	if err := os.WriteFile(config, []byte(sidecarConfig+keyedSidecar), 0o644); err != nil { //nolint:gosec // the container's user reads it
		t.Fatal(err)
	}
	c, err := testcontainers.Run(ctx, image,
		testcontainers.WithCmd("run", "-c", "/etc/ingestd.toml"),
		tcnetwork.WithNetworkName([]string{"ingestd"}, nw.Name),
		testcontainers.WithHostConfigModifier(func(h *container.HostConfig) {
			h.Binds = []string{config + ":/etc/ingestd.toml:ro"}
			h.Mounts = []mount.Mount{volume}
		}))
	if err != nil {
		t.Fatal(err)
	}
	testcontainers.CleanupContainer(t, c, testcontainers.StopTimeout(0))
	untilTrue(t, "the daemon says that the disk is full", func() bool {
		logs, err := c.Logs(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer logs.Close()
		text, err := io.ReadAll(logs)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(text), "no space left on device")
	})
	inBroker(t, broker, "rm /data/filler")
	untilTrue(t, "every line is there", func() bool {
		return strings.TrimSpace(inBroker(t, broker, "cat /data/rows/*.ndjson | wc -l")) == fmt.Sprint(lines)
	})
	if got := strings.TrimSpace(inBroker(t, broker, "cat /data/rows/*.ndjson | sort -u | wc -l")); got != fmt.Sprint(lines) {
		t.Errorf("%s distinct lines, want %d", got, lines)
	}
	stopInOrder(t, c)
}

// inBroker runs a shell command in the broker's container and returns what it prints.
func inBroker(t *testing.T, broker testcontainers.Container, command string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, out, err := broker.Exec(ctx, []string{"bash", "-c", command}, tcexec.Multiplexed())
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
