package filestore

import "github.com/ingestd/ingestd/config"

// Settings is what the checkpoint section says for this store.
type Settings struct {
	// Path is the directory; empty: "checkpoints" in the daemon's data directory.
	Path string `config:"path"`
}

// Spec describes the keys of this store in the checkpoint section.
func Spec() config.Spec {
	return config.Spec{
		Type: "file",
		Doc:  "Checkpoints in a directory of this machine, or of a file system with hard links and fsync.",
		Keys: []config.Key{{
			Name: "path", Kind: config.KindString, Example: "/var/lib/ingestd/checkpoints",
			Doc: "The directory. By default checkpoints in daemon.data_dir. It must survive what the sinks survive: it holds the positions.",
		}},
	}
}
