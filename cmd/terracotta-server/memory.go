package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path"
	"runtime/debug"
	"sort"
	"strconv"
	"strings"

	"github.com/terracotta-go/terracotta/config"
	"github.com/terracotta-go/terracotta/internal/server"
	"github.com/terracotta-go/terracotta/internal/store"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// Sizes here are in bytes; people read them in MB, the unit of the settings.
const (
	mega = 1 << 20
	// ownMemory is what the process needs beside the sessions, whatever their number.
	ownMemory = 64 * mega
)

// memoryLimit is the most memory that this process can have.
type memoryLimit struct {
	size  uint64
	where string // whose limit it is
	raise string // how to raise it, with a %d for megabytes
}

// findMemoryLimit reads the limit of the control group, version 1 or 2, and the
// size of the machine, whichever is less. root is the root of the file system.
// ok is false where neither is told: on other systems than Linux.
func findMemoryLimit(root fs.FS) (limit memoryLimit, ok bool) {
	limit = memoryLimit{where: "this machine", raise: "give the machine %d MB"}
	if doc, err := fs.ReadFile(root, "proc/meminfo"); err == nil {
		for line := range strings.Lines(string(doc)) {
			var kB uint64
			if n, _ := fmt.Sscanf(line, "MemTotal: %d kB", &kB); n == 1 {
				limit.size, ok = kB<<10, true
			}
		}
	}
	doc, _ := fs.ReadFile(root, "proc/self/cgroup")
	for line := range strings.Lines(string(doc)) {
		// hierarchy:controllers:path; version 2 has the line 0::path.
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		mount, file := "", ""
		switch {
		case f[0] == "0" && f[1] == "":
			mount, file = "sys/fs/cgroup", "memory.max"
		case hasWord(f[1], "memory"):
			mount, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		default:
			continue
		}
		if size, found := groupLimit(root, mount, f[2], file); found && (!ok || size < limit.size) {
			limit, ok = memoryLimit{size, "this container", "raise the limit: docker run --memory %dm, in Kubernetes resources.limits.memory"}, true
		}
	}
	return limit, ok
}

func hasWord(list, word string) bool {
	for w := range strings.SplitSeq(list, ",") {
		if w == word {
			return true
		}
	}
	return false
}

// groupLimit returns the least limit of a control group and those above it. In a
// container the group's own path may not be there: then its mount is the group.
func groupLimit(root fs.FS, mount, group, file string) (least uint64, ok bool) {
	for dir := path.Clean("/" + group); ; dir = path.Dir(dir) {
		doc, err := fs.ReadFile(root, path.Join(mount, dir, file))
		if err == nil {
			// Version 2 says max where there is no limit, which is no number.
			if n, err := strconv.ParseUint(strings.TrimSpace(string(doc)), 10, 64); err == nil && (!ok || n < least) {
				least, ok = n, true
			}
		}
		if dir == "/" {
			return least, ok
		}
	}
}

// needed is the memory with which a server serves promised bytes of sessions
// whatever is changed, and whatever snapshots are written meanwhile.
func needed(promised uint64) uint64 { return store.MostMemory(promised) + ownMemory }

// comfortable is how much may be promised to sessions under a limit of size, in whole megabytes.
func comfortable(size uint64) uint64 {
	return uint64(sort.Search(int(min(size, 1<<62)/mega), func(n int) bool { return needed(uint64(n+1)*mega) > size })) * mega
}

// checkMemory compares what the off-heap resources promise with what there is.
// Memory is taken as sessions come, so a promise that is too large ends in the
// kernel's killing the server when it is needed most: it is refused at the
// start, or with memory-check warn told.
func checkMemory(cfg config.Server, limit memoryLimit, log *slog.Logger) error {
	promised := promisedMemory(cfg.Stripe.OffheapResources)
	log.Info("off-heap memory is promised, and taken as sessions come", "promised", megabytes(promised),
		"available", megabytes(limit.size), "of", limit.where, "needed", megabytes(needed(promised)))
	switch {
	case promised > limit.size && !cfg.MemoryMayExceed:
		return &failure{exitBadRequest, errors.New(tooMuch(cfg.Stripe.OffheapResources, limit)), memoryHint(cfg, limit)}
	case promised > limit.size:
		log.Warn(tooMuch(cfg.Stripe.OffheapResources, limit) + ": the kernel will end this server before they are full")
	case promised > comfortable(limit.size):
		log.Warn("the off-heap resources leave little memory for the server itself",
			"promised", megabytes(promised), "available", megabytes(limit.size), "better", megabytes(comfortable(limit.size)))
	}
	return nil
}

// shareHeap divides what the sessions leave of limit, at least a quarter
// of it: the collector starts early enough to stay within (a garbage collector
// otherwise lets a heap double), and what strangers can make us hold of half
// commands and unread answers is a quarter of it each.
func shareHeap(promised uint64, limit memoryLimit) (heap int64, each int) {
	left := limit.size / 4
	if most := store.MostMemory(promised); most < limit.size {
		left = max(left, limit.size-most)
	}
	left = max(left, ownMemory)
	return int64(min(left, math.MaxInt64)), int(min(max(left/4, 64*mega), 256*mega))
}

// limitHeap does so. Whoever has set GOMEMLIMIT has decided about the collector.
func limitHeap(cfg config.Server, limit memoryLimit, limits *server.Limits) {
	heap, each := shareHeap(promisedMemory(cfg.Stripe.OffheapResources), limit)
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(heap)
	}
	limits.MaxInput, limits.MaxBehind = each, each
}

func promisedMemory(list []wire.OffheapResource) (sum uint64) {
	for _, r := range list {
		if sum += r.Size; sum < r.Size {
			return ^uint64(0)
		}
	}
	return sum
}

func tooMuch(list []wire.OffheapResource, limit memoryLimit) string {
	var each []string
	for _, r := range list {
		each = append(each, r.Name+" "+megabytes(r.Size))
	}
	return fmt.Sprintf("the off-heap resources promise %s (%s), and %s has %s of memory",
		megabytes(promisedMemory(list)), strings.Join(each, ", "), limit.where, megabytes(limit.size))
}

// memoryHint names what to change: numbers that fit, in the form that was used.
func memoryHint(cfg config.Server, limit memoryLimit) string {
	fits := max(comfortable(limit.size)/mega/16*16, 16)
	smaller := fmt.Sprintf("make the resources smaller, together at most %d MB, in the configuration file", fits)
	if cfg.ConfigFile == "" {
		smaller = fmt.Sprintf("set OFFHEAP_RESOURCE1_UNIT=MB OFFHEAP_RESOURCE1_SIZE=%d OFFHEAP_RESOURCE2_SIZE=0", fits)
	}
	need := (needed(promisedMemory(cfg.Stripe.OffheapResources)) + mega - 1) / mega
	return smaller + "; or " + fmt.Sprintf(limit.raise, need) + "; or, if you know better, set TC_MEMORY_CHECK=warn"
}

// megabytes writes a size for people; small ones are never written as nothing.
func megabytes(n uint64) string {
	if n < mega && n > 0 {
		return strconv.FormatUint((n+1023)>>10, 10) + " kB"
	}
	return strconv.FormatUint(n/mega, 10) + " MB"
}
