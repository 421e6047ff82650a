package clickhouse

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go"

	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/sink"
)

// fenceMarker is in the text of the exception that a fenced insert ends with, and in no other.
const fenceMarker = "ingestd: the fence row is not this run's"

// fenceRow is what a fence row says beside its key. Rows are compared as (lease, attempt, nonce), the highest counts.
type fenceRow struct {
	lease   record.Lease
	attempt uint64
	nonce   string // of the run
	store   string // store ID
}

// createFence makes the table of fence rows. It is fsynced whatever the target is: a fence that a power loss takes away lets
// an old run in again.
func createFence(database string) string {
	return "CREATE TABLE IF NOT EXISTS " + tableName{database, fenceTable}.String() +
		" (pipeline String, lane UInt32, sink String, lease UInt64, attempt UInt64, nonce String, store String, time DateTime DEFAULT now())" +
		" ENGINE = MergeTree ORDER BY (pipeline, lane, sink, lease, attempt)" +
		" SETTINGS fsync_after_insert = 1, fsync_part_directory = 1"
}

// createRegistry makes the table of numbers.
func createRegistry(database string) string {
	return "CREATE TABLE IF NOT EXISTS " + tableName{database, registryTable}.String() +
		" (number UInt32, store String, pipeline String, lane UInt32, sink String, time DateTime DEFAULT now())" +
		" ENGINE = MergeTree ORDER BY number" +
		" SETTINGS fsync_after_insert = 1, fsync_part_directory = 1"
}

// addProvenance gives a table the provenance column and its index. Materializing the index of old parts is not needed: their
// rows have 0, which is no block.
func addProvenance(name tableName) string {
	return "ALTER TABLE " + name.String() + " ADD COLUMN IF NOT EXISTS " + provenanceColumn + " UInt64 CODEC(T64, ZSTD(1)), " +
		"ADD INDEX IF NOT EXISTS " + provenanceIndex + " " + provenanceColumn + " TYPE minmax GRANULARITY 1"
}

// key is the condition on the rows of one pipeline, lane and sink, in both tables.
func key(id sink.Identity) string {
	return "pipeline = " + literal(id.Pipeline) + " AND lane = " + strconv.FormatUint(uint64(id.Lane), 10) + " AND sink = " + literal(id.Sink)
}

// selectFence reads the highest fence row.
func selectFence(database string, id sink.Identity) string {
	return "SELECT toString(lease), toString(attempt), nonce, store FROM " + tableName{database, fenceTable}.String() +
		" WHERE " + key(id) + " ORDER BY lease DESC, attempt DESC, nonce DESC LIMIT 1"
}

// insertFence writes a fence row. Writing the same row twice changes nothing.
func insertFence(database string, id sink.Identity, row fenceRow) string {
	return fmt.Sprintf("INSERT INTO %s (pipeline, lane, sink, lease, attempt, nonce, store) SELECT %s, %d, %s, %d, %d, %s, %s",
		tableName{database, fenceTable}, literal(id.Pipeline), id.Lane, literal(id.Sink), row.lease, row.attempt, literal(row.nonce), literal(row.store))
}

// insertion is what an insert statement is made of.
type insertion struct {
	table   tableName
	columns []wireColumn
	// block is the unit's value of the provenance column; 0 leaves the column out.
	block uint64
	fence fenceRow
	id    sink.Identity
	// partitionKey with missingOnly keeps only the rows of partitions in which the block is not yet.
	partitionKey string
	missingOnly  bool
}

// statement builds the insert of a unit. The rows come through input(), so that a condition can be put on them. The fence is
// read when the statement starts, and compared when the first rows come, before any of them is written.
func (in *insertion) statement() string {
	var b strings.Builder
	b.WriteString(in.unconditional() + " WHERE " + in.fenced())
	if in.missingOnly {
		b.WriteString(" AND " + in.missing())
	}
	b.WriteString(" FORMAT Native")
	return b.String()
}

// plain is an insert without a condition, for the throw-away table.
func (in *insertion) plain() string { return in.unconditional() + " FORMAT Native" }

func (in *insertion) unconditional() string {
	names := make([]string, 0, len(in.columns)+1)
	types := make([]string, 0, len(in.columns)+1)
	for _, c := range in.columns {
		names = append(names, identifier(c.Name))
		types = append(types, identifier(c.Name)+" "+c.Type)
	}
	if in.block != 0 {
		names = append(names, provenanceColumn)
		types = append(types, provenanceColumn+" UInt64")
	}
	list := strings.Join(names, ", ")
	return "INSERT INTO " + in.table.String() + " (" + list + ") SELECT " + list + " FROM input(" + literal(strings.Join(types, ", ")) + ")"
}

// missing keeps the rows of partitions that do not hold the block. Each partition of a block is one part, which appears whole
// or not at all, so one row of it tells that all are there.
func (in *insertion) missing() string {
	held := " FROM " + in.table.String() + " WHERE " + provenanceColumn + " = " + strconv.FormatUint(in.block, 10)
	if in.partitionKey == "" {
		return "(SELECT count()" + held + ") = 0"
	}
	return "(" + in.partitionKey + ") NOT IN (SELECT " + in.partitionKey + held + ")"
}

