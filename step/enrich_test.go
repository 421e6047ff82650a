package step

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
	"github.com/ingestd/ingestd/state"
)

func usersTable(t *testing.T) *record.Schema {
	t.Helper()
	return schema(t, "name", "string", "id", "int64", "tags", "array(string)", "level", "nullable(int8)")
}

// update sends rows of the table to the tasks that own their keys.
func (r *rig) update(table *record.Batch, key int, deleted func(row int) bool) {
	r.t.Helper()
	for i := range r.tasks {
		part := record.NewBatch(table.Schema)
		var keys state.Keys
		var gone []bool
		for row := range table.Rows {
			k := state.AppendKey(nil, table, []int{key}, row)
			group := state.GroupOf(k, r.groups)
			if int(group)%len(r.tasks) != i {
				continue
			}
			for c := range part.Cols {
				part.Cols[c].AppendFrom(&table.Cols[c], row)
			}
			part.AppendMeta(record.RowMeta{})
			keys.Append(k, group)
			gone = append(gone, deleted(row))
		}
		op, ok := r.ops[i].(TableOperator)
		if !ok {
			r.t.Fatal("the operator keeps no table")
		}
		op.Update(part, &keys, func(row int) bool { return gone[row] })
	}
}

// TestEnrich_agreesWithModel mixes updates of the table with rows, over checkpoints and other numbers of tasks.
func TestEnrich_agreesWithModel(t *testing.T) {
	for _, missing := range []Missing{MissingNull, MissingDeadLetter} {
		for seed := range uint64(10) {
			random := rand.New(rand.NewPCG(seed, 6))
			in, table := schema(t, "user", "nullable(int32)", "v", "int8"), usersTable(t)
			step := &Enrich{
				ID: "users", Key: []string{"user"}, Table: table, TableKey: []string{"id"}, Missing: missing,
				Columns: []EnrichColumn{{"tags", "tags"}, {"user_name", "name"}, {"level", "level"}},
			}
			r := newRig(t, step, in, 8)
			r.open(2)
			model := map[int]string{}
			var got, want []string
			refused := 0
			for range 60 {
				rows, updates := []string{}, []string{}
				gone := map[int]bool{}
				for i := range random.IntN(6) {
					id, n := random.IntN(10), random.IntN(100)
					updates = append(updates, fmt.Sprintf(`{"id": %d, "name": "n%d", "tags": ["t%d"], "level": null}`, id, n, n))
					model[id] = fmt.Sprintf(`["t%d"] "n%d" null`, n, n)
					if random.IntN(4) == 0 {
						gone[i] = true
						delete(model, id)
					}
				}
				r.update(batch(t, table, updates...), 1, func(row int) bool { return gone[row] })
				for range random.IntN(6) {
					id, text := random.IntN(11), "null"
					if id < 10 {
						text = fmt.Sprint(id)
					}
					rows = append(rows, fmt.Sprintf(`{"user": %s, "v": 1}`, text))
					found, ok := model[id]
					switch {
					case ok:
						want = append(want, text+" 1 "+found)
					case missing == MissingNull:
						want = append(want, text+" 1 null null null")
					default:
						refused++
					}
				}
				got = append(got, r.process(batch(t, in, rows...))...)
				if random.IntN(5) == 0 {
					r.checkpoint()
					r.open(1 + random.IntN(4))
				}
			}
			sameRows(t, got, want)
			r.balanced(0)
			if len(r.res.Refused) != refused {
				t.Errorf("refused: got %d, want %d", len(r.res.Refused), refused)
			}
			if t.Failed() {
				t.Fatalf("seed %d, missing %s", seed, missing)
			}
		}
	}
}

func TestEnrich_checksSettings(t *testing.T) {
	in := schema(t, "user", "int32", "v", "int8", "price", "decimal(9, 2)")
	for want, change := range map[string]func(e *Enrich){
		`there is no column "nope"`:                                  func(e *Enrich) { e.Key = []string{"nope"} },
		`table: key: there is no column "nope"`:                      func(e *Enrich) { e.TableKey = []string{"nope"} },
		`the key has 1 columns, the table's has 2`:                   func(e *Enrich) { e.TableKey = []string{"id", "name"} },
		`no value of one equals one of the other`:                    func(e *Enrich) { e.TableKey = []string{"name"} },
		`"price" is decimal(9, 2), the table's column "id" is int64`: func(e *Enrich) { e.Key = []string{"price"} },
		`the table has no column "x"; it has name, id`:               func(e *Enrich) { e.Columns[0].From = "x" },
		`column "v" is there twice`:                                  func(e *Enrich) { e.Columns[0].Column = "v" },
		`columns: there must be at least one`:                        func(e *Enrich) { e.Columns = nil },
		`missing: "drop" is neither`:                                 func(e *Enrich) { e.Missing = "drop" },
	} {
		e := &Enrich{ID: "e", Key: []string{"user"}, Table: usersTable(t), TableKey: []string{"id"}, Columns: []EnrichColumn{{"n", "name"}}}
		if _, err := e.BindKeyed(in); err != nil {
			t.Fatal(err)
		}
		change(e)
		_, err := e.BindKeyed(in)
		if err == nil || fault.KindOf(err) != fault.Misconfigured {
			t.Errorf("%s: got error %v", want, err)
			continue
		}
		contains(t, strings.ReplaceAll(err.Error(), "\n", " "), want)
	}
}
