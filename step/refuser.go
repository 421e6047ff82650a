package step

import (
	"fmt"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/internal/invariant"
	"github.com/ingestd/ingestd/record"
)

// refuser takes the rows that a step refuses or filters out of a batch. A bound step has its own.
type refuser struct {
	step    string
	rows    int
	out     []bool // rows that leave the batch
	leaving int
	reasons []record.Refusal
	kept    []uint32
}

// begin starts on a batch.
func (r *refuser) begin(b *record.Batch) {
	r.rows, r.leaving, r.reasons = b.Rows, 0, r.reasons[:0]
	r.out = append(r.out[:0], make([]bool, b.Rows)...)
}

// refuse makes a row a dead letter; of several reasons for a row the first counts.
func (r *refuser) refuse(row int, column, reason string) {
	if r.out[row] {
		return
	}
	r.out[row] = true
	r.leaving++
	r.reasons = append(r.reasons, record.Refusal{Row: row, Reason: reason, Column: column, Byte: -1})
}

// drop filters a row out.
func (r *refuser) drop(row int) {
	r.out[row] = true
	r.leaving++
}

// end takes the rows out of the batch and counts them.
func (r *refuser) end(b *record.Batch, res *Result) {
	if r.leaving == 0 {
		return
	}
	for _, refusal := range r.reasons {
		res.Refused = append(res.Refused, b.Letter(refusal.Row, "step:"+r.step, refusal))
	}
	r.kept = r.kept[:0]
	for row, out := range r.out {
		if !out {
			r.kept = append(r.kept, uint32(row))
		}
	}
	b.Keep(r.kept)
	filtered := r.leaving - len(r.reasons)
	res.Filtered += int64(filtered)
	invariant.Check("I12", r.rows == b.Rows+filtered+len(r.reasons),
		"step", r.step, "in", r.rows, "passed", b.Rows, "filtered", filtered, "refused", len(r.reasons))
}

func misconfigured(step string, err error) error {
	return fault.E(fault.Op("step:"+step), fault.Misconfigured, fmt.Errorf("%w", err))
}
