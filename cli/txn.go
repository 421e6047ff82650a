package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/kafkatxn"
	"github.com/ingestd/ingestd/pipeline"
)

// openTxn is an open transaction, with the client of its cluster.
type openTxn struct {
	kafkatxn.Transaction
	client *kgo.Client
}

func (a *app) txnCommand() *cobra.Command {
	var topics []string
	var yes bool
	list := &cobra.Command{
		Use: "list PIPELINE", Short: "Print the transactions that are open in the topics that a pipeline reads or writes", Args: cobra.ExactArgs(1),
		Long: `Asks the brokers for the transactions that are open in the pipeline's topics, or in those of --topic. A source with read_committed
does not get past the first record of an open transaction: it stands still until its producer, or the coordinator after the
transaction's timeout, ends it. One that hangs is ended by nobody: no coordinator knows it.`,
		Example: "  ingestd txn list orders -c my.toml",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withTxns(cmd.Context(), args[0], topics, func(open []openTxn) error { return listTxns(cmd.OutOrStdout(), open) })
		},
	}
	show := &cobra.Command{
		Use: "show PIPELINE ID", Short: "Print where a transaction is open; ID is its transactional ID or its producer's number", Args: cobra.ExactArgs(2),
		Example: "  ingestd txn show orders billing-7 -c my.toml",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withTxns(cmd.Context(), args[0], topics, func(open []openTxn) error {
				t, err := findTxn(open, args[1])
				if err != nil {
					return err
				}
				return showTxn(cmd.OutOrStdout(), &t.Transaction)
			})
		},
	}
	abort := &cobra.Command{
		Use: "abort PIPELINE ID", Short: "Abort an open transaction", Args: cobra.ExactArgs(2),
		Long: `Aborts a transaction that a dead producer has left open. Its records are then never read by read_committed readers. A producer that
is alive is fenced: what it wrote in this transaction is gone, and it has to begin anew. Transactions of ingestd's own sinks can be
aborted: the next attempt writes the same rows again. Without --yes it only shows what would be aborted.`,
		Example: "  ingestd txn abort orders billing-7 --yes -c my.toml",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withTxns(cmd.Context(), args[0], topics, func(open []openTxn) error {
				t, err := findTxn(open, args[1])
				if err != nil {
					return err
				}
				if err := showTxn(cmd.OutOrStdout(), &t.Transaction); err != nil {
					return err
				}
				if !yes {
					_, err := fmt.Fprintln(cmd.OutOrStdout(), "\nnothing was done; --yes aborts it")
					return err
				}
				return abortTxn(cmd.Context(), cmd.OutOrStdout(), t)
			})
		},
	}
	abort.Flags().BoolVar(&yes, "yes", false, "do it; without, only the transaction is shown")
	for _, cmd := range []*cobra.Command{list, show, abort} {
		cmd.Flags().StringArrayVar(&topics, "topic", nil, "look at this topic instead of the pipeline's own; may be given several times")
	}
	return group(&cobra.Command{
		Use: "txn", Short: "Look at open Kafka transactions, and abort what a dead producer left open", Example: "  ingestd txn list orders -c my.toml",
	}, list, show, abort)
}

// withTxns calls f with what is open in the pipeline's topics, or in those that are named.
func (a *app) withTxns(ctx context.Context, name string, topics []string, f func([]openTxn) error) error {
	l, def, err := a.definition(name, io.Discard)
	if err != nil {
		return err
	}
	defer func() {
		if err := def.CloseSources(); err != nil {
			l.log.Warn("close the sources", slog.String("error", err.Error()))
		}
	}()
	clusters := clustersOf(def)
	if len(clusters) == 0 {
		return exitWith(exitUsage, fmt.Errorf("pipeline %q has no Kafka topics", name))
	}
	var open []openTxn
	for _, c := range clusters {
		found, err := txnsOf(ctx, c, topics)
		if err != nil {
			return exitWith(exitForKind(fault.KindOf(err)), errors.New(describe(err)))
		}
		for _, t := range found {
			if !slices.ContainsFunc(open, func(o openTxn) bool { return o.ProducerID == t.ProducerID && slices.Equal(o.Places, t.Places) }) {
				open = append(open, t)
			}
		}
	}
	return f(open)
}

