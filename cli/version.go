package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func (a *app) versionCommand() *cobra.Command {
	var buildInfo bool
	cmd := &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Example: "  ingestd version --build-info",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if info, ok := debug.ReadBuildInfo(); ok && buildInfo {
				_, err := fmt.Fprint(cmd.OutOrStdout(), info.String())
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "ingestd %s (%s, %s/%s)\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
	cmd.Flags().BoolVar(&buildInfo, "build-info", false, "also every module that it was built from")
	return cmd
}
