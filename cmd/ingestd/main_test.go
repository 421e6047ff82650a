package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ingestd/ingestd/cli"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/plugins"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
	"github.com/ingestd/ingestd/sink/blackhole"
	"github.com/ingestd/ingestd/step"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the expected outputs in testdata")

// asDaemon in the environment makes the test binary the daemon.
const asDaemon = "INGESTD_TEST_AS_DAEMON"

func TestMain(m *testing.M) {
	if os.Getenv(asDaemon) != "" {
		os.Exit(cli.Main(testPlugins()))
	}
	os.Exit(m.Run())
}

// testPlugins are the daemon's and more: a sink that can't tell whether a commit took effect, one that never answers and obeys no
// cancellation, and a step that panics.
func testPlugins() cli.Plugins {
	p := plugins.All()
	spec := config.Spec{Type: "forgetful", Doc: "Can't tell."}
	p.Sinks = append(p.Sinks, cli.New(spec, func(struct{}, cli.Env) (sink.Plugin, error) {
		b, err := blackhole.New(blackhole.Settings{})
		return forgetful{b}, err
	}))
	p.Sinks = append(p.Sinks, cli.New(config.Spec{Type: "deaf", Doc: "Never answers."}, func(struct{}, cli.Env) (sink.Plugin, error) {
		b, err := blackhole.New(blackhole.Settings{})
		return deaf{b}, err
	}))
	p.Steps = append(p.Steps, cli.New(config.Spec{Type: "panic", Doc: "Panics."}, func(struct{}, cli.Env) (step.Step, error) {
		return panics{}, nil
	}))
	return p
}

type forgetful struct{ sink.Plugin }

func (f forgetful) Capabilities() sink.Capabilities {
	c := f.Plugin.Capabilities()
	c.ExactlyOnce = false
	return c
}

type deaf struct{ sink.Plugin }

func (d deaf) Open(ctx context.Context, env sink.Env) (sink.Sink, error) {
	s, err := d.Plugin.Open(ctx, env)
	return deafSink{s}, err
}

type deafSink struct{ sink.Sink }

func (s deafSink) Committer() sink.Committer { return deafCommitter{s.Sink.Committer()} }

type deafCommitter struct{ sink.Committer }

func (deafCommitter) Fence(context.Context) error { select {} }

type panics struct{}

func (panics) Name() string { return "panic" }

func (panics) Bind(in *record.Schema) (*record.Schema, step.Apply, error) {
	return in, func(*record.Batch, *step.Result) { panic("out of luck") }, nil
}

// home is a working directory with a config, in which the command line runs.
type home struct{ t *testing.T }

// newHome makes the test's directory the working one, so that outputs have no place of this machine.
func newHome(t *testing.T) home {
	t.Helper()
	t.Chdir(t.TempDir())
	return home{t}
}

func (h home) write(name, text string) {
	h.t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h home) read(name string) string {
	h.t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(data)
}

// flow is a config of one pipeline "p" from files to files; more is added at its end.
func flow(more string) string {
	return `[daemon]
data_dir = "data"
listen = ""
log = { format = "text" }
shutdown_timeout = "5s"
memory_limit = "256MiB"

[pipeline.p]
tasks = 1
source = { type = "file", paths = ["in/*.ndjson"] }
decode = { type = "json", columns = { n = "int64" } }
sink = { type = "file", path = "out", roll = { every_checkpoint = true } }
checkpoint = { interval = "100ms" }
restart = { backoff_min = "10ms", backoff_max = "50ms" }
` + more
}

// letters makes dead letters of flow.
const letters = `dead_letter = { type = "file", path = "letters", roll = { every_checkpoint = true } }
`

// kafkaFlow is flow with a topic as its source.
func kafkaFlow(broker, more string) string {
	return strings.Replace(flow(more), `type = "file", paths = ["in/*.ndjson"]`, fmt.Sprintf(`type = "kafka", brokers = [%q], topics = ["events"]`, broker), 1)
}

// numbers writes a source file of lines {"n":0} and on.
func (h home) numbers(name string, n int) {
	h.t.Helper()
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "{\"n\":%d}\n", i)
	}
	if err := os.MkdirAll("in", 0o750); err != nil {
		h.t.Fatal(err)
	}
	h.write(filepath.Join("in", name), b.String())
}

// rows returns the lines of all visible files of a folder, sorted.
func (h home) rows(folder string) []string {
	h.t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.ndjson"))
	if err != nil {
		h.t.Fatal(err)
	}
	var out []string
	for _, f := range files {
		for line := range strings.Lines(h.read(f)) {
			out = append(out, strings.TrimSpace(line))
		}
	}
	slices.Sort(out)
	return out
}

// result is how a command line ended.
type result struct {
	code     int
	out, err string
}

