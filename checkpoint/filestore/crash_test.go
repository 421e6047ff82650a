package filestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/fault"
)

const crashRoot = "/data/store"

// step is one call at a store: a create when data is set, else a delete or a get.
type step struct {
	verb, name, data string
}

// belief is what a client of the store may expect to find under each name, from the answers that it got and from the contract
// alone. "" stands for nothing there.
type belief map[string][]string

func (b belief) of(name string) []string {
	if len(b[name]) == 0 {
		return []string{""}
	}
	return b[name]
}

func (b belief) maybe(name, data string) {
	if !slices.Contains(b.of(name), data) {
		b[name] = append(slices.Clone(b.of(name)), data)
	}
}

// run does the steps and takes up what each answer promises. It returns an error when an answer contradicts an earlier one.
func (b belief) run(s *Store, steps []step) error {
	for _, st := range steps {
		var err error
		switch st.verb {
		case "create":
			err = s.Create(context.Background(), st.name, []byte(st.data))
			b.afterCreate(st, err)
		case "delete":
			err = s.Delete(context.Background(), st.name)
			b.afterDelete(st, err)
		case "get":
			var data []byte
			data, err = s.Get(context.Background(), st.name)
			if err := b.afterGet(st, string(data), err); err != nil {
				return err
			}
		}
		if err == nil {
			continue
		}
		if kind := fault.KindOf(err); kind != fault.Transient && kind != fault.Unknown {
			return fmt.Errorf("%s %s: got kind %v, want Transient or Unknown: %w", st.verb, st.name, kind, err)
		}
	}
	return nil
}

func (b belief) afterCreate(st step, err error) {
	switch {
	case err == nil:
		b[st.name] = []string{st.data}
	case errors.Is(err, checkpoint.ErrExists), fault.KindOf(err) == fault.Transient:
	case slices.Contains(b.of(st.name), ""):
		b.maybe(st.name, st.data)
	}
}

func (b belief) afterDelete(st step, err error) {
	switch {
	case err == nil:
		b[st.name] = nil
	case fault.KindOf(err) != fault.Transient:
		b.maybe(st.name, "")
	}
}

// afterGet holds what was read for durable; an absence that was read may have been a removal that is not durable.
func (b belief) afterGet(st step, data string, err error) error {
	switch {
	case errors.Is(err, checkpoint.ErrNotExist):
		data = ""
	case err != nil:
		return nil //nolint:nilerr // nothing was read, which contradicts nothing
	}
	if !slices.Contains(b.of(st.name), data) {
		return fmt.Errorf("get %s: got %q, want one of %q", st.name, data, b.of(st.name))
	}
	if data != "" {
		b[st.name] = []string{data}
	}
	return nil
}

// check opens the store after everything that happened and compares.
func (b belief) check(w *world) error {
	s := newStore(&process{w: w}, crashRoot, "check")
	if err := errors.Join(s.prepare(), s.removeLeftovers()); err != nil {
		return err
	}
	var present []string
	for name := range b {
		data, err := s.Get(context.Background(), name)
		if err != nil && !errors.Is(err, checkpoint.ErrNotExist) {
			return err
		}
		if err == nil {
			present = append(present, name)
		}
		if !slices.Contains(b.of(name), string(data)) {
			return fmt.Errorf("%s: found %q, want one of %q", name, data, b.of(name))
		}
	}
	slices.Sort(present)
	listed, err := s.List(context.Background(), "", "")
	if err == nil && !slices.Equal(listed, present) {
		err = fmt.Errorf("listed %q, want %q", listed, present)
	}
	if err != nil {
		return err
	}
	temps, err := s.fs.ReadDir(path.Join(crashRoot, tempFolder))
	if len(temps) > 0 {
		return fmt.Errorf("%d temporary files are left", len(temps))
	}
	return err
}

