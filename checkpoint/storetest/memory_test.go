package storetest_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/checkpoint/storetest"
	"github.com/ingestd/ingestd/fault"
)

func TestMemory_conforms(t *testing.T) {
	storetest.Run(t, func(*testing.T) checkpoint.Store { return storetest.NewMemory(nil) })
}

// Goal: each fault does what its name says, seen by what is stored before and after late requests land.
func TestMemory_faultsDoWhatTheySay(t *testing.T) {
	for _, c := range []struct {
		name         string
		fault        storetest.Fault
		kind         fault.Kind
		before, late bool // is it stored at once, is it stored after Land
	}{
		{"refused", storetest.Refused, fault.Transient, false, false},
		{"reply lost", storetest.ReplyLost, fault.Unknown, true, true},
		{"request lost", storetest.RequestLost, fault.Unknown, false, false},
		{"late", storetest.Late, fault.Unknown, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := storetest.NewMemory(func(call storetest.Call) storetest.Fault {
				if call.Number == 1 {
					return c.fault
				}
				return storetest.None
			})
			err := s.Create(t.Context(), "p/a", []byte("x"))
			if err == nil || fault.KindOf(err) != c.kind {
				t.Fatalf("got %v, want an error of kind %v", err, c.kind)
			}
			if _, got := s.Objects()["p/a"]; got != c.before {
				t.Errorf("got stored %v at once, want %v", got, c.before)
			}
			s.Land()
			if _, got := s.Objects()["p/a"]; got != c.late {
				t.Errorf("got stored %v after Land, want %v", got, c.late)
			}
		})
	}
}

// Goal: a late Create creates only if nothing is there when it lands, and a late Delete removes what is there by then.
func TestMemory_lateRequestsMeetTheStoreAsItIsThen(t *testing.T) {
	late := map[int]bool{1: true, 3: true}
	s := storetest.NewMemory(func(call storetest.Call) storetest.Fault {
		if late[call.Number] {
			return storetest.Late
		}
		return storetest.None
	})
	ctx := t.Context()
	if err := s.Create(ctx, "p/a", []byte("late")); fault.KindOf(err) != fault.Unknown {
		t.Fatalf("got %v, want fault.Unknown", err)
	}
	if err := s.Create(ctx, "p/a", []byte("second")); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(ctx, "p/b"); fault.KindOf(err) != fault.Unknown {
		t.Fatalf("got %v, want fault.Unknown", err)
	}
	if err := s.Create(ctx, "p/b", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if n := s.Land(); n != 2 {
		t.Errorf("got %d late requests, want 2", n)
	}
	if diff := cmp.Diff(map[string][]byte{"p/a": []byte("second")}, s.Objects()); diff != "" {
		t.Errorf("stored after all landed (-want +got):\n%s", diff)
	}
	if n := s.Land(); n != 0 {
		t.Errorf("got %d late requests the second time, want 0", n)
	}
}

// Goal: a read that fails is never taken for an absent object.
func TestMemory_failedReadsAreTransient(t *testing.T) {
	for _, f := range []storetest.Fault{storetest.Refused, storetest.ReplyLost, storetest.RequestLost, storetest.Late} {
		s := storetest.NewMemory(func(storetest.Call) storetest.Fault { return f })
		_, err := s.Get(t.Context(), "p/a")
		if err == nil || fault.KindOf(err) != fault.Transient || errors.Is(err, checkpoint.ErrNotExist) {
			t.Errorf("got %v from Get, want fault.Transient", err)
		}
		if _, err := s.List(t.Context(), "", ""); err == nil || fault.KindOf(err) != fault.Transient {
			t.Errorf("got %v from List, want fault.Transient", err)
		}
	}
}
