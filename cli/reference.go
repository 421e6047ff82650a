package cli

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/ingestd/ingestd/config"
	"github.com/ingestd/ingestd/internal/telemetry"
)

// referenceCommand writes the pages and the example that are generated from the code.
func (a *app) referenceCommand() *cobra.Command {
	return &cobra.Command{
		Use: "reference DIR", Short: "Write the reference pages of this build into a folder", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			reg := a.plugins.registry()
			connectors, err := a.connectorsPage(filepath.Join(args[0], "examples"))
			if err != nil {
				return err
			}
			for name, data := range map[string][]byte{
				"config.example.toml": config.Example(reg, exampleActive),
				"docs/config.md":      config.Reference(reg),
				"docs/metrics.md":     telemetry.Reference(),
				"docs/exit-codes.md":  exitReference(),
				"docs/connectors.md":  connectors,
			} {
				if err := os.WriteFile(filepath.Join(args[0], name), data, 0o644); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// exampleActive is the part of config.example.toml that works as it is.
const exampleActive = `
[daemon]
data_dir = "/var/lib/ingestd"
listen = "127.0.0.1:9464"

[pipeline.orders]
delivery = "exactly-once"

[pipeline.orders.source]
type = "kafka"
brokers = ["127.0.0.1:9092"]
topics = ["orders"]

[pipeline.orders.decode]
type = "json"

[pipeline.orders.sink]
type = "clickhouse"
addr = ["127.0.0.1:9000"]
database = "shop"
table = "orders"
user = "ingestd"
password = "${env:CLICKHOUSE_PASSWORD}"

[pipeline.orders.dead_letter]
type = "file"
path = "/var/lib/ingestd/dead-letters"
max_ratio = 0.01
`
