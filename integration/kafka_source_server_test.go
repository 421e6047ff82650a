//go:build integration

package integration

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/source"
	"github.com/ingestd/ingestd/source/kafka"
	"github.com/ingestd/ingestd/source/sourcetest"
)

// sourcePatience is how long a test waits for what must happen at a real broker.
const sourcePatience = 40 * time.Second

// topics is what the source's tests need of a broker.
type topics struct {
	addr string
	cl   *kgo.Client
	adm  *kadm.Client
}

func newTopics(t *testing.T) *topics {
	t.Helper()
	addr, _ := kafkaServer(t)
	k := &topics{addr: addr, cl: kafkaWriter(t, addr)}
	k.adm = kadm.NewClient(k.cl)
	return k
}

// kafkaWriter returns a client whose records go to the partition that they name.
func kafkaWriter(t *testing.T, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	opts = append([]kgo.Opt{
		kgo.SeedBrokers(addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.UnknownTopicRetries(50), kgo.DisableClientMetrics(),
	}, opts...)
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// create makes a topic with a name of its own and returns the name.
func (k *topics) create(t *testing.T, partitions int32, name string, configs map[string]string) string {
	t.Helper()
	name = fmt.Sprintf("%s-%d", name, time.Now().UnixNano())
	k.createNamed(t, partitions, name, configs)
	return name
}

func (k *topics) createNamed(t *testing.T, partitions int32, name string, configs map[string]string) {
	t.Helper()
	all := map[string]*string{}
	for key, value := range configs {
		all[key] = &value
	}
	// A topic of the same name may still be on its way out.
	untilTrue(t, "create "+name, func() bool {
		resp, err := k.adm.CreateTopic(t.Context(), partitions, 1, all, name)
		return err == nil && resp.Err == nil
	})
}

// recreate deletes a topic and makes it again; it returns the new ID as Kafka's tools print it.
func (k *topics) recreate(t *testing.T, name string) string {
	t.Helper()
	if _, err := k.adm.DeleteTopic(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	k.createNamed(t, 1, name, nil)
	var id kadm.TopicID
	untilTrue(t, "the new topic is known", func() bool {
		meta, err := k.adm.Metadata(t.Context(), name)
		id = meta.Topics[name].ID
		return err == nil && meta.Topics[name].Err == nil && len(meta.Topics[name].Partitions) == 1
	})
	return base64.RawURLEncoding.EncodeToString(id[:])
}

func (k *topics) send(t *testing.T, records ...*kgo.Record) {
	t.Helper()
	if err := k.cl.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatalf("produce: %v", err)
	}
}

// recordsOf makes records for partition 0.
func recordsOf(topic, prefix string, n int) []*kgo.Record {
	var all []*kgo.Record
	for i := range n {
		all = append(all, &kgo.Record{Topic: topic, Value: fmt.Appendf(nil, "%s-%d", prefix, i)})
	}
	return all
}

func untilTrue(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), sourcePatience)
	defer cancel()
	for !condition() {
		select {
		case <-ctx.Done():
			t.Fatalf("%s: it did not happen within %s", what, sourcePatience)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func kafkaSource(t *testing.T, s kafka.Settings) *kafka.Source {
	t.Helper()
	src, err := kafka.New(s, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := src.Close(); err != nil {
			t.Error(err)
		}
	})
	return src
}

func discoverAll(t *testing.T, src *kafka.Source, known ...source.Split) []source.Split {
	t.Helper()
	splits, err := src.Discover(t.Context(), known)
	if err != nil {
		t.Fatal(err)
	}
	return splits
}

func openSource(t *testing.T, src *kafka.Source, splits []source.Split) source.Reader {
	t.Helper()
	r, err := src.Open(t.Context(), splits, sourcetest.NewBudget(1<<40))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func finished(l *sourcetest.Log) bool { return len(l.Finished) == len(l.At) }

func never(*sourcetest.Log) bool { return false }

func wantLost(t *testing.T, err error, names ...string) {
	t.Helper()
	if err == nil || fault.KindOf(err) != fault.Lost {
		t.Fatalf("got %v, want an error of the kind lost", err)
	}
	for _, name := range names {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("got %q, want it to name %q", err, name)
		}
	}
}