// countBlock counts a block's rows in the table.
func countBlock(name tableName, block uint64) string {
	return "SELECT toString(count()) FROM " + name.String() + " WHERE " + provenanceColumn + " = " + strconv.FormatUint(block, 10)
}

// countBlocks counts the rows of a range of blocks: from from, below to.
func countBlocks(name tableName, from, to uint64) string {
	return "SELECT toString(count()) FROM " + name.String() + " WHERE " + provenanceColumn + " >= " + strconv.FormatUint(from, 10) +
		" AND " + provenanceColumn + " < " + strconv.FormatUint(to, 10)
}

// queryPrefix begins the query_id of every insert of a pipeline, lane and sink into a database. A server has each query_id once
// at a time, so a pipeline of the same name that writes to another database has another prefix. The names are escaped so that
// the number of slashes is fixed.
func queryPrefix(database string, id sink.Identity) string {
	return "ingestd/" + url.PathEscape(id.Pipeline) + "/" + strconv.FormatUint(uint64(id.Lane), 10) + "/" + url.PathEscape(id.Sink) +
		"/" + url.PathEscape(database) + "/"
}

// queryID names one attempt of a unit under the lease that makes it.
func queryID(database string, id sink.Identity, lease record.Lease, c *sink.Committable, attempt uint64) string {
	return fmt.Sprintf("%s%d/%d/%d/%d", queryPrefix(database, id), lease, c.Checkpoint, c.Unit, attempt)
}

// leaseField is where the lease stands in a query_id that is split at its slashes, counted from 1.
const leaseField = 6

// running is the condition on the inserts of all leases up to ours into tables of this database. Another database has another
// fence: what has the same names there is another pipeline's.
func running(database string, id sink.Identity, lease record.Lease) string {
	return fmt.Sprintf("startsWith(query_id, %s) AND toUInt64OrZero(splitByChar('/', query_id)[%d]) <= %d AND current_database = %s",
		literal(queryPrefix(database, id)), leaseField, lease, literal(database))
}

// killRunning ends them, and waits for it.
func killRunning(database string, id sink.Identity, lease record.Lease) string {
	return "KILL QUERY WHERE " + running(database, id, lease) + " SYNC"
}

// countRunning counts those that the server still has.
func countRunning(database string, id sink.Identity, lease record.Lease) string {
	return "SELECT toString(count()) FROM system.processes WHERE " + running(database, id, lease)
}

// lookSettings make every query answer with all that is there now. A profile of the server could have set them otherwise, and
// cut an answer short, or make one of nothing, without an error.
func lookSettings() []ch.Setting {
	return []ch.Setting{
		{Key: "limit", Value: "0"},
		{Key: "offset", Value: "0"},
		{Key: "additional_result_filter", Value: ""},
		{Key: "additional_table_filters", Value: "{}"},
		{Key: "timeout_overflow_mode", Value: "throw"},
		{Key: "read_overflow_mode", Value: "throw"},
		{Key: "read_overflow_mode_leaf", Value: "throw"},
		{Key: "result_overflow_mode", Value: "throw"},
		{Key: "set_overflow_mode", Value: "throw"},
		{Key: "use_query_cache", Value: "0"},
		{Key: "partial_result_on_first_cancel", Value: "0"},
		// max() and count() of no rows are 0, not nothing and not NULL, which would make conditions NULL.
		{Key: "empty_result_for_aggregation_by_empty_set", Value: "0"},
		{Key: "aggregate_functions_null_for_empty", Value: "0"},
		// Rows that a lightweight DELETE has hidden are still the block's.
		{Key: "apply_deleted_mask", Value: "0"},
		// Without it NULL NOT IN (…) is NULL, and the rows of that partition are lost.
		{Key: "transform_null_in", Value: "1"},
	}
}

// insertSettings are what the protocol depends on. Each is sent if the server has it.
func insertSettings(s *Settings) []ch.Setting {
	seconds := func(d time.Duration) string { return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10) }
	return append(lookSettings(), []ch.Setting{
		// The reply must mean that the rows are in the table.
		{Key: "async_insert", Value: "0"},
		// The server's own deduplication loses blocks when it dies between its log and the rename of the part.
		{Key: "deduplicate_insert", Value: "disable"},
		{Key: "deduplicate_insert_select", Value: "disable"},
		{Key: "insert_deduplicate", Value: "0"},
		// A client that stops in the midst of a block holds up KILL … SYNC for this long.
		{Key: "receive_timeout", Value: seconds(s.ReceiveTimeout)},
		{Key: "poll_interval", Value: "1"},
		{Key: "max_execution_time", Value: seconds(s.InsertTimeout)},
		// One block of the protocol is one block of the insert.
		{Key: "use_strict_insert_block_limits", Value: "0"},
		// Too many partitions must be an error, before any of them is written.
		{Key: "throw_on_max_partitions_per_insert_block", Value: "1"},
	}...)
}

// settingNames lists what insertSettings may send.
func settingNames(list []ch.Setting) []string {
	names := make([]string, len(list))
	for i := range list {
		names[i] = list[i].Key
	}
	return names
}

// present keeps the settings that the server has.
func present(list []ch.Setting, have map[string]setting) []ch.Setting {
	return slices.DeleteFunc(slices.Clone(list), func(s ch.Setting) bool {
		_, ok := have[s.Key]
		return !ok
	})
}
