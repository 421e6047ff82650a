package codec

import (
	"github.com/ingestd/ingestd/record"
)

// FileEncoder is an [EncoderFactory] whose forms can stand in a file one after the other. Sinks that write files take no other.
type FileEncoder interface {
	EncoderFactory
	// FileFormat says how they stand there. The error is fault.Misconfigured: with these settings they can't.
	FileFormat() (FileFormat, error)
	// FileHeader returns what stands at the beginning of each file, with its end; nil for nothing.
	FileHeader(schema *record.Schema) []byte
}

// FileFormat is how forms stand in a file.
type FileFormat struct {
	// Extension ends the file's name, with its point: ".csv".
	Extension string
	// End follows each form.
	End string
	// Quoted says that readers find the end of a form also when it holds End. Otherwise such a form must be refused.
	Quoted bool
	// Identity tells formats apart: a file is gone on with only under the one that it was begun with. It is never empty.
	Identity string
}
