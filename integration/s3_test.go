//go:build integration

package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	tcnetwork "github.com/testcontainers/testcontainers-go/network"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ingestd/ingestd/internal/inject"
)

const s3KeyedConfig = `[daemon]
data_dir = "%[1]s"
listen = ""

[pipeline.once]
tasks = %[2]d
source = { type = "kafka", brokers = ["%[3]s"], topics = ["%[4]s"] }
decode = { type = "json", columns = { n = "int64", k = "int64" } }
sink = { type = "clickhouse", addr = ["%[5]s"], database = "db", table = "s3_once", user = "%[6]s", password = "%[7]s" }
checkpoint = { interval = "200ms", %[9]s }
restart = { backoff_min = "50ms", backoff_max = "500ms" }

[[pipeline.once.step]]
type = "dedup"
id = "first"
key = ["n"]
ttl = "1h"

[pipeline.windows]
tasks = %[2]d
source = { type = "kafka", brokers = ["%[3]s"], topics = ["%[4]s"] }
decode = { type = "json", columns = { n = "int64", k = "int64" } }
sink = { type = "file", path = "%[8]s/windows", roll = { every_checkpoint = true } }
checkpoint = { interval = "200ms", %[9]s }
restart = { backoff_min = "50ms", backoff_max = "500ms" }
event_time = { idle_after = "0s" }

[[pipeline.windows.step]]
type = "aggregate"
id = "per-key"
key = ["k"]
columns = { rows = "count()", total = "sum(n)" }
window = { type = "tumbling", size = "2s" }
late = "drop"
`

// A daemon with keyed state has its checkpoints in S3 alone: after each kill it starts with an empty data directory. It is killed at
// each point of a checkpoint and at any moment, and its S3 server is killed under it and comes back, which no process ends for. Each
// number comes out once, and the windows are those of a model.
func TestFaults_s3KeyedStateWithoutALocalDisk(t *testing.T) {
	broker, _ := kafkaServer(t)
	ch := clickHouseServer(t)
	g := startGateway(t, gatewaySetup{})
	docker, err := testcontainers.NewDockerClientWithOpts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer docker.Close()
	conn := ch.connect(t)
	defer conn.Close()
	if err := conn.Exec(context.Background(), fmt.Sprintf(s3OnceTable, "s3_once")); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	const topic = "s3-keyed-state"
	l := startKeyedLoad(t, broker, topic)
	path := daemonBinary(t, "faultpoints,invariants")
	random := rand.New(rand.NewPCG(3, 1))
	starts := 0
	config := func() string {
		starts++
		file := filepath.Join(dir, "my.toml")
		text := fmt.Sprintf(s3KeyedConfig, filepath.Join(dir, fmt.Sprint("data-", starts)), 1+random.IntN(4), broker, topic,
			ch.addr, clickHouseUser, clickHousePassword, dir, s3Store(g.url(), "keyed"))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	for _, point := range []string{
		inject.AfterPrepare, inject.AfterStateStored, inject.BeforePublish, inject.PublishReplyLost, inject.AfterPublish, inject.BeforeApply,
		inject.AfterEffect, inject.AfterCommit, inject.AfterRestore,
	} {
		nth := 3 + random.IntN(5)
		if point == inject.AfterRestore {
			nth = 1
		}
		startDaemon(t, path, config(), fmt.Sprintf("%s:kill:%d", point, nth)).diedAt(point, time.Minute)
	}
	for range 4 {
		d := startDaemon(t, path, config(), "")
		<-time.After(time.Duration(500+random.IntN(2000)) * time.Millisecond)
		d.kill()
	}
	rows := func() string { return ch.count(t, "SELECT count() FROM db.s3_once") }
	d := startDaemon(t, path, config(), "")
	moves := func() {
		t.Helper()
		before := rows()
		untilTrue(t, "new rows", func() bool { return rows() != before })
	}
	for range 3 {
		moves()
		g.kill(t, docker)
		<-time.After(time.Duration(1+random.IntN(3)) * time.Second)
		g.restart(t)
	}
	moves()
	l.end(t)
	want := fmt.Sprint(len(l.times))
	for deadline := time.Now().Add(2 * time.Minute); ; <-time.After(500 * time.Millisecond) {
		numbers, windows := ch.count(t, "SELECT uniqExact(n) FROM db.s3_once"), countLines(t, filepath.Join(dir, "windows"))
		if numbers == want && windows >= len(l.windows) {
			break
		}
		if time.Now().After(deadline) {
			d.kill()
			t.Fatalf("%s numbers and %d windows came out, want %s and %d\n%s", numbers, windows, want, len(l.windows), d.tail())
		}
	}
	d.signal(syscall.SIGTERM)
	if code := d.exit(time.Minute); code != 0 {
		t.Errorf("exit code %d, want 0\n%s", code, d.tail())
	}
	sum := int64(0)
	for n := range l.times {
		sum += n
	}
	all := fmt.Sprintf("(%d,%d,%d)", len(l.times), len(l.times), sum)
	if got := ch.count(t, "SELECT toString((count(), uniqExact(n), sum(n))) FROM db.s3_once"); got != all {
		t.Errorf("dedup: rows, numbers and their sum are %s, want %s", got, all)
	}
	l.judgeWindows(t, dir)
	t.Logf("%d starts, each without local state, %d records of %d numbers, %d windows", starts, l.sent, len(l.times), len(l.windows))
	fsck(t, path, filepath.Join(dir, "my.toml"), "once", "windows")
}

// fsck wants the stores of pipelines to be whole.
func fsck(t *testing.T, path, config string, pipelines ...string) {
	t.Helper()
	for _, p := range pipelines {
		if out, err := exec.Command(path, "fsck", p, "-c", config).CombinedOutput(); err != nil {
			t.Errorf("fsck %s: %v\n%s", p, err, out)
		}
	}
}

const s3FileConfig = `[daemon]
data_dir = "%[1]s"
listen = "%[2]s"

[pipeline.%[3]s]
tasks = 2
source = { type = "kafka", brokers = ["%[4]s"], topics = ["%[5]s"] }
decode = { type = "json", columns = { n = "int64", k = "int64" } }
sink = { type = "file", path = "%[6]s", roll = { every_checkpoint = true } }
checkpoint = { interval = "200ms", %[7]s }
restart = { backoff_min = "50ms", backoff_max = "500ms" }

[[pipeline.%[3]s.step]]
type = "dedup"
id = "first"
key = ["n"]
ttl = "1h"
`

// numbersIn returns how often each number is in the rows of a folder.
func numbersIn(t *testing.T, folder string) map[int64]int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int64]int{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(data) {
			var row struct{ N int64 }
			if err := json.Unmarshal(line, &row); err != nil {
				t.Fatalf("%s: %q: %v", file, line, err)
			}
			seen[row.N]++
		}
	}
	return seen
}

