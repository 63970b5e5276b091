package stripe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// runningFile holds, while a server with EverySecond runs, which start of the
// machine that is. Where it is found and names another one, the machine crashed
// under the server, and the disk may have forgotten what the server had agreed to,
// votes included. Such a server must not come back under its identity: together
// with one that lags it could elect a server that lacks what was acknowledged.
const runningFile = "running"

// bootID names this start of the machine; "" where the system does not tell.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// renewForgetful sets the state of a server aside whose machine crashed, if an
// active server of its stripe answers, which has everything. Where none does,
// most likely all machines crashed together: then the state is the best there is.
func (s *Stripe) renewForgetful(boot string) error {
	b, err := os.ReadFile(filepath.Join(s.cfg.Dir, runningFile))
	was := strings.TrimSpace(string(b))
	if errors.Is(err, fs.ErrNotExist) || was == boot || boot == "" {
		return nil
	}
	if err != nil {
		return explain(s.cfg.Dir, err)
	}
	root, err := openDataRoot(s.cfg.Dir)
	if err != nil {
		return err
	}
	stripe, err := readBelonging(s.cfg.Dir, root.ID)
	if err := errors.Join(err, root.close()); err != nil || stripe == "" {
		return err
	}
	active := s.findActive(stripe, root.ID)
	if active == "" {
		s.log.Warn("the machine crashed under this server, and no active server answers: it starts from what is on its disk; changes of the last second may be missing")
		return nil
	}
	s.log.Warn("the machine crashed under this server, which syncs once a second: its state is set aside, and it joins anew", "active", active)
	if err := orderRenewal(s.cfg.Dir, "the machine crashed with durability "+string(EverySecond)); err != nil {
		return explain(s.cfg.Dir, err)
	}
	return nil
}

// findActive asks the other configured servers, before this one has opened
// anything, and returns the active one's name; "" where there is none.
func (s *Stripe) findActive(stripe, id string) string {
	self := s.self()
	self.Stripe, self.ID = stripe, id
	names := make(chan string)
	n := 0
	for _, m := range s.cfg.Members {
		if m.Name == s.cfg.Self {
			continue
		}
		n++
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), handshakePatience)
			defer cancel()
			name := ""
			var d net.Dialer
			if conn, err := d.DialContext(ctx, "tcp", m.GroupAddr); err == nil {
				v, err := meet(conn, handshakePatience, s.cfg.Secret, hello{Purpose: forAsk, peer: self})
				if err == nil && v.Answer != nil && v.Answer.Stripe == stripe && v.Answer.Active != nil && v.Answer.Active.ID != id {
					name = v.Answer.Active.Name
				}
				conn.Close()
			}
			names <- name
		}()
	}
	var found []string
	for range n {
		if name := <-names; name != "" {
			found = append(found, name)
		}
	}
	if len(found) == 0 {
		return ""
	}
	return slices.Max(found)
}

// markRunning notes on which start of the machine this server runs.
func (s *Stripe) markRunning(boot string) error {
	if boot == "" {
		return nil
	}
	if err := writeAtomic(filepath.Join(s.cfg.Dir, runningFile), fmt.Appendln(nil, boot)); err != nil {
		return explain(s.cfg.Dir, err)
	}
	s.marked = true
	return nil
}

// unmarkRunning says that all is on disk.
func (s *Stripe) unmarkRunning() {
	if s.marked {
		os.Remove(filepath.Join(s.cfg.Dir, runningFile))
	}
}