// clustersOf returns what of a pipeline works with Kafka.
func clustersOf(def *pipeline.Definition) []kafkatxn.Cluster {
	var out []kafkatxn.Cluster
	add := func(v any) {
		if c, ok := v.(kafkatxn.Cluster); ok {
			out = append(out, c)
		}
	}
	add(def.Source)
	for i := range def.Tables {
		add(def.Tables[i].Source)
	}
	for _, r := range def.Sinks {
		add(r.Sink)
	}
	add(def.DeadLetter)
	return out
}

func txnsOf(ctx context.Context, c kafkatxn.Cluster, topics []string) ([]openTxn, error) {
	client, err := c.KafkaClient()
	if err != nil {
		return nil, err
	}
	if len(topics) == 0 {
		if topics, err = c.KafkaTopics(ctx); err != nil {
			return nil, err
		}
	}
	if len(topics) == 0 {
		return nil, nil // a pattern that nothing matches: no names would mean all topics
	}
	found, err := kafkatxn.Open(ctx, client, topics)
	if err != nil {
		return nil, err
	}
	var out []openTxn
	for i := range found {
		out = append(out, openTxn{Transaction: found[i], client: client})
	}
	return out, nil
}

func findTxn(open []openTxn, id string) (*openTxn, error) {
	for i := range open {
		if t := &open[i]; t.ID == id || strconv.FormatInt(t.ProducerID, 10) == id {
			return t, nil
		}
	}
	return nil, exitWith(exitFailed, fmt.Errorf("no open transaction %q; ingestd txn list shows what is open", id))
}

func listTxns(out io.Writer, open []openTxn) error {
	if len(open) == 0 {
		_, err := fmt.Fprintln(out, "no transaction is open")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "TRANSACTIONAL ID\tPRODUCER\tSTATE\tOPEN SINCE\tTIMEOUT\tPARTITIONS\tLAST WRITE") //nolint:errcheck // Flush tells
	for i := range open {
		t := &open[i].Transaction
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%d\t%s\n", cmp.Or(t.ID, "–"), t.ProducerID, stateOf(t), //nolint:errcheck // Flush tells
			timeOrNone(t.Started), durationOrNone(t.Timeout), len(t.Places), timeOrNone(lastWrite(t)))
	}
	return w.Flush()
}

func showTxn(out io.Writer, t *kafkatxn.Transaction) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "transactional id\t%s\nproducer\t%d\nstate\t%s\nopen since\t%s\ntimeout\t%s\n\nPARTITION\tFIRST OFFSET\tEPOCH\tLAST WRITE\n", //nolint:errcheck // Flush tells
		cmp.Or(t.ID, "– (no coordinator knows this producer)"), t.ProducerID, stateOf(t), timeOrNone(t.Started), durationOrNone(t.Timeout))
	for _, p := range t.Places {
		fmt.Fprintf(w, "%s/%d\t%d\t%d\t%s\n", p.Topic, p.Partition, p.From, p.ProducerEpoch, timeOrNone(p.LastWrite)) //nolint:errcheck // Flush tells
	}
	if err := w.Flush(); err != nil {
		return err
	}
	text := "readers with read_committed wait in each of these partitions at the first offset"
	if t.Hanging() {
		text += "; no coordinator will end it: abort it by hand"
	} else if !t.Started.IsZero() && t.Timeout > 0 {
		text += "; its coordinator aborts it at " + timeOrNone(t.Started.Add(t.Timeout)) + " if its producer does not end it"
	}
	_, err := fmt.Fprintln(out, "\n"+text)
	return err
}

func abortTxn(ctx context.Context, out io.Writer, t *openTxn) error {
	if err := kafkatxn.Abort(ctx, t.client, &t.Transaction); err != nil {
		return exitWith(exitForKind(fault.KindOf(err)), errors.New(describe(err)))
	}
	_, err := fmt.Fprintln(out, "\naborted")
	return err
}

func stateOf(t *kafkatxn.Transaction) string {
	if t.Hanging() {
		return "hanging"
	}
	return t.State
}

func lastWrite(t *kafkatxn.Transaction) time.Time {
	var last time.Time
	for _, p := range t.Places {
		if p.LastWrite.After(last) {
			last = p.LastWrite
		}
	}
	return last
}

func timeOrNone(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.UTC().Format(time.RFC3339)
}

func durationOrNone(d time.Duration) string {
	if d == 0 {
		return "–"
	}
	return d.String()
}
