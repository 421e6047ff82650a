package checkpoint_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/checkpoint/storetest"
	"github.com/ingestd/ingestd/fault"
)

const testStoreID = "00112233445566778899aabbccddeeff"

// onCreates gives the first creates of a store these faults.
func onCreates(faults ...storetest.Fault) *storetest.Memory {
	var mu sync.Mutex
	return storetest.NewMemory(func(c storetest.Call) storetest.Fault {
		mu.Lock()
		defer mu.Unlock()
		if c.Method != storetest.Create || len(faults) == 0 {
			return storetest.None
		}
		f := faults[0]
		faults = faults[1:]
		return f
	})
}

// with returns a store that holds one object.
func with(t *testing.T, name string, data []byte) *storetest.Memory {
	t.Helper()
	s := storetest.NewMemory(nil)
	if err := s.Create(t.Context(), name, data); err != nil {
		t.Fatal(err)
	}
	return s
}

func random(b byte) []byte { return bytes.Repeat([]byte{b}, 16) }

func wantFault(t *testing.T, err error, kind fault.Kind, text string) {
	t.Helper()
	if err == nil || fault.KindOf(err) != kind || !strings.Contains(err.Error(), text) {
		t.Fatalf("got %v, want an error of kind %v with %q", err, kind, text)
	}
}

func TestOpenStore_givesAllRunsOneID(t *testing.T) {
	s := onCreates(storetest.ReplyLost, storetest.RequestLost, storetest.Late)
	ids := make([]string, 16)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			var err error
			if ids[i], err = checkpoint.OpenStore(t.Context(), s, random(byte(i))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s.Land()
	last, err := checkpoint.OpenStore(t.Context(), s, random(99))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if id != last || len(id) != 32 {
			t.Fatalf("got %q, want one ID of 32 digits for all", ids)
		}
	}
}

// Goal: an unknown outcome ends only with what is read: never with an ID that another run may not see.
func TestOpenStore_underFaults(t *testing.T) {
	const refused, reply, request, late = storetest.Refused, storetest.ReplyLost, storetest.RequestLost, storetest.Late
	for _, c := range []struct {
		name   string
		faults []storetest.Fault
		ok     bool
		kind   fault.Kind
	}{
		{"the reply is lost", []storetest.Fault{reply}, true, 0},
		{"requests are lost", []storetest.Fault{request, request}, true, 0},
		{"a request is late", []storetest.Fault{late}, true, 0},
		{"all requests are lost", []storetest.Fault{request, request, request}, false, fault.Unknown},
		{"all requests are late", []storetest.Fault{late, late, late}, false, fault.Unknown},
		{"refused", []storetest.Fault{refused}, false, fault.Transient},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := onCreates(c.faults...)
			id, err := checkpoint.OpenStore(t.Context(), s, random(1))
			if c.ok && (err != nil || id != strings.Repeat("01", 16)) {
				t.Fatalf("got %q, %v, want the ID of the bytes", id, err)
			}
			if !c.ok {
				wantFault(t, err, c.kind, "")
			}
			s.Land()
			second, err := checkpoint.OpenStore(t.Context(), s, random(2))
			if err != nil || c.ok && second != id {
				t.Errorf("got %q, %v the second time, want %q", second, err, id)
			}
		})
	}
	away := storetest.NewMemory(func(storetest.Call) storetest.Fault { return refused })
	_, err := checkpoint.OpenStore(t.Context(), away, random(1))
	wantFault(t, err, fault.Transient, "")
	_, err = checkpoint.OpenStore(t.Context(), storetest.NewMemory(nil), []byte("short"))
	wantFault(t, err, fault.Misconfigured, "random bytes")
}

