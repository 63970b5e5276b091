package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/testcluster"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// configure returns when all servers are in service, and says whom it waits for.
func TestConfigureWaitsUntilServersHaveJoined(t *testing.T) {
	l, env, _ := licensed(t)
	a, b := pair(t)
	a.joins = map[string]string{"tc2": wire.StateSynchronizing}
	out, errs := &testcluster.Output{}, &testcluster.Output{}
	exit := make(chan int)
	go func() {
		exit <- run(t.Context(), []string{"configure", "-n", "A", "-l", l, "-s", a.addr, "-s", b.addr}, env, strings.NewReader(""), out, errs)
	}()
	until(t, func() bool { return strings.Contains(errs.String(), "waiting for tc2: SYNCHRONIZING to join") })
	if strings.Contains(out.String(), "successful") {
		t.Errorf("it says success too early: %s", out)
	}
	a.mu.Lock()
	a.status.Members[1].State = wire.StatePassive
	a.mu.Unlock()
	ran{<-exit, out.String(), errs.String()}.want(t, codeSuccess, "Configuration successful", "Command completed successfully.")
}

func TestConfigureServerThatDoesNotJoin(t *testing.T) {
	t.Parallel() // it waits for its time-out
	l, env, _ := licensed(t)
	a, b := pair(t)
	a.joins = map[string]string{"tc2": wire.StateUnreachable}
	runTool(t, env, "-t", "3000", "configure", "-n", "A", "-l", l, "-s", a.addr, "-s", b.addr).
		want(t, codePartial, "Error (PARTIAL_FAILURE)", "is configured, but not all of its servers have joined within 3s: tc2: UNREACHABLE", "configure may be repeated")
}

// A server that was not named must run the same as the one that was.
func TestConfigureMeetsTheServersThatAreNotNamed(t *testing.T) {
	l, env, _ := licensed(t)
	a, b := pair(t)
	b.status.Running.OffheapResources = []wire.OffheapResource{{Name: "offheap-1", Size: 1 << 30}}
	runTool(t, env, "configure", "-n", "A", "-l", l, "-s", a.addr).
		want(t, codeBadRequest, "Mismatched off-heap resources", `"offheap-1" of 512M`, `"offheap-1" of 1G`)
	if len(a.asked) > 0 {
		t.Error("a server was configured all the same")
	}
}

func (f *fakeServer) order(into *[]string, name string) {
	stop := f.stop
	f.stop = func() { *into = append(*into, name); stop() }
}

// The last to stop is the one that has everything, and nobody hands over to a
// server that is about to stop.
func TestShutdownStopsPassivesFirst(t *testing.T) {
	for _, command := range []string{"shutdown", "stop"} {
		a, b := pair(t)
		join("A", "sum", a, b)
		var order []string
		a.order(&order, "active")
		b.order(&order, "passive")
		deed := map[string]string{"shutdown": "Shutdown", "stop": "Stop"}[command]
		runTool(t, nil, command, "-n", "A", "-s", a.addr).
			want(t, codeSuccess, a.addr+": "+deed+" successful", b.addr+": "+deed+" successful")
		if !slices.Equal(order, []string{"passive", "active"}) {
			t.Errorf("%s: the order is %v", command, order)
		}
		if got := fmt.Sprint(a.stops, b.stops); got != "[CLUSTER] [CLUSTER]" {
			t.Errorf("%s: they were told %s", command, got)
		}
	}
	a, _ := pair(t)
	runTool(t, nil, "stop", "-s", a.addr).want(t, codeSuccess, a.addr+": Stop successful")
	if fmt.Sprint(a.stops) != "[]" && fmt.Sprint(a.stops) != "[ ]" && len(a.stops[0]) > 0 {
		t.Errorf("one server of several was told %q", a.stops)
	}
}

func TestShutdownOfAClusterOneServerOfWhichIsDown(t *testing.T) {
	a, b := pair(t)
	join("A", "sum", a, b)
	b.stop()
	runTool(t, nil, "shutdown", "-n", "A", "-s", a.addr).
		want(t, codePartial, a.addr+": Shutdown successful", b.addr+": Shutdown failed: connection refused", "shutdown failed on 1 of 2 servers")
	runTool(t, nil, "shutdown", "-s", a.addr).want(t, codeBadRequest, "option -n NAME is missing")
}

func TestPromote(t *testing.T) {
	a, b := pair(t)
	a.answers = map[string]func([][]byte) []byte{wire.CmdPromote: func([][]byte) []byte { return resp.AppendSimple(nil, "OK") }}
	runTool(t, nil, "promote", "-s", a.addr).want(t, codeSuccess, a.addr+": Promote successful", "Command completed successfully.")
	b.answers = map[string]func([][]byte) []byte{wire.CmdPromote: func([][]byte) []byte {
		return resp.AppendError(nil, "BADREQUEST this server is not suspended: it is PASSIVE")
	}}
	runTool(t, nil, "promote", b.addr).want(t, codeBadRequest, "Error (BAD_REQUEST): server "+b.addr+": this server is not suspended: it is PASSIVE")
	runTool(t, nil, "promote", "-s", a.addr, "-s", b.addr).want(t, codeBadRequest, "2 servers are named, and one is promoted at a time")
	runTool(t, nil, "promote", nowhere(t)).want(t, codeBadGateway, "connection refused")
}

