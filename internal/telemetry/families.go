// Package telemetry is what the daemon shows of itself: Prometheus metrics, kept in one table from which docs/metrics.md is
// generated, and the liveness and readiness pages.
package telemetry

import (
	"bytes"
	"fmt"
	"strings"
)

type kind string

const (
	counter   kind = "counter"
	gauge     kind = "gauge"
	histogram kind = "histogram"
)

// family is one metric with all that a reader of the reference needs.
type family struct {
	name   string
	kind   kind
	labels []string
	help   string
}

// The names of the families, without the prefix.
const (
	buildInfo          = "build_info"
	guaranteeInfo      = "guarantee_info"
	pipelineState      = "pipeline_state"
	pipelineRestarts   = "pipeline_restarts_total"
	recordsRead        = "source_records_total"
	bytesRead          = "source_bytes_total"
	lagRecords         = "source_lag_records"
	lagSeconds         = "source_lag_seconds"
	skippedOffsets     = "source_skipped_offsets_total"
	mirrorErrors       = "source_group_mirror_errors_total"
	stageRecords       = "stage_records_total"
	deadLetters        = "dead_letter_records_total"
	sinkRows           = "sink_prepared_rows_total"
	sinkOutcomes       = "sink_commit_outcomes_total"
	checkpoints        = "checkpoints_total"
	checkpointDuration = "checkpoint_duration_seconds"
	lastCommitted      = "checkpoint_last_committed_timestamp_seconds"
	pendingCheckpoints = "checkpoint_pending"
	memoryBudget       = "memory_budget_bytes"
	memoryUsed         = "memory_used_bytes"
	stateChanged       = "state_changed_bytes"
	stateStored        = "state_stored_bytes"
	watermark          = "watermark_timestamp_seconds"
	stalled            = "stalled"
	stalledSeconds     = "stalled_seconds"
)

// families lists every metric in the order of the reference.
func families() []family {
	p := []string{"pipeline"}
	with := func(labels ...string) []string { return append([]string{"pipeline"}, labels...) }
	return []family{
		{buildInfo, gauge, []string{"version", "go_version"}, "Always 1; the labels name the build."},
		{guaranteeInfo, gauge, with("guarantee"), "Always 1; the label is the guarantee that was derived at the start."},
		{pipelineState, gauge, with("state"), "1 for the state that the pipeline is in, 0 for the others."},
		{pipelineRestarts, counter, with("reason"), "Times that the pipeline went on by the recovery path."},
		{recordsRead, counter, p, "Records that were read from the source."},
		{bytesRead, counter, p, "Bytes of keys and values that were read from the source."},
		{lagRecords, gauge, with("split"), "Records between a split's position and its end, as last seen; -1 unknown."},
		{lagSeconds, gauge, with("split"), "Age of the next record that was not read, 0 at the end; -1 unknown."},
		{skippedOffsets, counter, p, "Offsets passed over, as on_loss = \"skip\" says, because their records were gone before they were read."},
		{mirrorErrors, counter, p, "Failures to mirror the positions into the consumer group for lag tools."},
		{stageRecords, counter, with("stage", "result"), "Records by stage and by what became of them: passed, filtered, refused; at keyed steps also deduplicated, absorbed (into state), late (dropped), made (by the step)."},
		{deadLetters, counter, with("stage"), "Records that became dead letters, by the stage that refused them."},
		{sinkRows, counter, with("sink"), "Rows that were prepared for a sink; after a crash the same row is prepared again."},
		{sinkOutcomes, counter, with("sink", "outcome"), "Answers of a sink to a commit."},
		{checkpoints, counter, with("result"), "Checkpoints by result: published, empty (nothing to say), aborted, unknown (sent when the run ended; the next one reads the answer)."},
		{checkpointDuration, histogram, with("phase"), "Seconds of a checkpoint's phases: prepare (each task), state (what it changed in keyed state is stored), publish (the manifest), apply (to the local database), commit (each unit of each sink), total (from the barrier until every sink has committed)."},
		{lastCommitted, gauge, p, "Unix time up to which all that was read is committed by every sink, as the newest checkpoint says."},
		{pendingCheckpoints, gauge, with("sink"), "Committables that are decided and not known Committed."},
		{memoryBudget, gauge, nil, "Bytes that records in flight may take."},
		{memoryUsed, gauge, nil, "Bytes that records in flight take."},
		{stateChanged, gauge, p, "Memory of changes to keyed state that are not in the local database yet."},
		{stateStored, gauge, p, "Bytes of the objects in the checkpoint store that keyed state is made of: what a restore on a new disk reads at most."},
		{watermark, gauge, p, "Unix time up to which event time is known to have come."},
		{stalled, gauge, p, "1 while something of the pipeline has work and makes no progress for stall_after."},
		{stalledSeconds, gauge, with("by"), "For how long what the label names (split, task, sink, source or checkpoint store) makes no progress; only while it is stalled."},
	}
}

// Reference returns docs/metrics.md.
func Reference() []byte {
	var b bytes.Buffer
	b.WriteString("# Metrics\n\n<!-- Generated by `make generate` from internal/telemetry. -->\n\n")
	b.WriteString("`GET /metrics` on `daemon.listen`, in the Prometheus text format. Base units; counters end in `_total`.\n\n")
	b.WriteString("| metric | type | labels | meaning |\n|---|---|---|---|\n")
	for _, f := range families() {
		labels := "–"
		if len(f.labels) > 0 {
			labels = "`" + strings.Join(f.labels, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `ingestd_%s` | %s | %s | %s |\n", f.name, f.kind, labels, f.help)
	}
	b.WriteString("\nThe usual `go_*` and `process_*` metrics are there too.\n")
	return b.Bytes()
}
