//go:build integration

package integration

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/sink"
	kafkasink "github.com/ingestd/ingestd/sink/kafka"
)

// rights makes the rights that kafka-acls commands name, of a user for any host.
func rights(tb testing.TB, commands, user string) []*kadm.ACLBuilder {
	tb.Helper()
	var all []*kadm.ACLBuilder
	for command := range strings.SplitSeq(commands, "; ") {
		if !strings.HasPrefix(command, "kafka-acls ") || !strings.Contains(command, "--allow-principal User:"+user+" ") {
			tb.Fatalf("%q allows nothing to %s", command, user)
		}
		var operations []kadm.ACLOperation
		words := strings.Fields(command)
		b := kadm.NewACLs().Allow("User:" + user).AllowHosts("*").ResourcePatternType(kadm.ACLPatternLiteral)
		for i, word := range words[:len(words)-1] {
			switch value := strings.Trim(words[i+1], `"`); word {
			case "--operation":
				operations = append(operations, operationOf(tb, value))
			case "--topic":
				b = b.Topics(value)
			case "--transactional-id":
				b = b.TransactionalIDs(value)
			}
		}
		all = append(all, b.Operations(operations...))
	}
	return all
}

func operationOf(tb testing.TB, name string) kadm.ACLOperation {
	tb.Helper()
	operations := map[string]kadm.ACLOperation{
		"Read": kadm.OpRead, "Write": kadm.OpWrite, "Describe": kadm.OpDescribe, "DescribeConfigs": kadm.OpDescribeConfigs, "Create": kadm.OpCreate,
	}
	operation, ok := operations[name]
	if !ok {
		tb.Fatalf("operation %q", name)
	}
	return operation
}

// A user without rights is told the commands that give them. With those, and nothing else, the sink does all that it does; without
// one of them it stops and says what is missing.
func TestKafkaSink_rightsThatItNamesAreEnough(t *testing.T) {
	dir := t.TempDir()
	certificates(t, dir)
	plain, named, _ := securedKafka(t, dir)
	c := newSinkCluster(t, 1, plain)
	const user = "stranger"
	s := c.settings(t, 3)
	s.Ledger = &kafkasink.Ledger{Topic: s.Topic + "-own", Create: true, Partitions: 2, ReplicationFactor: 1} // that it creates itself
	s.Brokers = []string{named}
	s.TLS = &kafkasink.TLS{CA: filepath.Join(dir, "ca.pem")}
	s.SASL = &kafkasink.SASL{Mechanism: "PLAIN", Username: user, Password: config.NewSecret(securedPassword)}

	found := inspectKafka(t, s)
	if !slices.ContainsFunc(found.Findings, func(f sink.Finding) bool { return f.Level == sink.Blocks && f.Remedy != "" }) {
		t.Fatalf("a user without rights finds %+v", found.Findings)
	}
	i := slices.IndexFunc(found.Findings, func(f sink.Finding) bool { return strings.HasPrefix(f.Remedy, "kafka-acls ") })
	if i < 0 {
		t.Fatalf("no right is named: %+v", found.Findings)
	}
	segments := new(segmentsInMemory)
	if _, err := openSinkRun(t, runOf{s, 1, segments}, nil); fault.KindOf(err) != fault.Misconfigured {
		t.Errorf("without rights: %v", err)
	}

	given := rights(t, found.Findings[i].Remedy, user)
	for _, b := range given {
		c.allow(t, b)
	}
	for _, f := range inspectKafka(t, s).Findings {
		if f.Level == sink.Blocks {
			t.Errorf("with all rights: %+v", f)
		}
	}
	r := startSinkRun(t, runOf{s, 1, segments}, nil)
	r.commitAll(r.unit(0, 100), r.unit(100, 200))

	for _, k := range []struct {
		what string
		deny *kadm.ACLBuilder
	}{
		{"the transactional id", kadm.NewACLs().TransactionalIDs(transactionalIDOf(s)).Operations(kadm.OpWrite)},
		{"the topic", kadm.NewACLs().Topics(s.Topic).Operations(kadm.OpWrite)},
		{"the ledger", kadm.NewACLs().Topics(s.Ledger.Topic).Operations(kadm.OpWrite)},
	} {
		if _, err := c.admin.DeleteACLs(context.Background(), k.deny.Allow("User:"+user).AllowHosts("*").ResourcePatternType(kadm.ACLPatternLiteral)); err != nil {
			t.Fatal(err)
		}
		u := r.unit(200, 300)
		var outcome sink.Outcome
		var err error
		for range 100 { // a broker learns of it a moment later
			if outcome, err = r.commit(u); outcome == sink.Unknown && fault.KindOf(err) == fault.Misconfigured {
				break
			}
			if outcome == sink.Committed {
				u = r.unit(200, 300)
			}
			waitABit()
		}
		if outcome != sink.Unknown || fault.KindOf(err) != fault.Misconfigured || !strings.Contains(fault.RemedyOf(err), "allow ") {
			t.Errorf("without the right on %s: %s, %v (remedy %q)", k.what, outcome, err, fault.RemedyOf(err))
		}
		for _, b := range given {
			c.allow(t, b)
		}
		r.commitAll(u)
	}
}

func (c *sinkCluster) allow(tb testing.TB, b *kadm.ACLBuilder) {
	tb.Helper()
	created, err := c.admin.CreateACLs(context.Background(), b)
	if err != nil {
		tb.Fatal(err)
	}
	for _, r := range created {
		if r.Err != nil {
			tb.Fatal(r.Err)
		}
	}
}
