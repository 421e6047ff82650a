package sinktest

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Failures runs the named cases, or all without a name, against a sink that may be broken, and returns the messages of those that
// failed, by name. A suite is worth something when each way to do it wrong appears here.
func Failures(tb testing.TB, h Harness, names ...string) map[string]string {
	tb.Helper()
	failed := map[string]string{}
	for _, c := range Cases() {
		if len(names) > 0 && !slices.Contains(names, c.Name) {
			continue
		}
		r := &recorder{TB: tb}
		done := make(chan struct{})
		go func() { // Fatalf and Skip end the goroutine
			defer close(done)
			defer r.recover()
			c.Check(r, h)
		}()
		<-done
		if r.failed {
			failed[c.Name] = strings.Join(r.texts, "\n")
		}
	}
	return failed
}

// recorder takes what a case says in place of the test.
type recorder struct {
	testing.TB
	mu     sync.Mutex
	failed bool
	texts  []string
}

var _ testing.TB = (*recorder)(nil)

func (r *recorder) recover() {
	if p := recover(); p != nil {
		r.Errorf("panic: %v", p)
	}
}

func (r *recorder) note(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = true
	r.texts = append(r.texts, text)
}

func (r *recorder) Helper()                           {}
func (r *recorder) Errorf(format string, args ...any) { r.note(fmt.Sprintf(format, args...)) }
func (r *recorder) Error(args ...any)                 { r.note(fmt.Sprint(args...)) }
func (r *recorder) Fail()                             { r.note("failed") }
func (r *recorder) Failed() bool                      { return r.failed }
func (r *recorder) Log(...any)                        {}
func (r *recorder) Logf(string, ...any)               {}

func (r *recorder) Fatalf(format string, args ...any) {
	r.note(fmt.Sprintf(format, args...))
	runtime.Goexit()
}

func (r *recorder) Fatal(args ...any) {
	r.note(fmt.Sprint(args...))
	runtime.Goexit()
}

func (r *recorder) FailNow() {
	r.note("failed")
	runtime.Goexit()
}

func (r *recorder) Skip(...any)          { runtime.Goexit() }
func (r *recorder) Skipf(string, ...any) { runtime.Goexit() }
func (r *recorder) SkipNow()             { runtime.Goexit() }