func TestOpenStore_refusesWhatItCantRead(t *testing.T) {
	good := checkpoint.SealObject("store", "{\n \"store_id\": \""+testStoreID+"\"\n}\n")
	for _, c := range []struct {
		name string
		data []byte
		kind fault.Kind
		want string
	}{
		{"damaged", append(bytes.Clone(good), 'x'), fault.Corrupt, `object "store"`},
		{"another object", checkpoint.SealObject("claim", "{}"), fault.Corrupt, "claim"},
		{"no ID", checkpoint.SealObject("store", `{"store_id": "none"}`), fault.Corrupt, "no store ID"},
		{"a short ID", checkpoint.SealObject("store", `{"store_id": "0011"}`), fault.Corrupt, "no store ID"},
		{"newer", bytes.Replace(good, []byte("ingestd 1"), []byte("ingestd 2"), 1), fault.Misconfigured, "newer version"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := with(t, checkpoint.StoreName, c.data)
			_, err := checkpoint.OpenStore(t.Context(), s, random(1))
			wantFault(t, err, c.kind, c.want)
			if !bytes.Equal(s.Objects()[checkpoint.StoreName], c.data) {
				t.Error("got the evidence changed, want it kept")
			}
		})
	}
}

func TestOpenPipeline_makesItsFolderOnce(t *testing.T) {
	s := onCreates(storetest.ReplyLost, storetest.RequestLost, storetest.Late)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := checkpoint.OpenPipeline(t.Context(), s, testStoreID, "orders", 0); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s.Land()
	if _, err := checkpoint.OpenPipeline(t.Context(), s, testStoreID, "orders", 0); err != nil {
		t.Fatalf("again: %v", err)
	}
	if o := s.Objects(); len(o) != 1 || o["orders/pipeline"] == nil {
		t.Errorf("got %d objects, want only orders/pipeline", len(o))
	}
}

// pipelineBody is what stands in a pipeline's object.
func pipelineBody(store, id, function string, groups int) []byte {
	return checkpoint.SealObject("pipeline", fmt.Sprintf(`{"store_id": %q, "pipeline_id": %q, "key_group_function": %q, "key_groups": %d}`,
		store, id, function, groups))
}

// Goal: a folder that is not this pipeline's in this store is refused before anything is read from its log, and is left as it is.
func TestOpenPipeline_refusesAFolderFromElsewhere(t *testing.T) {
	other := strings.Repeat("f", 32)
	for _, c := range []struct {
		name   string
		data   []byte
		kind   fault.Kind
		want   string
		remedy string
	}{
		{"copied from another store", pipelineBody(other, "orders", "xxh64", 512), fault.Misconfigured, other, "original store"},
		{"renamed", pipelineBody(testStoreID, "sales", "xxh64", 512), fault.Misconfigured, `belongs to the pipeline "sales"`, `id = "sales"`},
		{"too many key groups", pipelineBody(testStoreID, "orders", "xxh64", 1<<16+1), fault.Misconfigured, "key groups", ""},
		{"another function", pipelineBody(testStoreID, "orders", "murmur2", 512), fault.Misconfigured, "key groups", ""},
		{"damaged", []byte("ingestd 1 pipeline"), fault.Corrupt, `object "orders/pipeline"`, ""},
		{"newer", []byte("ingestd 7 pipeline\n"), fault.Misconfigured, "newer version", "version"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := with(t, "orders/pipeline", c.data)
			_, err := checkpoint.OpenPipeline(t.Context(), s, testStoreID, "orders", 0)
			wantFault(t, err, c.kind, c.want)
			if !strings.Contains(fault.RemedyOf(err), c.remedy) {
				t.Errorf("got remedy %q, want it to say %q", fault.RemedyOf(err), c.remedy)
			}
			if !bytes.Equal(s.Objects()["orders/pipeline"], c.data) {
				t.Error("got the object changed, want it kept")
			}
		})
	}
	wantFault(t, open(t.Context(), storetest.NewMemory(nil), "store"), fault.Misconfigured, "pipeline ID")
}

