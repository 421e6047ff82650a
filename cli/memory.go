package cli

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
)

// memoryLimit returns the bytes for data in flight: 70 % of what the control group or the machine has, when the config says
// nothing.
func memoryLimit(configured int64) int64 {
	if configured > 0 {
		return configured
	}
	return systemMemory(os.DirFS("/")) / 10 * 7
}

// limitRuntime keeps the Go runtime below what the control group or the machine has, when the config leaves the limit to us. The
// environment's GOMEMLIMIT counts more.
func limitRuntime(configured int64) {
	if _, set := os.LookupEnv("GOMEMLIMIT"); set || configured > 0 {
		return
	}
	debug.SetMemoryLimit(systemMemory(os.DirFS("/")) / 10 * 9)
}

// systemMemory is the smallest of the control group's limits and the machine's memory, or 1 GiB when neither can be read.
func systemMemory(root fs.FS) int64 {
	best := int64(0)
	take := func(n int64) {
		if n > 0 && (best == 0 || n < best) {
			best = n
		}
	}
	for _, name := range groupLimits(root) {
		if data, err := fs.ReadFile(root, name); err == nil {
			if n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err == nil {
				take(n)
			}
		}
	}
	if data, err := fs.ReadFile(root, "proc/meminfo"); err == nil {
		var kib int64
		if _, err := fmt.Sscanf(string(data), "MemTotal: %d kB", &kib); err == nil {
			take(kib << 10)
		}
	}
	if best == 0 {
		return 1 << 30
	}
	return best
}

// groupLimits lists the files that may hold a limit of the process's control group: its own and those of the groups around it,
// of both versions. In a container the own group is the root of what can be seen; for a service of the system it is not.
func groupLimits(root fs.FS) []string {
	const mount = "sys/fs/cgroup"
	names := []string{mount + "/memory.max", mount + "/memory/memory.limit_in_bytes"}
	data, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return names
	}
	for line := range strings.Lines(string(data)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) < 3 {
			continue
		}
		for dir := path.Clean("/" + parts[2]); dir != "/"; dir = path.Dir(dir) {
			switch {
			case parts[1] == "":
				names = append(names, mount+dir+"/memory.max")
			case strings.Contains(","+parts[1]+",", ",memory,"):
				names = append(names, mount+"/memory"+dir+"/memory.limit_in_bytes")
			}
		}
	}
	return names
}
