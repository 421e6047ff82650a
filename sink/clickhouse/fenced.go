//go:build !nofence

package clickhouse

import "fmt"

// fenced is the condition that the highest fence row is still this run's.
func (in *insertion) fenced() string {
	return fmt.Sprintf("throwIf((SELECT max((lease, attempt, nonce)) FROM %s WHERE %s) != (toUInt64(%d), toUInt64(%d), %s), %s) = 0",
		in.table.sibling(fenceTable), key(in.id), in.fence.lease, in.fence.attempt, literal(in.fence.nonce), literal(fenceMarker))
}