// Goal: half a copy of a folder is not taken for a new pipeline, which would begin from nothing above an old log.
func TestOpenPipeline_refusesALogWithoutItsObject(t *testing.T) {
	s := with(t, checkpoint.EntryName("orders", 0, 1), nil)
	wantFault(t, open(t.Context(), s, "orders"), fault.Corrupt, "has a log")
	if _, err := checkpoint.OpenPipeline(t.Context(), s, testStoreID, "order", 0); err != nil {
		t.Errorf("got %v beside another pipeline's log, want nil", err)
	}
}

// firstLook is a store as it looks to a run that is overtaken: another run makes folder and log after its first look.
type firstLook struct {
	*storetest.Memory
	looks int
}

func (l *firstLook) Get(ctx context.Context, name string) ([]byte, error) {
	if l.looks++; l.looks > 1 {
		return l.Memory.Get(ctx, name)
	}
	return nil, errors.Join(
		checkpoint.ErrNotExist,
		open(ctx, l.Memory, "orders"),
		l.Create(ctx, checkpoint.EntryName("orders", 0, 1), nil),
	)
}

func TestOpenPipeline_meetsAnotherFirstRun(t *testing.T) {
	s := &firstLook{Memory: storetest.NewMemory(nil)}
	if _, err := checkpoint.OpenPipeline(t.Context(), s, testStoreID, "orders", 0); err != nil {
		t.Errorf("got %v, want nil", err)
	}
	if s.looks != 2 {
		t.Errorf("got %d looks, want 2", s.looks)
	}
}

func TestIdentity_goldenFilesAreReadAndWritten(t *testing.T) {
	id := []byte{0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}
	fresh, old := storetest.NewMemory(nil), storetest.NewMemory(nil)
	open := func(s *storetest.Memory) {
		t.Helper()
		if got, err := checkpoint.OpenStore(t.Context(), s, id); err != nil || got != testStoreID {
			t.Fatalf("got %q, %v, want %s", got, err, testStoreID)
		}
		if _, err := checkpoint.OpenPipeline(t.Context(), s, testStoreID, "orders", 512); err != nil {
			t.Fatal(err)
		}
	}
	open(fresh)
	for file, name := range map[string]string{"store.v1.object": checkpoint.StoreName, "pipeline.v1.object": checkpoint.PipelineName("orders")} {
		got := fresh.Objects()[name]
		want := checkpoint.Golden(t, file, func() []byte { return got })
		if !bytes.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", file, got, want)
		}
		if err := old.Create(t.Context(), name, want); err != nil {
			t.Fatal(err)
		}
	}
	open(old)
}

// open opens a pipeline with what key groups it has.
func open(ctx context.Context, s checkpoint.Store, pipeline string) error {
	_, err := checkpoint.OpenPipeline(ctx, s, testStoreID, pipeline, 0)
	return err
}

// The first start fixes the number of key groups; a later one gets it, and is refused when it asks for another.
func TestOpenPipeline_keyGroupsAreFixed(t *testing.T) {
	for _, c := range []struct{ first, fixed, other int }{{0, 256, 512}, {16, 16, 17}} {
		s := storetest.NewMemory(nil)
		for _, asked := range []int{c.first, 0, c.fixed} {
			if got, err := checkpoint.OpenPipeline(t.Context(), s, testStoreID, "orders", asked); err != nil || got != c.fixed {
				t.Errorf("asked for %d after %d: got %d, %v, want %d", asked, c.first, got, err, c.fixed)
			}
		}
		_, err := checkpoint.OpenPipeline(t.Context(), s, testStoreID, "orders", c.other)
		wantFault(t, err, fault.Misconfigured, fmt.Sprintf("has %d key groups since its first start", c.fixed))
	}
	_, err := checkpoint.OpenPipeline(t.Context(), storetest.NewMemory(nil), testStoreID, "orders", 1<<16+1)
	wantFault(t, err, fault.Misconfigured, "at most")
}
