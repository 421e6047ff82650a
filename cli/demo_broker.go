package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// brokerCommand is the embedded broker as a child process: it prints its address, produces numbered records at a steady pace,
// and when a line with a number comes on standard input it produces up to that number, prints how many there are, and stays.
func brokerCommand() *cobra.Command {
	return &cobra.Command{
		Use: "broker [TOPIC]", Hidden: true, Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			topic := eventsTopic
			if len(args) > 0 {
				topic = args[0]
			}
			return runBroker(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), topic)
		},
	}
}

// What the broker produces: events, or lines of words.
const (
	eventsTopic = "events"
	linesTopic  = "lines"
)

// recordOf makes the record with a number.
func recordOf(topic string, n int64) (*kgo.Record, error) {
	if topic == linesTopic {
		return kgo.StringRecord(lineOf(n)), nil
	}
	value, err := json.Marshal(eventOf(n))
	return &kgo.Record{Value: value, Key: strconv.AppendInt(nil, n, 10)}, err
}

const (
	demoPartitions = 4
	demoBatch      = 50 // events every demoPause
	demoPause      = 25 * time.Millisecond
)

func runBroker(ctx context.Context, in io.Reader, out io.Writer, topic string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(demoPartitions, topic))
	if err != nil {
		return exitWith(exitFailed, err)
	}
	defer cluster.Close()
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.DefaultProduceTopic(topic))
	if err != nil {
		return exitWith(exitFailed, err)
	}
	defer client.Close()
	if _, err := fmt.Fprintln(out, cluster.ListenAddrs()[0]); err != nil {
		return err
	}
	var least atomic.Int64
	asked := make(chan struct{})
	lines := bufio.NewScanner(in)
	go func() { // it ends with the parent, which holds the other end
		defer cancel()
		if lines.Scan() {
			n, _ := strconv.ParseInt(lines.Text(), 10, 64) //nolint:errcheck // 0: nothing more
			least.Store(n)
			close(asked)
		}
		for lines.Scan() {
		}
	}()
	p := producer{client: client, topic: topic, asked: asked, least: &least}
	n, err := p.run(ctx)
	if err != nil {
		return exitWith(exitFailed, err)
	}
	if _, err := fmt.Fprintln(out, n); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// producer produces at a steady pace until it is asked for the end, then up to the least number.
type producer struct {
	client *kgo.Client
	topic  string
	asked  <-chan struct{}
	least  *atomic.Int64
}

// run returns how many records it produced.
func (p *producer) run(ctx context.Context) (int64, error) {
	tick := time.NewTicker(demoPause)
	defer tick.Stop()
	var n int64
	for {
		var records []*kgo.Record
		for range demoBatch {
			r, err := recordOf(p.topic, n)
			if err != nil {
				return n, err
			}
			records = append(records, r)
			n++
		}
		if err := p.client.ProduceSync(ctx, records...).FirstErr(); err != nil {
			return n, err
		}
		select {
		case <-p.asked:
			if n >= p.least.Load() {
				return n, nil
			}
			continue
		default:
		}
		select {
		case <-tick.C:
		case <-p.asked:
		case <-ctx.Done():
			return n, context.Cause(ctx)
		}
	}
}

// broker is the parent's side of the child.
type broker struct {
	addr string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner
}

func startBroker(ctx context.Context, self, dir, topic string) (*broker, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	b := &broker{cmd: exec.CommandContext(ctx, self, "demo", "broker", topic)} //nolint:gosec // it is this very program
	log, err := os.Create(filepath.Join(dir, "broker.log"))
	if err != nil {
		return nil, err
	}
	b.cmd.Stderr = log
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if b.in, err = b.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := b.cmd.Start(); err != nil {
		return nil, err
	}
	b.out = bufio.NewScanner(out)
	if !b.out.Scan() {
		b.kill()
		return nil, fmt.Errorf("the embedded broker did not start; its log is %s", log.Name())
	}
	b.addr = strings.TrimSpace(b.out.Text())
	return b, nil
}

// finish lets the broker produce up to the least number and returns how many events there are.
func (b *broker) finish(least int) (int, error) {
	if _, err := fmt.Fprintln(b.in, least); err != nil {
		return 0, err
	}
	if !b.out.Scan() {
		return 0, errors.New("the embedded broker ended")
	}
	return strconv.Atoi(b.out.Text())
}

// kill ends the child and waits for it.
func (b *broker) kill() {
	_ = b.cmd.Process.Kill() //nolint:errcheck // it may have ended
	_ = b.cmd.Wait()         //nolint:errcheck // it was killed
}
