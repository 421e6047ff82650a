package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/ingestd/ingestd/internal/telemetry"
	"github.com/ingestd/ingestd/pipeline"
	"github.com/ingestd/ingestd/savepoint"
)

func (a *app) savepointExportCommand() *cobra.Command {
	return &cobra.Command{
		Use: "export PIPELINE NAME FILE", Short: "Write a savepoint to one tar file", Args: cobra.ExactArgs(3),
		Long:    `Every object is checked on the way. FILE must not be there, and is there only when it is whole. "-" is the standard output.`,
		Example: "  ingestd savepoint export orders before-upgrade before-upgrade.tar -c my.toml",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withSavepoint(cmd.Context(), args[:2], func(s reading) error {
				if args[2] == "-" {
					return inSavepoint(s.name, savepoint.Export(cmd.Context(), s.Savepoint, s.name, cmd.OutOrStdout()))
				}
				if err := exportFile(cmd.Context(), s, args[2]); err != nil {
					return inSavepoint(s.name, err)
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "savepoint %s is written to %s\n", s.name, args[2])
				return err
			})
		},
	}
}

// exportFile writes the file under another name and links it to its own, which must be free.
func exportFile(ctx context.Context, s reading, path string) error {
	if _, err := os.Lstat(path); err == nil { // before much is written in vain
		return fmt.Errorf("%s: %w", path, fs.ErrExist)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".savepoint-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() //nolint:errcheck // it may be linked, and a leftover says by its name what it is
	err = savepoint.Export(ctx, s.Savepoint, s.name, f)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Link(f.Name(), path)
}

func (a *app) savepointImportCommand() *cobra.Command {
	name := ""
	cmd := &cobra.Command{
		Use: "import PIPELINE PATH", Short: "Put a savepoint from a tar file or a folder into the checkpoint store", Args: cobra.ExactArgs(2),
		Long: `Every object is checked on the way, and the savepoint is there whole or not at all. It may be of another pipeline or from another
store; "ingestd run --from" says what that needs.`,
		Example: "  ingestd savepoint import orders before-upgrade.tar -c my.toml",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withPipeline(args[0], func(l *loaded, def *pipeline.Definition) error {
				return a.importSavepoint(cmd.Context(), l, def, importing{cmd.OutOrStdout(), args[1], name})
			})
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "its name in the store; by default the one that it has")
	return cmd
}

type importing struct {
	out        io.Writer
	path, name string
}

func (a *app) importSavepoint(ctx context.Context, l *loaded, def *pipeline.Definition, im importing) error {
	outside, err := savepoint.OpenPath(im.path)
	if err != nil {
		return exitWith(exitUsage, err)
	}
	defer func() { _ = outside.Close() }() //nolint:errcheck // it was only read
	if im.name == "" {
		im.name = outside.Name()
	}
	s, err := savepoint.Open(ctx, outside)
	if err != nil {
		return inSavepoint(im.path, err)
	}
	nonce := make([]byte, 8)
	a.environment(l, telemetry.New(version()), def, nil).Random(nonce)
	place := savepoint.Place{Store: def.Store, Pipeline: def.ID, Name: im.name}
	if err := place.Copy(ctx, fmt.Sprintf("%x", nonce), s); err != nil {
		return inSavepoint(im.path, err)
	}
	_, err = fmt.Fprintf(im.out, "savepoint %s is there: checkpoint %d of pipeline %s, %d objects, %d bytes\n", im.name, s.Checkpoint, s.Pipeline, len(s.Objects), s.Bytes())
	return err
}
