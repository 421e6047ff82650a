//go:build faultpoints

package inject

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

type armed struct {
	action string
	left   int
}

var points = sync.OnceValue(func() map[string]*armed { //nolint:gochecknoglobals // armed once for the process, in test builds only
	out := map[string]*armed{}
	for spec := range strings.SplitSeq(os.Getenv("INGESTD_FAULTS"), ",") {
		f := strings.Split(spec, ":")
		if len(f) < 2 {
			continue
		}
		a := &armed{action: f[1], left: 1}
		if len(f) > 2 {
			if n, err := strconv.Atoi(f[2]); err == nil {
				a.left = n
			}
		}
		out[f[0]] = a
	}
	return out
})

var mu sync.Mutex //nolint:gochecknoglobals // guards the counts of armed, in test builds only

// Point acts when it is armed and reached for the n-th time.
func Point(name string) {
	a := points()[name]
	if a == nil {
		return
	}
	mu.Lock()
	a.left--
	due := a.left == 0
	mu.Unlock()
	if !due {
		return
	}
	fmt.Fprintf(os.Stderr, "ingestd fault point %s reached\n", name)
	sig := syscall.SIGKILL
	if a.action == "stop" {
		sig = syscall.SIGSTOP
	}
	if err := syscall.Kill(os.Getpid(), sig); err != nil {
		panic(err)
	}
	if a.action != "stop" {
		select {} // the signal is on its way: nothing after the point may happen
	}
}
