package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"time"
)

// process is one program that runs. A goroutine of its own awaits it.
type process struct {
	name  string
	cmd   *exec.Cmd
	ended chan struct{} // closed when the process has ended
	err   error         // how; read it only after ended
}

// start starts a program whose lines appear behind its name. It ends with this
// one, however that ends, where the system knows how to do that.
func (d *demo) start(name string, env []string, program string, args ...string) (*process, error) {
	lines := d.out.lines(name)
	cmd := exec.Command(program, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, lines, lines
	cmd.SysProcAttr = child()
	return launch(name, cmd, lines.flush)
}

// startAlone starts a program that outlives this one and speaks to log.
func startAlone(log io.Writer, env []string, program string, args ...string) (*process, error) {
	cmd := exec.Command(program, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, log, log
	cmd.SysProcAttr = alone()
	return launch("terracotta", cmd, func() {})
}

func launch(name string, cmd *exec.Cmd, after func()) (*process, error) {
	p := &process{name: name, cmd: cmd, ended: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// Linux ends the child with the thread that started it, not with the process:
		// this thread stays as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		after()
		close(p.ended)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// stop asks the process to end and waits for it; nil and ended ones are fine.
func (p *process) stop() { stopAll([]*process{p}) }

// stopAll asks all to end and waits until they have; who takes too long is killed.
func stopAll(list []*process) {
	for _, p := range list {
		select {
		case <-p.ended:
		default:
			if terminate(p.cmd.Process) != nil {
				_ = p.cmd.Process.Kill() // ended by itself, or it can't be asked
			}
		}
	}
	late := time.After(stopWithin)
	for _, p := range list {
		select {
		case <-p.ended:
		case <-late:
			_ = p.cmd.Process.Kill()
			<-p.ended
		}
	}
}

// status returns the exit status, -1 where a signal ended the process.
func (p *process) status() int {
	<-p.ended
	return p.cmd.ProcessState.ExitCode()
}

// awaitExit waits until p ends, and tells it to where ctx ends first.
func awaitExit(ctx context.Context, p *process) error {
	select {
	case <-p.ended:
	case <-ctx.Done():
		p.stop()
	}
	return p.err
}

// awaitEnd waits until ctx ends, or one of the processes, which is an error.
func awaitEnd(ctx context.Context, list []*process) error {
	first := make(chan *process, len(list))
	for _, p := range list {
		go func() { // ends with its process, which the caller stops
			<-p.ended
			first <- p
		}()
	}
	select {
	case <-ctx.Done():
		return nil
	case p := <-first:
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("%s has ended: %w", p.name, orUnexpected(p.err))
	}
}

// orUnexpected is err, or what to say about a process that ended well too early.
func orUnexpected(err error) error {
	if err == nil {
		return errors.New("it was not asked to")
	}
	return err
}
