package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/pipeline"
)

func (a *app) validateCommand() *cobra.Command {
	var connect bool
	var format string
	cmd := &cobra.Command{
		Use: "validate", Short: "Check a config and tell what each pipeline guarantees", Args: cobra.NoArgs,
		Long: `Checks the whole config and prints, for each pipeline, the guarantee that its parts allow, with the reasons. With --connect it
also asks the brokers, topics, tables, columns, settings, grants and the checkpoint store, and names the exact statement that
mends each problem. It changes nothing, but it makes the folder of a local checkpoint store, and in another it writes an object of
its own and removes it. Exit code 3: the config is wrong,
4: a guarantee can't hold.`,
		Example: "  ingestd validate -c my.toml\n  ingestd validate -c my.toml --connect --format json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != "text" && format != "json" {
				return exitWith(exitUsage, fmt.Errorf("--format is %q, want text or json", format))
			}
			v := validation{connect: connect, Errors: config.Errors{}, Pipelines: []pipelineFinding{}}
			return v.report(cmd.OutOrStdout(), format, v.check(cmd.Context(), a))
		},
	}
	cmd.Flags().BoolVar(&connect, "connect", false, "also look at brokers, targets and the checkpoint store")
	cmd.Flags().StringVar(&format, "format", "text", "text or json")
	return cmd
}

// connectTimeout bounds the look at one pipeline's servers.
const connectTimeout = 30 * time.Second

// validation is what validate finds; it is printed as it stands with --format json.
type validation struct {
	connect   bool
	Config    string            `json:"config"`
	Errors    config.Errors     `json:"errors"`
	Pipelines []pipelineFinding `json:"pipelines"`
}

type pipelineFinding struct {
	Name      string    `json:"name"`
	Delivery  string    `json:"delivery"`
	Holds     bool      `json:"holds"`
	Guarantee string    `json:"guarantee"`
	Reasons   []string  `json:"reasons"`
	Findings  []finding `json:"findings"`
	Columns   []string  `json:"columns,omitempty"`
	Error     string    `json:"error,omitempty"`
}

type finding struct {
	Where  string `json:"where"`
	Level  string `json:"level"`
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"`
}

// check fills the validation and returns the error that decides the exit code.
func (v *validation) check(ctx context.Context, a *app) error {
	v.Config = a.config
	l, err := a.load(io.Discard)
	if err != nil {
		if list, ok := errors.AsType[config.Errors](err); ok {
			v.Errors = append(v.Errors, list...)
		} else {
			v.Errors = append(v.Errors, &config.Error{File: a.config, Message: err.Error()})
		}
		return exitWith(exitConfig, nil)
	}
	defer l.close()
	if _, _, err := divideMemory(l); err != nil {
		v.Errors = append(v.Errors, &config.Error{File: a.config, Message: err.Error()})
		return exitWith(exitConfig, nil)
	}
	code := exitDone
	for _, def := range l.defs {
		p, c := v.pipeline(ctx, l, def)
		v.Pipelines = append(v.Pipelines, p)
		code = max(code, c)
	}
	if code != exitDone {
		return exitWith(code, nil)
	}
	return nil
}

func (v *validation) pipeline(ctx context.Context, l *loaded, def *pipeline.Definition) (pipelineFinding, int) {
	p := pipelineFinding{Name: def.Name, Delivery: string(def.Delivery), Findings: []finding{}}
	if !v.connect {
		g := pipeline.Derive(def, nil)
		p.Holds, p.Guarantee, p.Reasons = g.Holds, g.Summary, g.Reasons
		p.Columns, _ = pipeline.Bind(def) //nolint:errcheck // loading has checked it
		if !g.Holds {
			return p, exitGuarantee
		}
		return p, exitDone
	}
	if err := l.open(def); err != nil {
		p.Error = err.Error()
		return p, exitConfig
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	look := pipeline.Look(ctx, def, slog.New(slog.DiscardHandler))
	if s, ok := def.Store.(checkpoint.Prober); ok && look.Err == nil {
		look.Err = s.Probe(ctx)
	}
	g := look.Guarantee
	p.Holds, p.Guarantee, p.Reasons, p.Columns = g.Holds, g.Summary, g.Reasons, look.Columns
	for _, f := range look.Findings {
		p.Findings = append(p.Findings, finding{Where: f.Where, Level: f.Level, Text: f.Text, Remedy: f.Remedy})
	}
	if look.Err != nil {
		p.Holds, p.Error = false, describe(look.Err)
		if errors.Is(look.Err, pipeline.ErrGuarantee) {
			return p, exitGuarantee
		}
		return p, exitForKind(fault.KindOf(look.Err))
	}
	if !g.Holds {
		return p, exitGuarantee
	}
	return p, exitDone
}

// report prints the validation and passes err on.
func (v *validation) report(out io.Writer, format string, err error) error {
	var b strings.Builder
	if format == "json" {
		enc := json.NewEncoder(&b)
		enc.SetIndent("", "  ")
		if err := enc.Encode(v); err != nil {
			return err
		}
	} else {
		v.text(&b)
	}
	if _, werr := io.WriteString(out, b.String()); werr != nil {
		return errors.Join(err, werr)
	}
	return err
}

func (v *validation) text(b *strings.Builder) {
	for _, e := range v.Errors {
		b.WriteString(e.Error() + "\n")
	}
	for _, p := range v.Pipelines {
		p.text(b)
	}
	if len(v.Errors) > 0 {
		plural := "s"
		if len(v.Errors) == 1 {
			plural = ""
		}
		fmt.Fprintf(b, "%s: %d error%s\n", v.Config, len(v.Errors), plural)
	}
}

func (p *pipelineFinding) text(b *strings.Builder) {
	mark := "✓"
	if !p.Holds || p.Error != "" {
		mark = "✗"
	}
	line := func(format string, args ...any) { fmt.Fprintf(b, format+"\n", args...) }
	line("%s pipeline %s: %s", mark, p.Name, p.Guarantee)
	for _, r := range p.Reasons {
		line("    %s", r)
	}
	if len(p.Columns) > 0 {
		line("    columns: %s", strings.Join(p.Columns, ", "))
	}
	for _, f := range p.Findings {
		line("  %s: %s: %s", f.Level, f.Where, f.Text)
		if f.Remedy != "" {
			line("      next: %s", f.Remedy)
		}
	}
	if p.Error != "" {
		line("  error: %s", strings.ReplaceAll(p.Error, "\n", "\n    "))
	}
}
