// Package cli is the command line: one file for each verb, with its flags, signals and exit codes, and no other logic. It is
// public so that anyone can build a daemon with one more plugin: main calls [Main] with the list of plugins.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// app is what all verbs share.
type app struct {
	plugins Plugins
	config  string
}

// Main runs the command line of the process and returns the exit code.
func Main(plugins Plugins) int {
	a := &app{plugins: plugins}
	root := a.command()
	err := root.ExecuteContext(context.Background())
	if err == nil {
		return exitDone
	}
	if exit, ok := errors.AsType[*exitError](err); ok {
		if exit.err != nil {
			fmt.Fprintln(os.Stderr, "ingestd: "+exit.err.Error())
		}
		return exit.code
	}
	fmt.Fprintln(os.Stderr, "ingestd: "+err.Error()+"\n  next: ingestd --help")
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
		Version: version(),
	}
	root.PersistentFlags().StringVarP(&a.config, "config", "c", "ingestd.toml", "the config file")
	root.AddCommand(a.runCommand(), a.validateCommand(), a.demoCommand(), a.versionCommand(), a.checkpointCommand(), a.offsetsCommand(),
		a.referenceCommand())
	return root
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
