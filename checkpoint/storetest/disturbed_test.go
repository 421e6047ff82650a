package storetest_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ingestd/ingestd/checkpoint"
	"github.com/ingestd/ingestd/checkpoint/storetest"
	"github.com/ingestd/ingestd/fault"
)

// disturbing turns disturbances into the faults of a store in memory.
type disturbing struct {
	sync.Mutex
	what     storetest.Disturbance
	requests int
	random   *rand.Rand
}

func (d *disturbing) set(what storetest.Disturbance, requests int) {
	d.Lock()
	defer d.Unlock()
	d.what, d.requests = what, requests
}

func (d *disturbing) fault(call storetest.Call) storetest.Fault {
	d.Lock()
	defer d.Unlock()
	read := call.Method != storetest.Create && call.Method != storetest.Delete
	if d.requests == 0 || read && d.what != storetest.Busy {
		return storetest.None
	}
	d.requests--
	switch d.what {
	case storetest.LostReply:
		return storetest.ReplyLost
	case storetest.LostRequest:
		return storetest.RequestLost
	case storetest.Delayed:
		return storetest.Late
	case storetest.Busy:
		return storetest.Refused
	case storetest.Mixed:
		return storetest.Fault(d.random.IntN(5))
	case storetest.Calm, storetest.StaleList, storetest.StaleRead, storetest.Skewed:
	}
	return storetest.None
}

// disturbedMemory is a store in memory with those faults.
func disturbedMemory() *storetest.Disturbed {
	d := &disturbing{random: rand.New(rand.NewPCG(1, 2))}
	m := storetest.NewMemory(d.fault)
	return &storetest.Disturbed{
		Store: m, Other: m, Disturb: d.set, Land: func() { m.Land() },
		Suffers: []storetest.Disturbance{storetest.LostReply, storetest.LostRequest, storetest.Delayed, storetest.Mixed, storetest.Busy},
	}
}

func TestMemory_conformsUnderDisturbances(t *testing.T) {
	storetest.RunDisturbed(t, func(*testing.T) *storetest.Disturbed { return disturbedMemory() })
}

// disturbedBreaks maps the name of a break to the rule that must find it and to how the store has it.
func disturbedBreaks() map[string]struct {
	rule string
	how  func(d *storetest.Disturbed)
} {
	type entry = struct {
		rule string
		how  func(d *storetest.Disturbed)
	}
	answering := func(rule string, from fault.Kind, to error) entry {
		return entry{rule, func(d *storetest.Disturbed) {
			s := d.Store
			d.Store = broken{Store: s, create: func(ctx context.Context, name string, data []byte) error {
				err := s.Create(ctx, name, data)
				if err == nil || errors.Is(err, checkpoint.ErrExists) || fault.KindOf(err) != from {
					return err
				}
				return to
			}}
		}}
	}
	transient := fault.E("test", fault.Transient, errors.New("broken"))
	stale := func(rule string, which storetest.Disturbance, broken func(s checkpoint.Store) checkpoint.Store) entry {
		return entry{rule, func(d *storetest.Disturbed) {
			d.Suffers = append(d.Suffers, which)
			plain := d.Store
			d.Disturb = func(storetest.Disturbance, int) { d.Store = broken(plain) }
			d.Store = broken(plain)
		}}
	}
	return map[string]entry{
		"a lost reply is told as nothing done":  answering("reply_lostOnceIsNoFailure", fault.Unknown, transient),
		"no reply at all is told as no failure": answering("reply_lostForEverIsOpen", fault.Unknown, transient),
		"a lost request is told as created":     answering("request_lostForEver", fault.Unknown, nil),
		"a lost request is told as there":       answering("request_lostOnce", fault.Unknown, checkpoint.ErrExists),
		"a delayed request is told as nothing":  answering("delayed_mayBeTheFirst", fault.Unknown, transient),
		"a delayed request is told as created":  answering("writers_raceUnderDisturbances", fault.Unknown, nil),
		"what is refused is told as there":      answering("busy_isTold", fault.Transient, checkpoint.ErrExists),
		"a lost delete is told as nothing done": {"reply_lostOfADelete", func(d *storetest.Disturbed) {
			s := d.Store
			d.Store = broken{Store: s, remove: func(ctx context.Context, name string) error {
				if s.Delete(ctx, name) != nil {
					return transient
				}
				return nil
			}}
		}},
		"a busy read is told as absent": {"busy_isTold", func(d *storetest.Disturbed) {
			s := d.Store
			d.Store = broken{Store: s, get: func(ctx context.Context, name string) ([]byte, error) {
				data, err := s.Get(ctx, name)
				if err != nil {
					return nil, checkpoint.ErrNotExist
				}
				return data, nil
			}}
		}},
		"late requests overwrite": {"delayed_losesToWhoCameFirst", func(d *storetest.Disturbed) {
			land, s := d.Land, d.Store
			d.Land = func() {
				_ = s.Delete(context.Background(), "p/log/0/1")
				land()
			}
		}},
		"stale lists pass": stale("stale_listIsRefused", storetest.StaleList, func(s checkpoint.Store) checkpoint.Store {
			return change(s, func(names []string, _, _ string) []string {
				return slices.Delete(names, max(len(names)-1, 0), len(names))
			})
		}),
		"stale reads pass": stale("stale_readIsRefused", storetest.StaleRead, func(s checkpoint.Store) checkpoint.Store {
			return broken{Store: s, get: func(context.Context, string) ([]byte, error) { return nil, checkpoint.ErrNotExist }}
		}),
		"what another deleted is an alarm": stale("stale_isNotWhatAnotherDeleted", storetest.StaleList, func(s checkpoint.Store) checkpoint.Store {
			return broken{Store: s, list: func(ctx context.Context, prefix, after string) ([]string, error) {
				names, err := s.List(ctx, prefix, after)
				if len(names) == 2 {
					err = errors.New("alarm")
				}
				return names, err
			}}
		}),
		"a wrong clock is not named": {"skew_isCorrectedOrTold", func(d *storetest.Disturbed) {
			d.Suffers = append(d.Suffers, storetest.Skewed)
			d.Store = broken{Store: d.Store, create: func(context.Context, string, []byte) error { return transient }}
		}},
	}
}

// Goal: each rule about disturbances is able to fail. Method: for each break, the rule is run in a child process, whose test must fail.
func TestRunDisturbed_findsBrokenStores(t *testing.T) {
	if name := os.Getenv(breakVariable); name != "" {
		storetest.RunDisturbed(t, func(*testing.T) *storetest.Disturbed {
			d := disturbedMemory()
			disturbedBreaks()[name].how(d)
			return d
		})
		return
	}
	for name, b := range disturbedBreaks() {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestRunDisturbed_findsBrokenStores$/^"+b.rule+"$")
			cmd.Env = append(os.Environ(), breakVariable+"="+name)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "the rule: ") || !strings.Contains(string(out), "--- FAIL: TestRunDisturbed_findsBrokenStores/"+b.rule) {
				t.Errorf("got %v, want the rule %s to fail:\n%s", err, b.rule, out)
			}
		})
	}
}
