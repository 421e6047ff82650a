package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/ingestd/ingestd/sink"
)

// registryTries bounds how often a number is tried for; two pipelines that start at the same time take a few.
const registryTries = 20

var errNumber = errors.New("no number could be registered")

// owner is a condition on the rows of the own identity in the registry.
func owner(id sink.Identity) string { return key(id) + " AND store = " + literal(id.StoreID) }

// register finds or takes the number of this store, pipeline, lane and sink.
//
// A number belongs to an identity whose row is the only one with it. Who inserts a row and reads another's beside it takes
// another number, so that of two that insert the same one at most the earlier keeps it, and only if it read before the later
// one wrote. A number is used only after a manifest holds it, and from then on the manifest decides: see registered.
func (s *Sink) register(ctx context.Context, c *conn) (uint64, error) {
	name := tableName{s.settings.Database, registryTable}
	if err := c.ensure(ctx, name, createRegistry(s.settings.Database)); err != nil {
		return 0, err
	}
	id := s.env.Identity
	for range registryTries {
		mine, err := c.query(ctx, "SELECT toString(number) FROM "+name.String()+" GROUP BY number HAVING countIf("+owner(id)+
			") = count() ORDER BY number LIMIT 1", 1)
		if err != nil {
			return 0, err
		}
		if len(mine) == 1 {
			return parseUint(mine[0][0])
		}
		highest, err := c.number(ctx, "SELECT toString(max(number)) FROM "+name.String())
		if err != nil {
			return 0, err
		}
		const spread = 4 // so that two that collide do not collide for ever
		number := uint64(highest) + 1 + rand.Uint64N(spread)
		if number > numberMax {
			return 0, fmt.Errorf("%w: %d are taken", errNumber, highest)
		}
		err = c.exec(ctx, fmt.Sprintf("INSERT INTO %s (number, store, pipeline, lane, sink) SELECT %d, %s, %s, %d, %s",
			name, number, literal(id.StoreID), literal(id.Pipeline), id.Lane, literal(id.Sink)), synchronous())
		if err != nil {
			return 0, err
		}
	}
	return 0, fmt.Errorf("%w after %d tries", errNumber, registryTries)
}

// registered returns the number that the manifest holds, if the registry still has it as ours.
func (s *Sink) registered(ctx context.Context, c *conn, number uint64) (uint64, error) {
	found, err := c.number(ctx, "SELECT toString(count()) FROM "+tableName{s.settings.Database, registryTable}.String()+
		" WHERE number = "+strconv.FormatUint(number, 10)+" AND "+owner(s.env.Identity))
	if err != nil {
		return 0, err
	}
	if found == 0 {
		return 0, fmt.Errorf("%w: %s does not hold number %d of this pipeline any more; it was changed, or this is another database",
			errNumber, registryTable, number)
	}
	return number, nil
}

// sortedKeys lists a map's keys in order.
func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