// judgeNumbers wants each number once.
func judgeNumbers(t *testing.T, l *keyedLoad, seen map[int64]int) {
	t.Helper()
	missing, doubled := 0, 0
	for n := range l.times {
		if seen[n] == 0 {
			missing++
		}
	}
	for _, n := range seen {
		doubled += n - 1
	}
	if missing > 0 || doubled > 0 || len(seen) != len(l.times) {
		t.Errorf("%d numbers came out, want %d: %d missing, %d doubled", len(seen), len(l.times), missing, doubled)
	}
}

// The machine vanishes: a container with a daemon is killed and removed, and another one, which has nothing but the config, goes on
// from S3, with the state.
func TestFaults_s3AnotherMachineGoesOn(t *testing.T) {
	ctx := context.Background()
	image := buildImage(t)
	nw, err := tcnetwork.New(ctx) // it ends with the servers in it, by the reaper
	if err != nil {
		t.Fatal(err)
	}
	brokers, _ := startKafka(t, kafkaSetup{network: nw.Name})
	startGateway(t, gatewaySetup{network: nw.Name})
	l := startKeyedLoad(t, brokers[0], "moving")
	dir := t.TempDir()
	rows := filepath.Join(dir, "rows")
	if err := os.Mkdir(rows, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(rows, 0o777); err != nil { //nolint:gosec // the container's user is another
		t.Fatal(err)
	}
	config := filepath.Join(dir, "my.toml")
	text := fmt.Sprintf(s3FileConfig, "/tmp/data", "", "moving", "kafka:9092", "moving", "/rows", s3Store("http://s3:7070", "moving"))
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil { //nolint:gosec // the container's user reads it
		t.Fatal(err)
	}
	machine := func() *testcontainers.DockerContainer {
		t.Helper()
		c, err := testcontainers.Run(ctx, image,
			testcontainers.WithCmd("run", "-c", "/etc/ingestd.toml"),
			tcnetwork.WithNetworkName(nil, nw.Name),
			testcontainers.WithHostConfigModifier(func(h *container.HostConfig) {
				h.Binds = []string{rows + ":/rows", config + ":/etc/ingestd.toml:ro"}
				h.Tmpfs = map[string]string{"/tmp": "mode=1777"}
			}))
		if err != nil {
			t.Fatal(err)
		}
		testcontainers.CleanupContainer(t, c, testcontainers.StopTimeout(0))
		return c
	}
	docker, err := testcontainers.NewDockerClientWithOpts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer docker.Close()
	for range 3 {
		before := countLines(t, rows)
		c := machine()
		untilTrue(t, "new rows", func() bool { return countLines(t, rows) > before+1000 })
		if _, err := docker.ContainerKill(ctx, c.GetContainerID(), client.ContainerKillOptions{Signal: "KILL"}); err != nil {
			t.Fatal(err)
		}
		if err := c.Terminate(ctx, testcontainers.StopTimeout(0)); err != nil {
			t.Fatal(err)
		}
	}
	l.end(t)
	c := machine()
	untilTrue(t, "all numbers", func() bool { return countLines(t, rows) >= len(l.times) })
	stopInOrder(t, c)
	judgeNumbers(t, l, numbersIn(t, rows))
}

// Two daemons on two machines share a store by mistake: the second takes over, the first stops with exit code 5, and every number
// comes out once.
func TestFaults_s3TwoDaemonsOnOneStore(t *testing.T) {
	broker, _ := kafkaServer(t)
	g := gatewayServer(t)
	dir, path := t.TempDir(), daemonBinary(t, "faultpoints,invariants")
	rows := filepath.Join(dir, "rows")
	const topic = "s3-two-daemons"
	l := startKeyedLoad(t, broker, topic)
	config := func(name string) string {
		file := filepath.Join(dir, name+".toml")
		text := fmt.Sprintf(s3FileConfig, filepath.Join(dir, name), "", "two", broker, topic, rows, s3Store(g.url(), "two"))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	moves := func() {
		t.Helper()
		before := countLines(t, rows)
		untilTrue(t, "new rows", func() bool { return countLines(t, rows) > before })
	}
	old := startDaemon(t, path, config("a"), "")
	moves()
	for i := range 3 {
		began := time.Now()
		newer := startDaemon(t, path, config([]string{"b", "a"}[i%2]), "")
		if code := old.exit(time.Minute); code != 5 {
			t.Fatalf("exit code %d of the daemon that was replaced, want 5\n%s", code, old.tail())
		}
		stopped := time.Since(began)
		moves()
		t.Logf("replaced after %s, new rows after %s", stopped.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
		old = newer
	}
	l.end(t)
	untilTrue(t, "all numbers", func() bool { return countLines(t, rows) >= len(l.times) })
	old.signal(syscall.SIGTERM)
	if code := old.exit(time.Minute); code != 0 {
		t.Errorf("exit code %d, want 0\n%s", code, old.tail())
	}
	judgeNumbers(t, l, numbersIn(t, rows))
}

// A savepoint of a store in S3 is made, exported and gone on from, into another folder of the bucket, and what has nothing but the
// config sees the checkpoints.
func TestS3_savepoints(t *testing.T) {
	broker, _ := kafkaServer(t)
	g := gatewayServer(t)
	dir, path := t.TempDir(), daemonBinary(t, "faultpoints,invariants")
	const topic = "s3-savepoints"
	l := startKeyedLoad(t, broker, topic)
	config := func(file, pipeline, prefix string) string {
		file = filepath.Join(dir, file+".toml")
		text := fmt.Sprintf(s3FileConfig, strings.TrimSuffix(file, ".toml"), "127.0.0.1:"+freePort(t), pipeline, broker, topic,
			filepath.Join(dir, pipeline), s3Store(g.url(), prefix))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	ingestd := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(path, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("ingestd %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	here, archive := config("here", "saved", "savepoints"), filepath.Join(dir, "one.tar")
	d := startDaemon(t, path, here, "")
	untilTrue(t, "rows", func() bool { return countLines(t, filepath.Join(dir, "saved")) > 2000 })
	ingestd("savepoint", "create", "saved", "one", "-c", here)
	d.signal(syscall.SIGTERM)
	if code := d.exit(time.Minute); code != 0 {
		t.Fatalf("exit code %d, want 0\n%s", code, d.tail())
	}
	elsewhere := config("elsewhere", "saved", "savepoints") // another machine: another data directory
	if out := ingestd("checkpoint", "list", "saved", "-c", elsewhere); strings.Count(out, "\n") < 2 {
		t.Errorf("checkpoint list shows\n%s", out)
	}
	if out := ingestd("savepoint", "list", "saved", "-c", elsewhere); !strings.Contains(out, "one") {
		t.Errorf("savepoint list shows\n%s", out)
	}
	ingestd("savepoint", "export", "saved", "one", archive, "-c", elsewhere)
	ingestd("savepoint", "verify", archive)
	fsck(t, path, elsewhere, "saved")
	l.end(t)

	successor := config("successor", "successor", "savepoints/successor")
	d = startDaemonWith(t, path, "", "run", "-c", successor, "--from", archive, "--fresh-sinks", "--id", "successor")
	original := numbersIn(t, filepath.Join(dir, "saved"))
	untilTrue(t, "all numbers", func() bool { return covers(l, original, numbersIn(t, filepath.Join(dir, "successor"))) })
	d.signal(syscall.SIGTERM)
	if code := d.exit(time.Minute); code != 0 {
		t.Errorf("exit code %d, want 0\n%s", code, d.tail())
	}
	rest := numbersIn(t, filepath.Join(dir, "successor"))
	both := 0
	for n, times := range rest {
		if times != 1 {
			t.Fatalf("number %d came out %d times after the savepoint, want once", n, times)
		}
		if original[n] > 0 {
			both++ // after the savepoint the first pipeline went on
		}
	}
	if both == len(rest) || len(rest) == len(l.times) {
		t.Errorf("%d numbers after the savepoint, %d of them also before, of %d: its state or its positions were not used", len(rest), both, len(l.times))
	}
	fsck(t, path, successor, "successor")
}

// covers reports that each number is in one of two.
func covers(l *keyedLoad, a, b map[int64]int) bool {
	for n := range l.times {
		if a[n]+b[n] == 0 {
			return false
		}
	}
	return true
}

// validate --connect tries the store, leaves nothing behind, and exits with 3 for one that is wrong.
func TestS3_validateConnectTriesTheStore(t *testing.T) {
	broker, _ := kafkaServer(t)
	g := gatewayServer(t)
	produceLines(t, broker, "s3-validate", 1)
	dir, path := t.TempDir(), daemonBinary(t, "faultpoints,invariants")
	validate := func(store string) (string, int) {
		t.Helper()
		config := filepath.Join(dir, "my.toml")
		text := fmt.Sprintf(s3FileConfig, filepath.Join(dir, "data"), "", "checked", broker, "s3-validate", filepath.Join(dir, "rows"), store)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(path, "validate", "--connect", "-c", config)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	if out, code := validate(s3Store(g.url(), "validate")); code != 0 {
		t.Errorf("exit code %d, want 0:\n%s", code, out)
	}
	settings := gatewaySettings(g)
	settings.Prefix = "validate"
	store, _ := openS3(t, settings)
	if names, err := store.List(t.Context(), "", ""); err != nil || len(names) > 0 {
		t.Errorf("got %q, %v after validate, want nothing", names, err)
	}
	for text, store := range map[string]string{
		"not-there is not there": strings.Replace(s3Store(g.url(), "validate"), `"checkpoints"`, `"not-there"`, 1),
		"get-bucket-location":    s3Store(g.url(), "validate") + `, region = "eu-west-3"`,
		"access_key_id":          strings.Replace(s3Store(g.url(), "validate"), gatewaySecret, "wrong", 1),
	} {
		if out, code := validate(store); code != 3 || !strings.Contains(out, text) || !strings.Contains(out, "next: ") {
			t.Errorf("exit code %d, want 3 and %q:\n%s", code, text, out)
		}
	}
}

// The example does what it says, with the addresses of the test.
func TestS3_exampleRuns(t *testing.T) {
	broker, _ := kafkaServer(t)
	g := gatewayServer(t)
	data, err := os.ReadFile("../examples/checkpoints-in-s3/checkpoints-in-s3.toml")
	if err != nil {
		t.Fatal(err)
	}
	dir, path := t.TempDir(), daemonBinary(t, "faultpoints,invariants")
	keys := fmt.Sprintf("endpoint = %q\naccess_key_id = %q\nsecret_access_key = %q", g.url(), gatewayKey, gatewaySecret)
	text := strings.NewReplacer("localhost:9092", broker, `["orders"]`, `["s3-example"]`, "/tmp/checkpoints-in-s3", dir, `region = "eu-central-1"`, keys).Replace(string(data))
	config := filepath.Join(dir, "my.toml")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	producer, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.DefaultProduceTopic("s3-example"))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	if _, err := kadm.NewClient(producer).CreateTopic(t.Context(), 2, 1, nil, "s3-example"); err != nil {
		t.Fatal(err)
	}
	for i := range 200 { // each order twice
		if err := producer.ProduceSync(t.Context(), kgo.StringRecord(fmt.Sprintf(`{"id":"order %d","amount":1.5}`, i%100))).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	d := startDaemonWith(t, path, "", "run", "-c", config)
	rows := filepath.Join(dir, "orders")
	untilTrue(t, "100 orders", func() bool { return countLines(t, rows) >= 100 })
	d.signal(syscall.SIGTERM)
	if code := d.exit(time.Minute); code != 0 {
		t.Errorf("exit code %d, want 0\n%s", code, d.tail())
	}
	if n := countLines(t, rows); n != 100 {
		t.Errorf("got %d orders, want 100", n)
	}
	fsck(t, path, config, "orders")
}