func dumping(args [][]byte) []byte {
	if string(args[1]) == "TEXT" {
		return resp.AppendSimple(resp.AppendSimple(resp.AppendArrayHeader(nil, 2), "state:       ACTIVE"), "process:     pid 1")
	}
	return resp.AppendBulkString(nil, `{"engine":{"role":"ACTIVE"}}`)
}

func TestDump(t *testing.T) {
	a, b := pair(t)
	join("A", "sum", a, b)
	a.answers = map[string]func([][]byte) []byte{wire.CmdDump: dumping}
	b.answers = a.answers
	runTool(t, nil, "dump", "-n", "A", "-s", a.addr).want(t, codeSuccess, a.addr+": Dump successful", b.addr+": Dump successful")
	if got := fmt.Sprint(a.told, b.told); got != "[TC.DUMP JSON LOG] [TC.DUMP JSON LOG]" {
		t.Errorf("they were told %s", got)
	}
	runTool(t, nil, "dump", "-o", "text", a.addr).want(t, codeSuccess, "  state:       ACTIVE\n", "  process:     pid 1\n")
	r := runTool(t, nil, "dump", "-o", "json", a.addr, b.addr)
	var doc map[string]wire.Dump
	if err := json.Unmarshal([]byte(r.out), &doc); err != nil || doc[a.addr].Engine.Role != "ACTIVE" || doc[b.addr].Engine.Role != "ACTIVE" {
		t.Errorf("JSON: %v\n%s", err, r.out)
	}
	runTool(t, nil, "dump", a.addr, nowhere(t)).want(t, codePartial, a.addr+": Dump successful", "dump failed on 1 of 2 servers")
	runTool(t, nil, "dump", "-o", "xml", a.addr).want(t, codeBadRequest, `output form "xml" is neither json nor text`)
	b.answers = map[string]func([][]byte) []byte{wire.CmdDump: func([][]byte) []byte { return resp.AppendBulkString(nil, "{") }}
	runTool(t, nil, "dump", "-o", "json", b.addr).want(t, codeFailure, "the answer is not one document")
}

// backing answers the steps of a backup; refuse names the one that fails.
func backing(refuse, text string) map[string]func([][]byte) []byte {
	return map[string]func([][]byte) []byte{wire.CmdBackup: func(args [][]byte) []byte {
		switch step := string(args[1]); {
		case step == refuse:
			return resp.AppendError(nil, text)
		case step == wire.BackupStart:
			return resp.AppendBulkString(nil, `{"file":"/data/backups/A.tcbackup","bytes":42,"sha256":"ab"}`)
		}
		return resp.AppendBulkString(nil, "{}")
	}}
}

func TestBackupPhases(t *testing.T) {
	a, b := pair(t)
	join("A", "sum", a, b)
	a.answers = backing("", "")
	r := runTool(t, nil, "backup", "-n", "A", "-s", b.addr)
	r.want(t, codeSuccess, "PHASE 0: SETTING BACKUP NAME TO : A-20", "PHASE (1/3): PREPARE_FOR_BACKUP\n"+b.addr+": NOOP\n"+a.addr+": SUCCESS\n",
		"PHASE (2/3): ENTER_ONLINE_BACKUP_MODE\n"+a.addr+": SUCCESS\n", "PHASE (3/3): START_BACKUP\n"+a.addr+": SUCCESS\n",
		a.addr+": /data/backups/A.tcbackup, 42 bytes, SHA-256 ab", "Command completed successfully.")
	if len(b.told) > 0 || len(a.told) != 3 {
		t.Errorf("told: %q %q", a.told, b.told)
	}
	runTool(t, nil, "backup", "-n", "Other", "-s", b.addr).want(t, codeConflict)
}

func TestBackupThatFailsIsCleanedUp(t *testing.T) {
	a, b := pair(t)
	join("A", "sum", a, b)
	a.answers = backing(wire.BackupStart, "ERR backup file: no space left on device")
	runTool(t, nil, "backup", "-n", "A", "-s", a.addr).
		want(t, codeInternal, "PHASE (3/3): START_BACKUP\n"+a.addr+": FAILURE\n", "PHASE (CLEANUP): ABORT_BACKUP\n"+a.addr+": SUCCESS\n",
			"Error (INTERNAL_ERROR): backup failed on "+a.addr+": backup file: no space left on device")
	if last := a.told[len(a.told)-1]; !strings.HasPrefix(last, "TC.BACKUP ABORT A-") {
		t.Errorf("it ends with %q", last)
	}
	a.answers = map[string]func([][]byte) []byte{wire.CmdBackup: func([][]byte) []byte { return resp.AppendBulkString(nil, "no document") }}
	runTool(t, nil, "backup", "-n", "A", "-s", a.addr).want(t, codeInternal, "the answer to PREPARE is not one document", "could not be cleaned up")
	a.status.State = wire.StateStartSuspended
	runTool(t, nil, "-t", "2000", "backup", "-n", "A", "-s", a.addr).want(t, codeBadGateway, "waiting for an active server", "stripe 1 has no active server that answers", wire.StateStartSuspended)
}
