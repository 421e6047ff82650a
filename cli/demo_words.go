package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ingestd/ingestd/examples"
	"github.com/ingestd/ingestd/pipeline"
)

// wordFlow is a way of counting words.
type wordFlow string

const (
	wordBatch  wordFlow = "batch"  // files to files, to the end
	wordStream wordFlow = "stream" // a topic to files, without end
)

// wordDemo counts words with a daemon that it kills at each step of a checkpoint, and compares.
type wordDemo struct {
	app    *app
	self   string // this binary
	dir    string
	out    io.Writer
	lines  int // of text, for each flow; the stream has at least as many
	random *rand.Rand
}

func (a *app) demoWordsCommand() *cobra.Command {
	d := wordDemo{app: a}
	var keep bool
	var seed uint64
	cmd := &cobra.Command{
		Use: "wordcount", Short: "See keyed state under SIGKILL at each step of a checkpoint", Args: cobra.NoArgs,
		Long: `Counts the words of generated text with the configs of examples/wordcount: text files to files as a batch, then an embedded
Kafka-protocol broker to files as a stream. It kills the daemon, a child process, with SIGKILL at each of the eight steps of a
checkpoint (start, trigger, freeze, prepare, publish, commit, apply, restore), and starts it again each time. It watches the
daemon's log for the step that begins; a kill counts only if the log that the daemon left shows that it died in that step, else
it is repeated. The local database is thrown away before each kill in restore. The counts must equal those of one undisturbed run
and those of sort | uniq -c. It takes about a minute.`,
		Example: "  ingestd demo wordcount\n  ingestd demo wordcount --lines 1000000 --keep",
		RunE: func(cmd *cobra.Command, _ []string) error {
			d.out, d.random = cmd.OutOrStdout(), rand.New(rand.NewPCG(seed, 0))
			return runDemo(d.out, keep, func(self, dir string) error {
				d.self, d.dir = self, dir
				return d.run(cmd.Context())
			})
		},
	}
	cmd.Flags().IntVar(&d.lines, "lines", 200_000, "least number of lines of text for each way, of about ten words each")
	cmd.Flags().Uint64Var(&seed, "seed", 1, "decides which checkpoints are struck")
	cmd.Flags().BoolVar(&keep, "keep", false, "keep the folder with configs, texts, logs, checkpoints and rows")
	return cmd
}

func (d *wordDemo) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	fmt.Fprintf(d.out, wordBlowFormat, "", "kill", "aimed at", "died in", "of checkpoint", "newest in the log", "") //nolint:errcheck // standard output
	var all []wordTally
	for _, flow := range []func(context.Context) ([]wordTally, error){d.batch, d.stream} {
		tallies, err := flow(ctx)
		if err != nil {
			return err
		}
		all = append(all, tallies...)
	}
	return d.conclude(all)
}

// batch counts files: once undisturbed, then in rounds until every step was struck. A round ends with its input.
func (d *wordDemo) batch(ctx context.Context) ([]wordTally, error) {
	in := filepath.Join(d.dir, "in")
	if err := writeTexts(in, d.lines); err != nil {
		return nil, err
	}
	texts, err := readTexts(in)
	if err != nil {
		return nil, err
	}
	want := sortUniq(texts)
	tallies := []wordTally{{run: "sort | uniq -c of the files", words: sum(want), different: len(want)}}
	one := func(name string, aims []wordAim) ([]wordAim, error) {
		s := wordSubject{demo: d, flow: wordBatch, name: name, dir: filepath.Join(d.dir, "batch-"+strings.NewReplacer(", ", "-", " ", "-").Replace(name))}
		if err := s.configure(examples.WordCount, "/tmp/wordcount/in", in, "/tmp/wordcount", s.dir, `"200ms"`, `"20ms"`); err != nil {
			return nil, err
		}
		left, err := s.suffer(ctx, aims)
		if err != nil {
			return nil, err
		}
		if err := s.finish(ctx); err != nil {
			return nil, err
		}
		t, err := s.tally(want)
		tallies = append(tallies, t)
		return left, err
	}
	if _, err := one("undisturbed", nil); err != nil {
		return nil, err
	}
	left := d.aims()
	for round := 1; len(left) > 0 && round <= wordRounds; round++ {
		if left, err = one(fmt.Sprintf("killed, round %d", round), left); err != nil {
			return nil, err
		}
	}
	return tallies, missed(wordBatch, left)
}

