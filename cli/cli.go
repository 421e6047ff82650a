// Package cli is the command line: one file for each verb, with its flags, signals and exit codes, and no other logic. It is
// public so that anyone can build a daemon with one more plugin: main calls [Main] with the list of plugins.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// app is what all verbs share.
type app struct {
	plugins Plugins
	config  string
	discard []string // steps whose stored state run gives up
	began   bool     // the command line is right, and its verb began
}

// Process is what a command line gets from the process that it runs in.
type Process struct {
	Args []string // without the program's name
	In   io.Reader
	Out  io.Writer
	Err  io.Writer
}

// Main runs the command line of the process and returns the exit code.
func Main(plugins Plugins) int {
	return Execute(context.Background(), plugins, Process{Args: os.Args[1:], In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
}

// Execute runs one command line and returns the exit code. When ctx ends it gives up at once, which is as safe as a crash; for a
// graceful stop the process gets a signal. What it started in this process has ended when it returns, but for a daemon that was
// told to end at once.
func Execute(ctx context.Context, plugins Plugins, p Process) int {
	a := &app{plugins: plugins}
	root := a.command()
	root.SetArgs(p.Args)
	root.SetIn(p.In)
	root.SetOut(p.Out)
	root.SetErr(p.Err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	if exit, ok := errors.AsType[*exitError](err); ok {
		if exit.err != nil {
			fmt.Fprintln(p.Err, "ingestd: "+exit.err.Error()) //nolint:errcheck // the exit code tells, too
		}
		return exit.code
	}
	if a.began {
		fmt.Fprintln(p.Err, "ingestd: "+err.Error()) //nolint:errcheck // the exit code tells, too
		return exitFailed
	}
	fmt.Fprintln(p.Err, "ingestd: "+err.Error()+"\n  next: ingestd --help") //nolint:errcheck // the exit code tells, too
	return exitUsage
}

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "ingestd",
		Short: "Moves Kafka partitions and files into sinks, exactly once",
		Long: `ingestd reads Kafka partitions (or files), decodes and transforms records, and writes them to sinks so that after any
crash nothing is lost and nothing is doubled.`,
		Example: `  ingestd demo                       see it survive SIGKILL, without any server
  ingestd validate -c my.toml        check a config and see what it guarantees
  ingestd run -c my.toml             run it`,
		SilenceErrors: true, SilenceUsage: true,
		Version:          version(),
		PersistentPreRun: func(*cobra.Command, []string) { a.began = true },
	}
	root.PersistentFlags().StringVarP(&a.config, "config", "c", "ingestd.toml", "the config file")
	root.AddCommand(a.runCommand(), a.validateCommand(), a.demoCommand(), a.versionCommand(), a.checkpointCommand(), a.offsetsCommand(),
		a.savepointCommand(), a.stateCommand(), a.fsckCommand(), a.pauseCommand(), a.resumeCommand(), a.txnCommand(), a.referenceCommand())
	return root
}

// group makes a command that only has other commands below it. What it does not have is an error, as on the top level.
func group(cmd *cobra.Command, below ...*cobra.Command) *cobra.Command {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.AddCommand(below...)
	return cmd
}

// version is the module's version and the commit that it was built from, as the build recorded them.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	if v == "" || v == "(devel)" {
		v = "devel"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v += " " + s.Value[:min(12, len(s.Value))]
		}
	}
	return v
}