// run runs a command line in this process.
func (h home) run(args ...string) result {
	h.t.Helper()
	var out, err bytes.Buffer
	code := cli.Execute(h.t.Context(), testPlugins(), cli.Process{Args: args, In: strings.NewReader(""), Out: &out, Err: &err})
	return result{code, out.String(), err.String()}
}

// want checks an exit code and that both outputs together hold texts.
func (r result) want(t *testing.T, code int, texts ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("got exit code %d, want %d; it printed\n%s%s", r.code, code, r.out, r.err)
	}
	for _, text := range texts {
		if !strings.Contains(r.out+r.err, text) {
			t.Errorf("the output lacks %q:\n%s%s", text, r.out, r.err)
		}
	}
}

// output collects what a process prints while it runs.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// daemon is this binary as a process of its own.
type daemon struct {
	t      *testing.T
	cmd    *exec.Cmd
	out    *output
	exited chan struct{}
}

// start starts the daemon with a config of this home.
func (h home) start(configFile string, env ...string) *daemon {
	h.t.Helper()
	return h.launch(env, "run", "-c", configFile)
}

// launch starts this binary with a command line.
func (h home) launch(env []string, args ...string) *daemon {
	h.t.Helper()
	self, err := os.Executable()
	if err != nil {
		h.t.Fatal(err)
	}
	d := &daemon{t: h.t, cmd: exec.Command(self, args...), out: &output{}, exited: make(chan struct{})}
	d.cmd.Env = append(append(os.Environ(), asDaemon+"=1", "GORACE=atexit_sleep_ms=0"), env...)
	d.cmd.Stdout, d.cmd.Stderr = d.out, d.out
	if err := d.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	go func() {
		_ = d.cmd.Wait() // the state says all
		close(d.exited)
	}()
	h.t.Cleanup(func() {
		_ = d.cmd.Process.Kill() // it may have ended
		<-d.exited
	})
	return d
}

// code waits for the end and returns the exit code.
func (d *daemon) code() int {
	d.t.Helper()
	select {
	case <-d.exited:
	case <-time.After(30 * time.Second):
		d.t.Fatalf("the daemon does not end:\n%s", d.out)
	}
	return d.cmd.ProcessState.ExitCode()
}

// signal sends a signal.
func (d *daemon) signal(s os.Signal) {
	d.t.Helper()
	if err := d.cmd.Process.Signal(s); err != nil {
		d.t.Fatal(err)
	}
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("not in 30 s: %s", what)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal(context.Cause(t.Context()))
		}
	}
}

// broker is an embedded broker with the topic "events" of two partitions.
type broker struct {
	t      *testing.T
	addr   string
	client *kgo.Client
	n      int
}

func newBroker(t *testing.T) *broker {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "events"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	b := &broker{t: t, addr: c.ListenAddrs()[0]}
	if b.client, err = kgo.NewClient(kgo.SeedBrokers(b.addr), kgo.DefaultProduceTopic("events"), kgo.RecordPartitioner(kgo.ManualPartitioner())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.client.Close)
	return b
}

// produce appends records {"n":…} with the next numbers, in turn to both partitions.
func (b *broker) produce(n int) {
	b.t.Helper()
	var records []*kgo.Record
	for range n {
		records = append(records, &kgo.Record{Partition: int32(b.n % 2), Value: fmt.Appendf(nil, `{"n":%d}`, b.n)})
		b.n++
	}
	if err := b.client.ProduceSync(b.t.Context(), records...).FirstErr(); err != nil {
		b.t.Fatal(err)
	}
}

// produceText appends a record to the first partition.
func (b *broker) produceText(text string) {
	b.t.Helper()
	if err := b.client.ProduceSync(b.t.Context(), &kgo.Record{Value: []byte(text)}).FirstErr(); err != nil {
		b.t.Fatal(err)
	}
}

// recreate deletes the topic and makes it again: another one of the same name.
func (b *broker) recreate() {
	b.t.Helper()
	del := kmsg.NewPtrDeleteTopicsRequest()
	del.TopicNames = []string{"events"}
	del.Topics = []kmsg.DeleteTopicsRequestTopic{{Topic: new("events")}}
	if _, err := del.RequestWith(b.t.Context(), b.client); err != nil {
		b.t.Fatal(err)
	}
	create := kmsg.NewPtrCreateTopicsRequest()
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = "events", 2, 1
	create.Topics = append(create.Topics, topic)
	if _, err := create.RequestWith(b.t.Context(), b.client); err != nil {
		b.t.Fatal(err)
	}
	b.client.PurgeTopicsFromClient("events")
}

// golden compares text with a file of this package's testdata, or writes it. The place is that before newHome.
func golden(t *testing.T, dir, name, got string) {
	t.Helper()
	path := filepath.Join(dir, "testdata", name)
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got; -args -rewrite writes it):\n%s", name, diff)
	}
}

// here is this package's folder.
func here(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
