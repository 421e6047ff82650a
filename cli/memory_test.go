package cli

import (
	"testing"
	"testing/fstest"
)

const (
	gib     = 1 << 30
	meminfo = "MemTotal:        8388608 kB\nMemFree:  1 kB\n" // 8 GiB
)

func TestSystemMemory_takesTheSmallestLimit(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	for _, c := range []struct {
		name  string
		files fstest.MapFS
		want  int64
	}{
		{"nothing can be read", fstest.MapFS{}, gib},
		{"the machine", fstest.MapFS{"proc/meminfo": file(meminfo)}, 8 * gib},
		{"a group without a limit", fstest.MapFS{"proc/meminfo": file(meminfo), "sys/fs/cgroup/memory.max": file("max\n")}, 8 * gib},
		{"a container", fstest.MapFS{
			"proc/meminfo": file(meminfo), "proc/self/cgroup": file("0::/\n"), "sys/fs/cgroup/memory.max": file("2147483648\n"),
		}, 2 * gib},
		{"a service of the system", fstest.MapFS{
			"proc/meminfo": file(meminfo), "proc/self/cgroup": file("0::/system.slice/ingestd.service\n"),
			"sys/fs/cgroup/system.slice/ingestd.service/memory.max": file("3221225472\n"),
		}, 3 * gib},
		{"a limit of the slice around it", fstest.MapFS{
			"proc/meminfo": file(meminfo), "proc/self/cgroup": file("0::/system.slice/ingestd.service\n"),
			"sys/fs/cgroup/system.slice/ingestd.service/memory.max": file("3221225472\n"), "sys/fs/cgroup/system.slice/memory.max": file("1073741824\n"),
		}, gib},
		{"the first version of groups", fstest.MapFS{
			"proc/meminfo": file(meminfo), "proc/self/cgroup": file("5:cpu,cpuacct:/a\n4:memory:/docker/abc\n1:name=systemd:/\n"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes":            file("9223372036854771712\n"),
			"sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": file("536870912\n"),
		}, gib / 2},
		{"nonsense", fstest.MapFS{"proc/meminfo": file("?"), "proc/self/cgroup": file("\n:\n::\n"), "sys/fs/cgroup/memory.max": file("-1")}, gib},
	} {
		if got := systemMemory(c.files); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
}

func TestMemoryLimit_configCountsFirst(t *testing.T) {
	if got := memoryLimit(5); got != 5 {
		t.Errorf("got %d, want what is configured", got)
	}
	if got, most := memoryLimit(0), systemMemory(fstest.MapFS{}); got <= 0 {
		t.Errorf("got %d without a limit in the config, want some part of %d or more", got, most)
	}
}
