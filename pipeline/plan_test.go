package pipeline

import (
	"strings"
	"testing"

	"github.com/ingestd/ingestd/fault"
	"github.com/ingestd/ingestd/record"
)

// A column that the target does not have is found before anything runs, with the way out.
func TestPlan_refusesColumnsThatTheTargetLacks(t *testing.T) {
	schema := func(names ...string) *record.Schema {
		s := &record.Schema{}
		for _, n := range names {
			s.Fields = append(s.Fields, record.Field{Name: n, Type: record.Type{Kind: record.Int64}})
		}
		return s
	}
	fits := func(takes ...*record.Schema) error {
		d := merge(takes)
		return d.fits(schema("a", "b"), nil)
	}
	err := fits(schema("a"))
	if err == nil || fault.KindOf(err) != fault.Misconfigured || !strings.Contains(err.Error(), `no column "b"`) || !strings.Contains(fault.RemedyOf(err), "drop") {
		t.Errorf("got %v, want Misconfigured that names b and the step drop", err)
	}
	for _, wanted := range []*record.Schema{nil, schema("b", "a"), schema("a", "b", "c")} {
		if err := fits(wanted); err != nil {
			t.Errorf("target %v: got %v, want nil", wanted, err)
		}
	}
}
