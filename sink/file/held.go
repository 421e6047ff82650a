package file

import "github.com/ingestd/ingestd/sink"

var _ sink.Holder = (*Plugin)(nil)

// Held counts the rows of files in progress.
func (p *Plugin) Held(data []byte) (int64, error) {
	s, err := readState("sink/file.Held", data)
	var rows int64
	for i := range s.Files {
		rows += s.Files[i].Rows
	}
	return rows, err
}
