package kafka

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/source"
)

// Committed positions are seen by lag tools, and never read here: a group that says otherwise changes nothing.
func TestSource_mirrorsCommittedPositions(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(2, "orders", "payments"))
	cl := client(t, c)
	produce(t, cl, "orders", 1, numbered("v", 0, 10)...)
	s := settings(c, "orders", "payments")
	s.GroupMirror = "lag"
	src := newSource(t, s)
	splits := discover(t, src)
	positions := make([]source.Position, len(splits))
	for i, split := range splits {
		positions[i] = split.Position
		positions[i].Offset = 7
	}
	if err := src.Committed(t.Context(), positions); err != nil {
		t.Fatal(err)
	}
	got, err := kadm.NewClient(cl).FetchOffsets(t.Context(), "lag")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]int64{}
	got.Each(func(o kadm.OffsetResponse) { all[splitKey{o.Topic, o.Partition}.String()] = o.At })
	want := map[string]int64{"orders/0": 7, "orders/1": 7, "payments/0": 7, "payments/1": 7}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Errorf("mirrored positions differ (-want +got):\n%s", diff)
	}
	if again := discover(t, newSource(t, s)); again[1].Offset != 0 {
		t.Errorf("got the start %d after the mirror was written, want 0", again[1].Offset)
	}
}

// A group that somebody reads with is not ours: refused at the start, of either group protocol, and by the brokers later.
func TestSource_refusesAGroupWithMembers(t *testing.T) {
	for name, opts := range map[string][]kfake.Opt{"modern": nil, "classic": {kfake.MaxVersions(kversion.V3_6_0())}} {
		t.Run(name, func(t *testing.T) {
			c := cluster(t, append(opts, kfake.SeedTopics(1, "orders"))...)
			s := settings(c, "orders")
			s.GroupMirror = "used"
			early := newSource(t, s)
			splits := discover(t, early)
			member := client(t, c, kgo.ConsumerGroup("used"), kgo.ConsumeTopics("orders"))
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			produce(t, client(t, c), "orders", 0, "v")
			if fetches := member.PollFetches(ctx); fetches.Err() != nil || fetches.NumRecords() == 0 {
				t.Fatalf("the member reads nothing: %v", fetches.Err())
			}
			_, err := newSource(t, s).Discover(t.Context(), nil)
			wantFault(t, err, fault.Misconfigured, "group_mirror: the group used has 1 members")
			findings := newSource(t, s).Check(t.Context())
			if len(findings) != 1 || findings[0].Level != source.Blocks || !strings.Contains(findings[0].Text, "has 1 members") || findings[0].Remedy == "" {
				t.Errorf("got the findings %+v, want one that blocks", findings)
			}
			if err := early.Committed(t.Context(), []source.Position{splits[0].Position}); err == nil || !strings.Contains(err.Error(), "used") {
				t.Errorf("a member came later: got %v, want the brokers' refusal", err)
			}
		})
	}
}

// What can't be mirrored is an error for the counter, within the time that it was given.
func TestSource_mirrorFailureIsOnlyAnError(t *testing.T) {
	c := cluster(t, kfake.SeedTopics(1, "orders"))
	s := settings(c, "orders")
	s.GroupMirror = "lag"
	src := newSource(t, s)
	splits := discover(t, src)
	h := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.GroupAuthorizationFailed, Count: -1})
	err := src.Committed(t.Context(), []source.Position{splits[0].Position})
	wantFault(t, err, fault.Misconfigured, "lag")
	h.Remove()
	hang := make(chan struct{})
	c.ControlKey(int16(kmsg.OffsetCommit), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		c.SleepControl(func() { <-hang })
		return nil, nil, false
	})
	defer close(hang)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if err := src.Committed(ctx, []source.Position{splits[0].Position}); err == nil {
		t.Error("got no error from a broker that does not answer, want one")
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("it took %s, want about the 100 ms that it was given", took)
	}
}
