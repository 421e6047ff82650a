package config

import "time"

// Daemon holds the settings of the [daemon] table.
type Daemon struct {
	// DataDir is where the daemon keeps what belongs to this machine; one daemon at a time can use it.
	DataDir string `config:"data_dir"`
	// Listen is the host:port of metrics and health; empty: none.
	Listen string `config:"listen"`
	// Log says how to log.
	Log Log `config:"log"`
	// ShutdownTimeout bounds the final checkpoint and its commits.
	ShutdownTimeout time.Duration `config:"shutdown_timeout"`
	// MemoryLimit bounds the data in flight; 0: derived from the memory that the control group or the machine has.
	MemoryLimit Bytes `config:"memory_limit"`
	// StallAfter is how long something may make no progress, with input waiting, before it is called stalled.
	StallAfter time.Duration `config:"stall_after"`
}

// Log holds the settings of the [daemon.log] table.
type Log struct {
	// Format is auto, text or json; auto is text on a terminal and json otherwise.
	Format string `config:"format"`
	// Level is debug, info, warn or error.
	Level string `config:"level"`
}

// Daemon returns the settings of [daemon], with the defaults for what is absent. Errors go to [File.Err].
func (f *File) Daemon() Daemon {
	var daemon Daemon
	n := f.root.get("daemon")
	if n == nil {
		n = newTable(originValue, 0)
	}
	d := decoding{file: f, ok: true}
	if d.form(n, "daemon", &Key{Kind: KindTable}, formTable) {
		s := Section{file: f, node: n, path: "daemon"}
		s.Decode(daemonSpec(), &daemon)
	}
	return daemon
}

func daemonSpec() Spec {
	return Spec{
		Doc: "What belongs to the process as a whole.",
		Keys: []Key{
			{
				Name: "data_dir", Kind: KindString, Min: "1", Default: "/var/lib/ingestd",
				Doc: "The directory for what belongs to this machine. It is locked: two daemons can't share it.",
			},
			{
				Name: "listen", Kind: KindString, Default: "127.0.0.1:9464",
				Doc: "The host:port at which /metrics, /livez and /readyz are served, and savepoints are asked for by the command on the same machine. An empty string serves nothing.",
			},
			{
				Name: "log", Kind: KindTable, Doc: "How the daemon logs, to standard error.",
				Table: &Spec{Keys: []Key{
					{
						Name: "format", Kind: KindEnum, Enum: []string{"auto", "text", "json"}, Default: "auto",
						Doc: "auto is text on a terminal and json otherwise.",
					},
					{
						Name: "level", Kind: KindEnum, Enum: []string{"debug", "info", "warn", "error"}, Default: "info",
						Doc: "The least severe level that is logged.",
					},
				}},
			},
			{
				Name: "shutdown_timeout", Kind: KindDuration, Min: "1s", Max: "24h", Default: "30s",
				Doc: "How long the last checkpoint and its commits may take after SIGTERM. What is still pending then is finished by the next start.",
			},
			{
				Name: "memory_limit", Kind: KindBytes, Default: "0B", Example: "2GiB",
				Doc: "The memory for data in flight, over all pipelines. 0B means: derived from the memory that the control group or the machine has.",
			},
			{
				Name: "stall_after", Kind: KindDuration, Min: "1s", Max: "24h", Default: "30s",
				Doc: "How long a split, a task or a sink may make no progress, with input waiting, before it is named in the log, a metric and /readyz.",
			},
		},
	}
}