// wordRounds bounds how often the input of the batch is counted while a step was not struck.
const wordRounds = 10

// stream counts a topic: once in a run with a kill at each step, then once undisturbed.
func (d *wordDemo) stream(ctx context.Context) ([]wordTally, error) {
	b, err := startBroker(ctx, d.self, filepath.Join(d.dir, "broker"), linesTopic)
	if err != nil {
		return nil, err
	}
	defer b.kill()
	subject := func(name string) (*wordSubject, error) {
		s := &wordSubject{demo: d, flow: wordStream, name: name, dir: filepath.Join(d.dir, "stream-"+name)}
		return s, s.configure(examples.WordStream, "/tmp/wordstream", s.dir, "localhost:9092", b.addr, `interval = "1s"`, `interval = "50ms"`)
	}
	s, err := subject("killed")
	if err != nil {
		return nil, err
	}
	left, err := s.suffer(ctx, d.aims())
	if err != nil {
		return nil, err
	}
	produced, err := b.finish(d.lines)
	if err != nil {
		return nil, err
	}
	var texts bytes.Buffer
	for n := range produced {
		texts.WriteString(lineOf(int64(n)) + "\n")
	}
	want := sortUniq(texts.Bytes())
	quiet, err := subject("undisturbed")
	if err != nil {
		return nil, err
	}
	tallies := []wordTally{{run: "sort | uniq -c of the topic", words: sum(want), different: len(want)}}
	for _, s := range []*wordSubject{quiet, s} {
		if err := s.drain(ctx, want); err != nil {
			return nil, err
		}
		t, err := s.tally(want)
		if err != nil {
			return nil, err
		}
		tallies = append(tallies, t)
	}
	return tallies, missed(wordStream, left)
}

// aims chooses a checkpoint for each step, in the order of the kills. A batch shows all its rows at its end, so the commit is last.
func (d *wordDemo) aims() []wordAim {
	later := func() int { return 1 + d.random.IntN(3) }
	return []wordAim{
		{pipeline.StepTrigger, later()},
		{pipeline.StepFreeze, later()},
		{pipeline.StepStart, 1},
		{pipeline.StepPrepare, later()},
		{pipeline.StepPublish, later()},
		{pipeline.StepApply, later()},
		{pipeline.StepRestore, 1},
		{pipeline.StepCommit, 1},
	}
}

// missed fails when a step was not struck: then the counts don't prove what they should.
func missed(flow wordFlow, left []wordAim) error {
	var names []string
	for _, a := range left {
		names = append(names, string(a.step))
	}
	if len(left) == 0 {
		return nil
	}
	return fmt.Errorf("%s: no kill struck %s: try again on a machine with less to do", flow, strings.Join(names, ", "))
}

// conclude prints what the runs counted, and fails when one is wrong.
func (d *wordDemo) conclude(all []wordTally) error {
	w := tabwriter.NewWriter(d.out, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\nrun\tkills\twords\tdifferent\tlost\tsurplus\tdoubled rows\tbroken rows\t") //nolint:errcheck // Flush tells
	var errs []error
	for _, t := range all {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", t.run, t.kills, t.words, t.different, t.lost, t.surplus, t.doubled, t.broken) //nolint:errcheck // Flush tells
		if !t.right() {
			errs = append(errs, fmt.Errorf("%s: the counts are wrong", t.run))
		}
	}
	return errors.Join(append(errs, w.Flush())...)
}
