package main

import (
	"bytes"
	"errors"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/terracotta-go/terracotta/config"
	"github.com/terracotta-go/terracotta/internal/server"
	"github.com/terracotta-go/terracotta/internal/wire"
)

func TestTheLeastMemoryLimitCounts(t *testing.T) {
	const machine = "MemTotal:        2097152 kB\nMemFree: 1 kB\n" // 2 GB
	for _, row := range []struct {
		name  string
		files map[string]string
		want  uint64 // MB, 0 = not known
		where string
	}{
		{"nothing is told", nil, 0, ""},
		{"machine", map[string]string{"proc/meminfo": machine}, 2048, "this machine"},
		{"version 2 in a container", map[string]string{"proc/meminfo": machine, "proc/self/cgroup": "0::/\n",
			"sys/fs/cgroup/memory.max": "268435456\n"}, 256, "this container"},
		{"version 2 without a limit", map[string]string{"proc/meminfo": machine, "proc/self/cgroup": "0::/a/b\n",
			"sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/memory.max": "max\n"}, 2048, "this machine"},
		{"version 2, the group above is smaller", map[string]string{"proc/meminfo": machine, "proc/self/cgroup": "0::/a/b\n",
			"sys/fs/cgroup/a/b/memory.max": "536870912\n", "sys/fs/cgroup/a/memory.max": "268435456\n"}, 256, "this container"},
		{"version 1 without a limit", map[string]string{"proc/meminfo": machine, "proc/self/cgroup": "4:memory:/docker/x\n0::/docker/x\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 2048, "this machine"},
		{"version 1, the path is the host's", map[string]string{"proc/meminfo": machine, "proc/self/cgroup": "11:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "134217728\n"}, 128, "this container"},
		{"a limit above the machine", map[string]string{"proc/meminfo": machine, "proc/self/cgroup": "0::/\n",
			"sys/fs/cgroup/memory.max": "17179869184\n"}, 2048, "this machine"},
		{"nonsense", map[string]string{"proc/meminfo": "MemTotal: much\n", "proc/self/cgroup": "::\nx\n0::/../..\n"}, 0, ""},
	} {
		root := fstest.MapFS{}
		for name, text := range row.files {
			root[name] = &fstest.MapFile{Data: []byte(text)}
		}
		got, ok := findMemoryLimit(root)
		if ok != (row.want > 0) || ok && (got.size != row.want*mega || got.where != row.where) {
			t.Errorf("%s: %d MB of %q, %v; want %d MB of %q", row.name, got.size/mega, got.where, ok, row.want, row.where)
		}
	}
}

func TestMemoryIsRefusedWarnedOrFine(t *testing.T) {
	limit := func(mb uint64) memoryLimit {
		return memoryLimit{mb * mega, "this container", "raise it to %d MB"}
	}
	built := []wire.OffheapResource{{Name: "offheap-1", Size: 512 * mega}, {Name: "offheap-2", Size: 512 * mega}}
	for _, row := range []struct {
		name    string
		list    []wire.OffheapResource
		limit   uint64 // MB
		refused string // the hint; "" = it starts
		warned  string
	}{
		{"the original's defaults in a large container", built, 2048, "", ""},
		{"what the hint says is enough", built, 1428, "", ""},
		{"just enough", built, 1024, "", "leave little memory"},
		{"one megabyte short", built, 1023, "OFFHEAP_RESOURCE1_SIZE=704 OFFHEAP_RESOURCE2_SIZE=0; or raise it to 1428 MB", ""},
		{"what the other hint says is enough", []wire.OffheapResource{{Name: "x", Size: 704 * mega}}, 1023, "", ""},
		{"tiny container", built, 64, "OFFHEAP_RESOURCE1_SIZE=16 ", ""},
		{"sizes that overflow", []wire.OffheapResource{{Name: "x", Size: 1 << 63}, {Name: "y", Size: 1 << 63}}, 1 << 30, "OFFHEAP_RESOURCE1_SIZE=", ""},
		{"none", nil, 1, "", ""},
	} {
		var said bytes.Buffer
		cfg := config.Server{Stripe: wire.StripeConfig{OffheapResources: row.list}}
		err := checkMemory(cfg, limit(row.limit), cfg.Logger(&said))
		var f *failure
		switch {
		case row.refused == "" && err != nil:
			t.Errorf("%s: refused: %v", row.name, err)
		case row.refused != "" && (!errors.As(err, &f) || f.code != exitBadRequest || !strings.Contains(f.hint, row.refused)):
			t.Errorf("%s: %v, hint %+v, want %q", row.name, err, f, row.refused)
		case row.refused == "" && (row.warned == "") == strings.Contains(said.String(), "WARN"), !strings.Contains(said.String(), row.warned):
			t.Errorf("%s: said %q, want a warning of %q", row.name, said.String(), row.warned)
		}
		cfg.MemoryMayExceed = true
		if err := checkMemory(cfg, limit(row.limit), cfg.Logger(&said)); err != nil {
			t.Errorf("%s: refused though memory-check is warn: %v", row.name, err)
		}
	}
}

func TestWhatSessionsLeaveIsShared(t *testing.T) {
	for _, row := range []struct{ promised, limit, heap, each uint64 }{ // MB
		{1024, 64 << 10, 64<<10 - 1364, 256}, // a large machine: as much as ever
		{1024, 1408, 352, 88},                // little more than the hint of a refusal says
		{256, 512, 171, 64},
		{1024, 1024, 256, 64}, // nothing is left: a quarter all the same
		{2048, 1024, 256, 64}, // memory-check warn
		{1 << 43, 1024, 256, 64},
		{0, 16, 64, 64},
	} {
		heap, each := shareHeap(row.promised*mega, memoryLimit{size: row.limit * mega})
		if uint64(heap) != row.heap*mega || uint64(each) != row.each*mega {
			t.Errorf("%d MB promised of %d: %d MB of heap, %d each; want %d and %d",
				row.promised, row.limit, heap/mega, each/mega, row.heap, row.each)
		}
	}
}

func TestTheCollectorKnowsItsLimit(t *testing.T) {
	limit, ok := findMemoryLimit(os.DirFS("/"))
	if !ok {
		t.Skip("this system tells no memory limit")
	}
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	cfg := config.Server{Stripe: wire.StripeConfig{OffheapResources: []wire.OffheapResource{{Size: 16 * mega}}}}
	for _, set := range []string{"", "1GiB"} {
		debug.SetMemoryLimit(before)
		t.Setenv("GOMEMLIMIT", set)
		limits := server.Limits{MaxValue: 1}
		limitHeap(cfg, limit, &limits)
		want, each := shareHeap(16*mega, limit)
		if set != "" {
			want = before
		}
		if got := debug.SetMemoryLimit(-1); got != want || limits.MaxInput != each || limits.MaxBehind != each || limits.MaxValue != 1 {
			t.Errorf("GOMEMLIMIT=%q: the limit is %d, want %d; %+v", set, got, want, limits)
		}
	}
}
