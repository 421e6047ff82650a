package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ingestd/ingestd/config"
)

// demo runs the daemon against an embedded broker and kills it, once with each delivery, and counts what is in the sink.
type demo struct {
	self    string // this binary
	dir     string
	out     io.Writer
	kills   int // of each kind
	records int // at least; the broker produces until the kills are over
	seed    uint64
}

func (a *app) demoCommand() *cobra.Command {
	d := demo{}
	var keep bool
	cmd := &cobra.Command{
		Use: "demo", Short: "See exactly-once under SIGKILL, without any server", Args: cobra.NoArgs,
		Long: `Starts an embedded Kafka-protocol broker in a child process, produces numbered events, runs the daemon as another child into
a folder of files, and kills it with SIGKILL: half of the kills at random moments, half aimed at the moment between a commit
and the checkpoint that knows of it. First with at-least-once, then with exactly-once. It reads every row of the folder back
and checks number and checksum. It fails if exactly-once lost or doubled anything, if at-least-once lost anything, or if
at-least-once showed no duplicate after the aimed kills (then the kills proved nothing). It takes about a minute.`,
		Example: "  ingestd demo\n  ingestd demo --kills 50 --seed 7 --keep",
		RunE: func(cmd *cobra.Command, _ []string) error {
			d.out = cmd.OutOrStdout()
			return runDemo(d.out, keep, func(self, dir string) error {
				d.self, d.dir = self, dir
				return d.run(cmd.Context())
			})
		},
	}
	cmd.Flags().IntVar(&d.kills, "kills", 20, "kills of each kind, aimed and random, for each delivery")
	cmd.Flags().IntVar(&d.records, "records", 40_000, "least number of records for each delivery")
	cmd.Flags().Uint64Var(&d.seed, "seed", 1, "decides the random moments")
	cmd.Flags().BoolVar(&keep, "keep", false, "keep the folder with configs, logs, checkpoints and rows")
	cmd.AddCommand(brokerCommand(), a.demoWordsCommand())
	return cmd
}

// runDemo runs a demo in a folder of its own, which it keeps when it is told to or when something failed.
func runDemo(out io.Writer, keep bool, run func(self, dir string) error) error { //nolint:revive // flag-parameter: it is the user's flag
	self, err := os.Executable()
	if err != nil {
		return exitWith(exitFailed, err)
	}
	dir, err := os.MkdirTemp("", "ingestd-demo-")
	if err != nil {
		return exitWith(exitFailed, err)
	}
	err = run(self, dir)
	if keep || err != nil {
		fmt.Fprintf(out, "\nkept: %s\n", dir) //nolint:errcheck // standard output
	} else if rerr := os.RemoveAll(dir); rerr != nil {
		return exitWith(exitFailed, rerr)
	}
	if err != nil {
		return exitWith(exitFailed, err)
	}
	return nil
}

// tally is what one delivery's run shows.
type tally struct {
	delivery   config.Delivery
	produced   int
	found      int // rows in the sink
	lost       int
	doubled    int // rows beyond the first of each record
	altered    int // rows that nobody produced, or with a wrong checksum
	recoveries int
	slowest    time.Duration // from a start to the first new row in the sink
	total      time.Duration
}

func (d *demo) run(ctx context.Context) error {
	var all []tally
	for _, delivery := range []config.Delivery{config.AtLeastOnce, config.ExactlyOnce} {
		t, err := d.one(ctx, delivery)
		if err != nil {
			return err
		}
		all = append(all, t)
	}
	if err := d.table(all); err != nil {
		return err
	}
	return verdict(all)
}

// one runs one delivery: broker, daemon, kills, drain, count.
func (d *demo) one(ctx context.Context, delivery config.Delivery) (tally, error) {
	t := tally{delivery: delivery}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	dir := filepath.Join(d.dir, string(delivery))
	b, err := startBroker(ctx, d.self, dir, eventsTopic)
	if err != nil {
		return t, err
	}
	defer b.kill()
	w := &worker{self: d.self, dir: dir, broker: b.addr, delivery: delivery}
	if err := w.configure(); err != nil {
		return t, err
	}
	defer w.kill()
	random := rand.New(rand.NewPCG(d.seed, uint64(len(delivery))))
	for n := range 2 * d.kills {
		if err := w.start(ctx); err != nil {
			return t, err
		}
		took, err := w.strike(ctx, n%2 == 0, random)
		if err != nil {
			return t, err
		}
		t.recoveries++
		t.slowest, t.total = max(t.slowest, took), t.total+took
		d.progress(delivery, n+1, 2*d.kills)
	}
	if t.produced, err = b.finish(d.records); err != nil {
		return t, err
	}
	if err := w.start(ctx); err != nil {
		return t, err
	}
	if err := w.drain(ctx, t.produced); err != nil {
		return t, err
	}
	return t, t.count(w.target())
}

func (d *demo) progress(delivery config.Delivery, n, of int) {
	fmt.Fprintf(d.out, "\r%s: kill %d of %d", delivery, n, of) //nolint:errcheck // standard output
	if n == of {
		fmt.Fprintln(d.out) //nolint:errcheck // standard output
	}
}

func (d *demo) table(all []tally) error {
	w := tabwriter.NewWriter(d.out, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\ndelivery\tproduced\tin the sink\tlost\tdoubled\taltered\trecoveries\tmean time to recover\tslowest\t") //nolint:errcheck // Flush tells
	for _, t := range all {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t\n", t.delivery, t.produced, t.found, t.lost, t.doubled, t.altered, t.recoveries, //nolint:errcheck // Flush tells
			(t.total / time.Duration(max(1, t.recoveries))).Round(time.Millisecond), t.slowest.Round(time.Millisecond))
	}
	return w.Flush()
}

// verdict fails when a promise was broken, or when the control arm shows that the kills proved nothing.
func verdict(all []tally) error {
	var errs []error
	for _, t := range all {
		if t.lost+t.altered > 0 {
			errs = append(errs, fmt.Errorf("%s: %d lost, %d altered", t.delivery, t.lost, t.altered))
		}
		switch {
		case t.delivery == config.ExactlyOnce && t.doubled > 0:
			errs = append(errs, fmt.Errorf("exactly-once: %d doubled", t.doubled))
		case t.delivery == config.AtLeastOnce && t.doubled == 0:
			errs = append(errs, errors.New("at-least-once showed no duplicate: the kills missed the moment, so the zeros prove nothing"))
		}
	}
	return errors.Join(errs...)
}
