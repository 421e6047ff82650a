package invariant_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/internal/invariant"
)

type lease uint64

type position struct {
	Topic string
	next  int64
}

// violation runs f and returns the Violation that it panics with, or nil.
func violation(t *testing.T, f func()) (found *invariant.Violation) {
	t.Helper()
	defer func() {
		switch r := recover().(type) {
		case nil:
		case invariant.Violation:
			found = &r
		default:
			t.Errorf("got panic %v, want an invariant.Violation", r)
		}
	}()
	f()
	return nil
}

func TestCheck_panicsWithIDAndArguments(t *testing.T) {
	var missing error
	tests := []struct {
		name string
		args []any
		want string
	}{
		{"nothing", nil, ""},
		{"named types", []any{"lease", lease(7), "published", lease(1 << 60)}, "lease 7 published 1152921504606846976"},
		{"signed, float, bool", []any{-3, 1.5, true}, "-3 1.5 true"},
		{"struct with unexported field", []any{position{"orders", 41}}, "{orders 41}"},
		{"slices", []any{[]int{1, 2}, [2]string{"a", "b"}, []position{{"t", 1}}}, "{1 2} {a b} {{t 1}}"},
		{"long slice", []any{make([]int, 20)}, "{0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 and 4 more}"},
		{"type only", []any{errors.New("x"), map[string]int{}}, "*errors.errorString map[string]int"},
		{"nil", []any{missing, nil}, "nil nil"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := violation(t, func() { invariant.Check("I3", false, test.args...) })
			if got == nil {
				t.Fatal("got no panic, want one")
			}
			if diff := cmp.Diff(invariant.Violation{ID: "I3", Detail: test.want}, *got); diff != "" {
				t.Errorf("violation (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCheck_holdsInSilence(t *testing.T) {
	if got := violation(t, func() { invariant.Check("I3", true, "lease", lease(7)) }); got != nil {
		t.Errorf("got %v, want no panic", got)
	}
}

func TestCheck_allocatesNothingWhileItHolds(t *testing.T) {
	l, p, name := lease(1<<40), position{"orders", 1 << 40}, string([]byte("split"))
	n := testing.AllocsPerRun(100, func() {
		invariant.Check("I4", l > 0, "lease", l, "position", p, name, 1.5)
	})
	if n != 0 {
		t.Errorf("got %v allocations for a check that holds, want 0", n)
	}
}

func TestViolation_namesTheInvariant(t *testing.T) {
	for want, v := range map[string]invariant.Violation{
		"invariant I9 does not hold":        {ID: "I9"},
		"invariant I9 does not hold: seq 4": {ID: "I9", Detail: "seq 4"},
	} {
		if got := v.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
