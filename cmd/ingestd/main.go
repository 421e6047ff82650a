// Command ingestd is the daemon with the plugins of this repository.
package main

import (
	"os"

	"github.com/ingestd/ingestd/cli"
	"github.com/ingestd/ingestd/plugins"
)

//go:generate go run . reference ../..

func main() {
	os.Exit(cli.Main(plugins.All()))
}
