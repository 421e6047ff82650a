package sinktest

import (
	"errors"
	"fmt"
	"sync"
)

// Fault is what happens to one call to a target.
type Fault uint8

// The faults. The zero value is none.
const (
	// FailBefore makes the call fail without effect.
	FailBefore Fault = iota + 1
	// LoseReply makes the call take effect and fail.
	LoseReply
	// DieBefore ends the process before the call: it and all later calls fail without effect.
	DieBefore
	// DieAfter ends the process after the call took effect.
	DieAfter
	// Hold stops the process in the call, before its effect, until it is woken.
	Hold
	// Late makes the call fail now and take effect when the world says so.
	Late
)

// String returns the fault's name.
func (f Fault) String() string {
	names := [...]string{"none", "fails", "loses its reply", "dies before", "dies after", "is stopped", "takes effect late"}
	if int(f) < len(names) {
		return names[f]
	}
	return "invalid"
}

// The errors of broken calls. A sink must not look for them: they stand for whatever its client library returns.
var (
	errInjected = errors.New("connection reset by the test")
	errDead     = errors.New("this process ended")
	errOver     = errors.New("the run can't go on and ended")
)

// Faults stands between one process's sink and its target. The zero value breaks nothing. It may be used by several goroutines
// at the same time.
type Faults struct {
	mu     sync.Mutex
	plan   *plan
	dead   bool
	late   []func() error
	held   chan struct{} // closed when a call is stopped
	wake   chan struct{} // closed to let it go on
	next   Fault         // of the next call, in random histories
	within int           // calls before next happens
}

// plan counts the calls of all processes of one world and breaks one of them.
type plan struct {
	mu    sync.Mutex
	calls int
	at    int
	fault Fault
	hit   string // the call that was broken
}

// take counts a call and returns what happens to it.
func (p *plan) take(call string) Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	if p.fault == 0 || p.calls != p.at {
		return 0
	}
	p.hit = call
	return p.fault
}

// Do carries out one call to the target, which effect is, or breaks it. call names it for messages. The error is effect's own,
// or says nothing about whether effect happened.
func (f *Faults) Do(call string, effect func() error) error {
	switch f.fault(call) {
	case FailBefore:
		return errInjected
	case LoseReply:
		return errors.Join(errInjected, ignore(effect()))
	case DieBefore:
		f.kill()
		return errDead
	case DieAfter:
		err := ignore(effect())
		f.kill()
		return errors.Join(errDead, err)
	case Hold:
		f.stop()
	case Late:
		f.mu.Lock()
		f.late = append(f.late, effect)
		f.mu.Unlock()
		return errInjected
	}
	if f.Dead() {
		return errDead
	}
	return effect()
}

// ignore drops an error: its call's caller is told of the fault only.
func ignore(error) error { return nil }

func (f *Faults) fault(call string) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead || f.plan == nil {
		return 0
	}
	if fault := f.plan.take(call); fault != 0 {
		return fault
	}
	if f.next == 0 {
		return 0
	}
	if f.within--; f.within >= 0 {
		return 0
	}
	fault := f.next
	f.next = 0
	return fault
}

// Dead tells whether the process ended.
func (f *Faults) Dead() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dead
}

func (f *Faults) kill() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead = true
}

// arm breaks a call of this process after the given number of others.
func (f *Faults) arm(fault Fault, within int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next, f.within = fault, within
}

// stop blocks the calling goroutine until resume.
func (f *Faults) stop() {
	f.mu.Lock()
	held, wake := f.held, f.wake
	f.mu.Unlock()
	close(held)
	<-wake
}

// prepareHold makes room for one stopped call.
func (f *Faults) prepareHold() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held, f.wake = make(chan struct{}), make(chan struct{})
}

// land lets the late calls take effect, in order.
func (f *Faults) land() {
	f.mu.Lock()
	late := f.late
	f.late = nil
	f.mu.Unlock()
	for _, effect := range late {
		_ = effect() //nolint:errcheck // nobody is there to be told
	}
}

// waits tells that the call to be broken has not come yet: so far the history is the one without a fault, which is checked.
func (p *plan) waits() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fault != 0 && p.hit == ""
}

// describe tells what a plan broke.
func (p *plan) describe() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault == 0 {
		return "no fault"
	}
	return fmt.Sprintf("call %d (%s) %s", p.at, p.hit, p.fault)
}
