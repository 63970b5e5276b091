package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// startTimeout bounds how long a server may take until it answers: with a
// million sessions on disk that is a while.
const startTimeout = 3 * time.Minute

// process is a server that the bench has started and ends.
type process struct {
	cmd  *exec.Cmd
	addr string
	log  tail
}

// start runs a server whose output is kept, and ends it with this process at the latest.
func start(addr string, env []string, name string, args ...string) (*process, error) {
	log, err := newTail()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(name, args...), addr: addr, log: log}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = log.File, log.File
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %q: %w", name, err)
	}
	return p, nil
}

// ready waits until the server answers a PING with the wanted word.
func (p *process) ready(ctx context.Context, want string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		answer, err := ping(p.addr)
		if err == nil && strings.HasPrefix(answer, want) {
			return nil
		}
		if p.cmd.Process.Signal(syscall.Signal(0)) != nil {
			return fmt.Errorf("%s has ended:\n%s", p.cmd.Path, p.log)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer (%q, %v):\n%s", p.cmd.Path, answer, err, p.log)
		case <-tick.C:
		}
	}
}

func ping(addr string) (string, error) {
	nc, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return "", err
	}
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(nc, "PING\r\n"); err != nil {
		return "", err
	}
	return bufio.NewReader(nc).ReadString('\n')
}

// stop ends the server in order and awaits it.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return p.await()
}

// kill ends the server at once and awaits it.
func (p *process) kill() error {
	_ = p.cmd.Process.Kill()
	return p.await()
}

func (p *process) await() error {
	var exit *exec.ExitError
	if err := p.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return err
	}
	return nil
}

// resident returns the process's resident memory in bytes.
func (p *process) resident() (uint64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(status) {
		if f := strings.Fields(string(line)); len(f) == 3 && f[0] == "VmRSS:" {
			kib, err := strconv.ParseUint(f[1], 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("no VmRSS in the process's status")
}

// cpu returns the processor time that the process has used.
func (p *process) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(stat, []byte(") ")) // the name may hold spaces
	f := strings.Fields(string(rest))
	if len(f) < 13 {
		return 0, errors.New("the process's stat is too short")
	}
	user, err1 := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err1, err2) // USER_HZ is 100
}

// tail is what a server has said: a file without a name, which that server writes itself.
type tail struct{ *os.File }

func newTail() (tail, error) {
	f, err := os.CreateTemp("", "bench-*.log")
	if err != nil {
		return tail{}, err
	}
	return tail{f}, os.Remove(f.Name())
}

func (t tail) String() string {
	said, err := io.ReadAll(io.NewSectionReader(t, 0, math.MaxInt64))
	if err != nil {
		return err.Error()
	}
	return string(said)
}

// freeAddr returns an address of the loopback that nobody listens on at the moment.
func freeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

// startRedis starts a Redis with nothing but the given settings.
func startRedis(ctx context.Context, dir string, settings ...string) (*process, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	return startRedisAt(ctx, addr, dir, settings...)
}

func startRedisAt(ctx context.Context, addr, dir string, settings ...string) (*process, error) {
	_, port, _ := net.SplitHostPort(addr)
	args := append([]string{"--bind", "127.0.0.1", "--port", port, "--dir", dir, "--save", ""}, settings...)
	p, err := start(addr, nil, "redis-server", args...)
	if err != nil {
		return nil, err
	}
	if err := p.ready(ctx, "+PONG"); err != nil {
		return nil, errors.Join(err, p.kill())
	}
	return p, nil
}