// powerFailures checks what b promises on every disk that a power failure may leave; when these are more than most, on the
// first so many and on as many of a fixed random choice.
func (b belief) powerFailures(w *world, most int) (int, error) {
	var chosen []int // the choices of the current image, and below how many each was made
	var width []int
	images := 0
	for images < most {
		at := 0
		image := w.image(func(n int) int {
			if at == len(chosen) {
				chosen, width = append(chosen, 0), append(width, n)
			}
			at++
			return chosen[at-1]
		})
		images++
		if err := b.check(image); err != nil {
			return images, err
		}
		for len(chosen) > 0 && chosen[len(chosen)-1] == width[len(chosen)-1]-1 {
			chosen, width = chosen[:len(chosen)-1], width[:len(width)-1]
		}
		if len(chosen) == 0 {
			return images, nil
		}
		chosen[len(chosen)-1]++
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range most {
		images++
		if err := b.check(w.image(random.IntN)); err != nil {
			return images, err
		}
	}
	return images, nil
}

// mutant breaks a process's file system, or is nil.
type mutant func(p *process) fileSystem

// life opens a store as a process and does the steps.
func life(p *process, m mutant, b belief, steps []step) error {
	var fsys fileSystem = p
	if m != nil {
		fsys = m(p)
	}
	s := newStore(fsys, crashRoot, fmt.Sprintf("life%d", p.at))
	if err := errors.Join(s.prepare(), s.removeLeftovers()); err != nil {
		return nil //nolint:nilerr // it died, or gave up, before its first step
	}
	return b.run(s, steps)
}

// script makes and removes objects in new and in known folders, and comes to taken names.
func script() []step {
	return []step{
		{"create", "store", "the store"},
		{"create", "p/log/0/1", "claim"},
		{"create", "p/log/0/1", "another"},
		{"create", "p/log/0/2", "manifest"},
		{"delete", "p/log/0/1", ""},
		{"create", "p/log/0/1", "late"},
		{"get", "p/log/0/1", ""},
		{"create", "p/staging/0/1/1", "segment"},
		{"delete", "p/staging/0/1/1", ""},
		{"get", "p/log/0/2", ""},
	}
}

// crashEverywhere lets a process die at each of its calls, before and after the call has its effect, and then the power fail.
func crashEverywhere(m mutant) (crashes, images int, err error) {
	for at := 1; ; at++ {
		for _, how := range []accident{dieBefore, dieAfter} {
			p, b := &process{w: newWorld(), at: at, accident: how}, belief{}
			if err := life(p, m, b, script()); err != nil {
				return crashes, images, fmt.Errorf("at call %d: %w", at, err)
			}
			n, err := b.powerFailures(p.w, 48)
			images += n
			if err != nil {
				return crashes, images, fmt.Errorf("died at call %d (accident %d): %w", at, how, err)
			}
			if !p.dead {
				return crashes, images, nil
			}
			crashes++
		}
	}
}

// successorScript is what the next process does, which believes what it reads.
func successorScript() []step {
	return []step{
		{"get", "p/log/0/1", ""},
		{"get", "p/log/0/2", ""},
		{"create", "p/log/0/3", "claim of the next"},
		{"delete", "p/log/0/1", ""},
		{"get", "p/log/0/2", ""},
	}
}

// succeedEverywhere lets a first process die at each of its calls while the machine runs on, so that its unsynced changes are
// seen but not durable; then a second one dies at each of its calls; then the power fails. The mutant is the second's.
func succeedEverywhere(m mutant, second []step) (crashes, images int, err error) {
	first := []step{{"create", "p/log/0/1", "claim"}, {"create", "p/log/0/2", "manifest"}}
	for at := 1; ; at++ {
		for _, how := range []accident{dieBefore, dieAfter} {
			died, n, i, err := succeed(m, [2][]step{first, second}, at, how)
			crashes, images = crashes+n, images+i
			if err != nil {
				return crashes, images, fmt.Errorf("first died at call %d (accident %d): %w", at, how, err)
			}
			if !died {
				return crashes, images, nil
			}
		}
	}
}

func succeed(m mutant, scripts [2][]step, firstAt int, how accident) (died bool, crashes, images int, err error) {
	for at := 1; ; at++ {
		p1, b := &process{w: newWorld(), at: firstAt, accident: how}, belief{}
		if err := life(p1, nil, b, scripts[0]); err != nil {
			return false, crashes, images, err
		}
		p2 := &process{w: p1.w, at: at, accident: dieAfter}
		if err := life(p2, m, b, scripts[1]); err != nil {
			return false, crashes, images, fmt.Errorf("second: %w", err)
		}
		n, err := b.powerFailures(p2.w, 16)
		images += n
		if err != nil {
			return false, crashes, images, fmt.Errorf("second died at call %d: %w", at, err)
		}
		crashes++
		if !p2.dead {
			return p1.dead, crashes, images, nil
		}
	}
}

// failEverywhere lets each single call fail, with and without its effect, and the process go on; then the power fails.
func failEverywhere(m mutant, errs ...error) (failures, images int, err error) {
	for at := 1; ; at++ {
		calls := 0
		for _, how := range []accident{failBefore, failAfter} {
			for _, cause := range errs {
				p, b := &process{w: newWorld(), at: at, accident: how, err: cause}, belief{}
				if how == failAfter && !errors.Is(cause, syscall.EIO) {
					continue // a call that was refused had no effect
				}
				if err := life(p, m, b, script()); err != nil {
					return failures, images, fmt.Errorf("call %d failed with %w (accident %d): %w", at, cause, how, err)
				}
				n, err := b.powerFailures(p.w, 16)
				images += n
				if err != nil {
					return failures, images, fmt.Errorf("call %d failed with %w (accident %d): %w", at, cause, how, err)
				}
				failures++
				calls = max(calls, p.calls)
			}
		}
		if calls < at {
			return failures, images, nil
		}
	}
}

// Goal: what Create, Delete and Get answered is true after a power failure at any moment. Method: every call at the disk is a
// place to die, and every subset of what was not synced is tried as what is left.
func TestStore_survivesPowerFailureAtEveryCall(t *testing.T) {
	crashes, images, err := crashEverywhere(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d crashes, %d disks", crashes, images)
	if crashes < 200 {
		t.Errorf("got %d crashes, want at least 200: calls are no longer counted", crashes)
	}
}

// Goal: a process that takes over from one that died between link and sync can't have read what a power failure takes back.
func TestStore_whatASuccessorReadIsDurable(t *testing.T) {
	crashes, images, err := succeedEverywhere(nil, successorScript())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d pairs of crashes, %d disks", crashes, images)
	if crashes < 4000 {
		t.Errorf("got %d pairs of crashes, want at least 3000: calls are no longer counted", crashes)
	}
}

// Goal: an answer of Transient means that nothing was done, and what may have been done is Unknown.
func TestStore_classifiesEveryFailure(t *testing.T) {
	failures, images, err := failEverywhere(nil, syscall.EIO, syscall.ENOSPC)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d failures, %d disks", failures, images)
	if failures < 300 {
		t.Errorf("got %d failures, want at least 300: calls are no longer counted", failures)
	}
}

// The negative controls: each is one omission that the tests above must find.

// skipSync leaves out the syncs that skip chooses.
type skipSync struct {
	*process
	skip func(at string, dir bool) bool
}

func (m skipSync) Open(name string) (file, error)   { return m.wrap(name)(m.process.Open(name)) }
func (m skipSync) Create(name string) (file, error) { return m.wrap(name)(m.process.Create(name)) }

func (m skipSync) wrap(name string) func(f file, err error) (file, error) {
	return func(f file, err error) (file, error) {
		if err == nil && m.skip(name, f.(*handle).n.dir) {
			return unsynced{f}, nil
		}
		return f, err
	}
}

type unsynced struct{ file }

func (unsynced) Sync() error { return nil }

// replacing renames where it should link.
type replacing struct{ *process }

func (m replacing) Link(from, to string) error { return m.rename(from, to) }

// trusting holds a directory for durable because it is there.
type trusting struct {
	*process
	there *string
}

func (m trusting) Mkdir(name string) error {
	err := m.process.Mkdir(name)
	if errors.Is(err, fs.ErrExist) {
		*m.there = path.Dir(name)
	}
	return err
}

func (m trusting) Open(name string) (file, error) {
	f, err := m.process.Open(name)
	if err == nil && *m.there == name {
		*m.there = ""
		return unsynced{f}, nil
	}
	return f, err
}

// forgetful leaves out the sync that follows a Remove of an object.
type forgetful struct {
	*process
	removed *string
}

func (m forgetful) Remove(name string) error {
	err := m.process.Remove(name)
	if err == nil && !strings.Contains(name, tempFolder) {
		*m.removed = path.Dir(name)
	}
	return err
}

func (m forgetful) Open(name string) (file, error) {
	f, err := m.process.Open(name)
	if err == nil && *m.removed == name {
		*m.removed = ""
		return unsynced{f}, nil
	}
	return f, err
}

// lying refuses a link after it made it.
type lying struct{ *process }

func (m lying) Link(from, to string) error {
	if err := m.process.Link(from, to); err != nil {
		return err
	}
	return syscall.ENOSPC
}

func TestCrashes_findOmissions(t *testing.T) {
	power := func(m mutant) error { _, _, err := crashEverywhere(m); return err }
	successor := func(m mutant) error { _, _, err := succeedEverywhere(m, successorScript()); return err }
	reader := func(m mutant) error { _, _, err := succeedEverywhere(m, successorScript()[:2]); return err }
	failing := func(m mutant) error { _, _, err := failEverywhere(m, syscall.EIO); return err }
	skip := func(which func(at string, dir bool) bool) mutant {
		return func(p *process) fileSystem { return skipSync{p, which} }
	}
	for _, c := range []struct {
		name  string
		finds func(mutant) error
		m     mutant
	}{
		{"no sync of the file", power, skip(func(_ string, dir bool) bool { return !dir })},
		{"no sync of directories", power, skip(func(_ string, dir bool) bool { return dir })},
		{"no sync of the store's own entry", power, skip(func(p string, _ bool) bool { return p == "/data" })},
		{"no sync of the root", power, skip(func(p string, _ bool) bool { return p == crashRoot })},
		{"no sync of new folders", power, skip(func(p string, _ bool) bool { return p == crashRoot+"/p/log" })},
		{"no sync of the object's folder", power, skip(func(p string, _ bool) bool { return p == crashRoot+"/p/log/0" })},
		{"rename in place of link", power, func(p *process) fileSystem { return replacing{p} }},
		{"no sync after a delete", power, func(p *process) fileSystem { return forgetful{p, new(string)} }},
		{"a successor that syncs nothing", successor, skip(func(_ string, dir bool) bool { return dir })},
		{"a reader that syncs nothing", reader, skip(func(_ string, dir bool) bool { return dir })},
		{"a reader that does not sync the object's folder", reader, skip(func(p string, _ bool) bool { return p == crashRoot+"/p/log/0" })},
		{"a successor that trusts directories", successor, func(p *process) fileSystem { return trusting{p, new(string)} }},
		{"a disk that lies about links", failing, func(p *process) fileSystem { return lying{p} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.finds(c.m)
			if err == nil {
				t.Fatal("got no violation, want one")
			}
			t.Log(err)
		})
	}
}
