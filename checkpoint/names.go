package checkpoint

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

// StoreName is the object with the store's ID.
const StoreName = "store"

// What lies in a pipeline's folder. The name plan is reserved.
const (
	folderLog      = "log"
	folderStaging  = "staging"
	objectPipeline = "pipeline"
)

const (
	// seqDigits let a log be listed in order of its numbers; at ten entries a second they last for 30 million years.
	seqDigits = 16
	// seqMax is the highest number that has seqDigits digits.
	seqMax = 9_999_999_999_999_999
	// nameBytesMax is S3's bound for a key, less room for a bucket's prefix.
	nameBytesMax = 768
	// elementBytesMax is below the 255 bytes of common file systems.
	elementBytesMax = 200
	// pipelineIDBytesMax leaves room for what is made from the ID: transactional ids, topic and table names.
	pipelineIDBytesMax = 100
)

// CheckName reports, as fault.Misconfigured, why name can't be an object's name in any [Store]: names are slash-separated
// relative paths of at most 768 bytes whose elements are 1 to 200 bytes of [a-zA-Z0-9._-], and neither "." nor "..".
func CheckName(name string) error {
	if err := checkName(name); err != nil {
		return fault.E("checkpoint.CheckName", fault.Misconfigured, err)
	}
	return nil
}

func checkName(name string) error {
	if len(name) > nameBytesMax {
		return fmt.Errorf("object name of %d bytes, at most %d are possible", len(name), nameBytesMax)
	}
	for element := range strings.SplitSeq(name, "/") {
		if err := checkElement(element); err != nil {
			return fmt.Errorf("object name %q: %w", name, err)
		}
	}
	return nil
}

func checkElement(element string) error {
	switch {
	case element == "" || element == "." || element == "..":
		return fmt.Errorf("element %q", element)
	case len(element) > elementBytesMax:
		return fmt.Errorf("element of %d bytes, at most %d are possible", len(element), elementBytesMax)
	}
	for i := range len(element) {
		if !nameByte(element[i]) {
			return fmt.Errorf("element %q, want only [a-zA-Z0-9._-]", element)
		}
	}
	return nil
}

func nameByte(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '.' || b == '_' || b == '-'
}

// CheckPipelineID reports, as fault.Misconfigured, why id can't be a pipeline's ID: IDs are 1 to 100 bytes of [a-zA-Z0-9._-],
// begin with a letter or digit, and are not "store".
func CheckPipelineID(id string) error {
	if err := checkPipelineID(id); err != nil {
		return fault.E("checkpoint.CheckPipelineID", fault.Misconfigured, err)
	}
	return nil
}

func checkPipelineID(id string) error {
	switch {
	case id == "":
		return errors.New("no pipeline ID")
	case len(id) > pipelineIDBytesMax:
		return fmt.Errorf("pipeline ID of %d bytes, at most %d are possible", len(id), pipelineIDBytesMax)
	case id == StoreName:
		return fmt.Errorf("pipeline ID %q is the name of the store's own object", id)
	case strings.IndexByte("._-", id[0]) >= 0:
		return fmt.Errorf("pipeline ID %q, want a letter or digit at its begin", id)
	}
	for i := range len(id) {
		if !nameByte(id[i]) {
			return fmt.Errorf("pipeline ID %q, want only [a-zA-Z0-9._-]", id)
		}
	}
	return nil
}

// PipelineName returns the name of the object that says what a pipeline's folder is.
func PipelineName(pipeline string) string { return pipeline + "/" + objectPipeline }

// LogPrefix returns what the names of a lane's log entries begin with.
func LogPrefix(pipeline string, lane record.Lane) string {
	return fmt.Sprintf("%s/%s/%d/", pipeline, folderLog, lane)
}

// EntryName returns the name of entry seq, 1 <= seq < 10^16, of a lane's log. The order of names is the order of numbers.
func EntryName(pipeline string, lane record.Lane, seq Seq) string {
	return fmt.Sprintf("%s%0*d", LogPrefix(pipeline, lane), seqDigits, uint64(seq))
}

// ParseEntry returns the number of the log entry called name, as [EntryName] made it for the same pipeline and lane. Every
// other name is fault.Corrupt: it has no place in a log.
func ParseEntry(pipeline string, lane record.Lane, name string) (Seq, error) {
	text, ok := strings.CutPrefix(name, LogPrefix(pipeline, lane))
	n, err := strconv.ParseUint(text, 10, 64)
	if !ok || err != nil || n == 0 || n > seqMax || EntryName(pipeline, lane, Seq(n)) != name {
		return 0, fault.E("checkpoint.ParseEntry", fault.Corrupt, fmt.Errorf("object %q has no place in the log %q", name, LogPrefix(pipeline, lane)))
	}
	return Seq(n), nil
}

// ObjectName returns the full name of an object of a pipeline from the name that manifests and [sink.Segment] use, which is
// relative to the pipeline's folder.
func ObjectName(pipeline, relative string) string { return pipeline + "/" + relative }

// stagingPrefix returns what the full names of a lane's segments begin with.
func stagingPrefix(pipeline string, lane record.Lane) string {
	return fmt.Sprintf("%s/%s/%d/", pipeline, folderStaging, lane)
}

// SegmentName returns the name, relative to the pipeline's folder, of the n-th segment of a lease, n >= 1.
func SegmentName(lane record.Lane, lease record.Lease, n uint64) string {
	return fmt.Sprintf("%s/%d/%d/%0*d", folderStaging, lane, lease, seqDigits, n)
}

// parseSegment returns lane and lease of a segment's name, relative to the pipeline's folder: "staging/LANE/LEASE/NAME".
func parseSegment(name string) (record.Lane, record.Lease, error) {
	elements := strings.Split(name, "/")
	if err := checkName(name); err != nil || len(elements) != 4 || elements[0] != folderStaging {
		return 0, 0, fmt.Errorf("%q is no segment's name, want staging/LANE/LEASE/NAME", name)
	}
	lane, laneOK := parseNumber(elements[1])
	lease, leaseOK := parseNumber(elements[2])
	if !laneOK || !leaseOK || lane > math.MaxUint32 || lease == 0 {
		return 0, 0, fmt.Errorf("segment %q names no lane or no lease", name)
	}
	return record.Lane(lane), record.Lease(lease), nil
}
