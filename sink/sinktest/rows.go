package sinktest

import (
	"fmt"
	"strconv"

	"github.com/ingestd/ingestd/record"
)

// Schema returns the schema of the suite's batches: id, an int64, and text, a string.
func Schema() *record.Schema {
	return &record.Schema{Fields: []record.Field{
		{Name: "id", Type: record.Type{Kind: record.Int64}},
		{Name: "text", Type: record.Type{Kind: record.String}},
	}}
}

// text is what a row of the suite holds besides its ID.
func text(id int64) string { return "row " + strconv.FormatInt(id*7919, 10) + " \"ü\"\n" }

// split is where the suite's rows come from.
const split = "suite/0"

// raw is the record that a row of the suite was decoded from.
func raw(r Row) []byte { return fmt.Appendf(nil, "raw record %d", r.ID) }

// batch returns rows as a batch of Schema with their provenance.
func batch(rows []Row) *record.Batch {
	b := record.NewBatch(Schema())
	b.Meta.Split, b.Meta.Topic, b.Meta.Partition = split, "suite", 0
	for _, r := range rows {
		b.Cols[0].AppendInt(r.ID)
		b.Cols[1].AppendString(r.Text)
		b.AppendMeta(record.RowMeta{Offset: record.Offset(r.ID), Timestamp: 1_700_000_000_000 + r.ID, Value: raw(r)})
	}
	return b
}

// letterBatch returns rows as dead letters.
func letterBatch(rows []Row) *record.Batch {
	b := record.NewBatch(record.DeadLetterSchema())
	for _, r := range rows {
		record.AppendDeadLetter(b, record.DeadLetter{
			Split: split, Topic: "suite", Offset: record.Offset(r.ID), Timestamp: -1, Value: []byte(r.Text), Stage: "decode", Reason: "a test", Byte: -1,
		})
	}
	return b
}

// scribble overwrites everything that a batch holds: a sink that kept a reference shows it.
func scribble(b *record.Batch) {
	for i := range b.Cols {
		fill(b.Cols[i].Fixed)
		fill(b.Cols[i].Bytes)
	}
	for i := range b.Meta.Values {
		fill(b.Meta.Values[i])
	}
	clear(b.Meta.Offsets)
	b.Reset()
}

func fill(b []byte) {
	for i := range b {
		b[i] = 'X'
	}
}
