// Command customstep is ingestd with one more keyed step: number.
package main

import (
	"os"

	"github.com/ingestd/ingestd/cli"
	"github.com/ingestd/ingestd/plugins"
)

func main() {
	os.Exit(cli.Main(all()))
}

// all lists the plugins of ingestd and the step of this program.
func all() cli.Plugins {
	p := plugins.All()
	p.Keyed = append(p.Keyed, cli.New(numberSpec(), newNumber))
	return p
}
