package filestore

import (
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/ingestd/ingestd/checkpoint/storetest"
)

// disturbedDisk is a real disk behind which a server loses and delays what changes names, and which is full for a while.
type disturbedDisk struct {
	disk
	mu       sync.Mutex
	what     storetest.Disturbance
	requests int
	random   *rand.Rand
	late     []func() error
}

func (d *disturbedDisk) disturb(what storetest.Disturbance, requests int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.what, d.requests = what, requests
}

// choose decides about a call that changes a name.
func (d *disturbedDisk) choose() storetest.Disturbance {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.requests == 0 || d.what == storetest.Busy {
		return storetest.Calm
	}
	d.requests--
	if d.what == storetest.Mixed {
		return storetest.Disturbance(d.random.IntN(int(storetest.Delayed) + 1))
	}
	return d.what
}

// full tells whether the disk refuses everything.
func (d *disturbedDisk) full() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.what != storetest.Busy || d.requests == 0 {
		return false
	}
	d.requests--
	return true
}

func (d *disturbedDisk) change(keep func() error, effect func() error) error {
	switch d.choose() {
	case storetest.LostReply:
		if err := effect(); err != nil {
			return err
		}
		return syscall.EIO
	case storetest.Delayed:
		if err := keep(); err != nil {
			return err
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.late = append(d.late, effect)
		return syscall.EIO
	case storetest.LostRequest:
		return syscall.EIO
	case storetest.Calm, storetest.Mixed, storetest.Busy, storetest.StaleList, storetest.StaleRead, storetest.Skewed:
	}
	return effect()
}

// Link keeps the file that a late link is made of, which its writer removes meanwhile.
func (d *disturbedDisk) Link(from, to string) error {
	held := from
	keep := func() error {
		held = from + "-late"
		return d.disk.Link(from, held)
	}
	return d.change(keep, func() error { return d.disk.Link(held, to) })
}

// Remove is disturbed where it takes an object away.
func (d *disturbedDisk) Remove(path string) error {
	if strings.Contains(path, tempFolder) {
		return d.disk.Remove(path)
	}
	return d.change(func() error { return nil }, func() error { return d.disk.Remove(path) })
}

func (d *disturbedDisk) Open(path string) (file, error) {
	if d.full() {
		return nil, syscall.EMFILE
	}
	return d.disk.Open(path)
}

func (d *disturbedDisk) Create(path string) (file, error) {
	if d.full() {
		return nil, syscall.ENOSPC
	}
	return d.disk.Create(path)
}

func (d *disturbedDisk) ReadDir(path string) ([]fs.DirEntry, error) {
	if d.full() {
		return nil, syscall.EMFILE
	}
	return d.disk.ReadDir(path)
}

// Goal: the rules about lost, late and refused requests hold for a directory, too. Method: the calls that give and take names are
// disturbed, on a real file system.
func TestStore_conformsUnderDisturbances(t *testing.T) {
	storetest.RunDisturbed(t, func(t *testing.T) *storetest.Disturbed {
		t.Helper()
		root := t.TempDir()
		d := &disturbedDisk{random: rand.New(rand.NewPCG(1, 2))}
		s, other := newStore(d, root, "disturbed"), newStore(disk{}, root, "other")
		if err := s.prepare(); err != nil {
			t.Fatal(err)
		}
		return &storetest.Disturbed{
			Store: s, Other: other, Disturb: d.disturb,
			Land: func() {
				d.mu.Lock()
				defer d.mu.Unlock()
				for _, effect := range d.late {
					_ = effect() // a name that is taken by now stays so
				}
				d.late = nil
			},
			Suffers: []storetest.Disturbance{storetest.LostReply, storetest.LostRequest, storetest.Delayed, storetest.Mixed, storetest.Busy},
		}
	})
}
