package server

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// This file holds the commands that make any Redis client and redis-cli feel
// at home: they ask nothing of the rooms below but their status.

func (c *conn) ping(args [][]byte) {
	switch len(args) {
	case 0:
		c.inline = resp.AppendSimple(c.inline, "PONG")
	case 1:
		c.inline = resp.AppendBulk(c.inline, args[0])
	default:
		c.refuse(wire.ErrBadRequest, "wrong number of arguments; usage: PING [message]")
	}
}

func (c *conn) echo(args [][]byte) { c.inline = resp.AppendBulk(c.inline, args[0]) }

func (c *conn) goodbye([][]byte) {
	c.ok()
	c.leaving = true
}

func (c *conn) choose(args [][]byte) {
	if string(args[0]) != "0" {
		c.refuse(wire.ErrGeneric, "there is only database 0")
		return
	}
	c.ok()
}

// auth checks AUTH [username] password.
func (c *conn) auth(args [][]byte) {
	if len(args) > 2 {
		c.refuse(wire.ErrBadRequest, "wrong number of arguments; usage: AUTH [username] password")
		return
	}
	user, password := []byte("default"), args[len(args)-1]
	if len(args) == 2 {
		user = args[0]
	}
	if c.login(user, password) {
		c.ok()
	}
}

// login lets the peer in, or answers why not. Guessing is made slow, and a
// connection that guesses is cut off.
func (c *conn) login(user, password []byte) bool {
	if c.srv.cfg.Password == "" {
		// Saying OK would let somebody believe that the secret protects.
		c.refuse(wire.ErrWrongPass, "this server has no password set: connect without one, or set TC_PASSWORD_FILE for the server")
		return false
	}
	sum := sha256.Sum256(password)
	if subtle.ConstantTimeCompare(sum[:], c.srv.password[:]) == 1 && string(user) == "default" {
		c.authed, c.failures = true, 0
		c.rd.SetLimits(c.srv.cfg.Limits.input())
		return true
	}
	c.failures++
	c.srv.rejects.warn("wrong password", "peer", c.nc.RemoteAddr(), "attempt", c.failures)
	select {
	case <-time.After(c.srv.cfg.Limits.AuthDelay):
	case <-c.srv.ctx.Done():
	}
	c.refuse(wire.ErrWrongPass, "the user name or password is not this cluster's (the user name is default)")
	c.leaving = c.failures >= maxAuthFailures
	return false
}

// hello answers HELLO [version [AUTH username password] [SETNAME name]]. Nothing
// is changed where an argument is wrong.
func (c *conn) hello(args [][]byte) {
	proto, name := c.proto, ""
	var credentials [][]byte
	if len(args) > 0 {
		switch string(args[0]) {
		case "2", "3":
			proto = int(args[0][0] - '0')
		default:
			c.inline = resp.AppendError(c.inline, "NOPROTO unsupported protocol version; this server speaks 2 and 3")
			return
		}
		for rest := args[1:]; len(rest) > 0; {
			switch option := strings.ToUpper(string(rest[0])); {
			case option == "AUTH" && len(rest) >= 3:
				credentials, rest = rest[1:3], rest[3:]
			case option == "SETNAME" && len(rest) >= 2:
				name, rest = string(rest[1]), rest[2:]
			default:
				c.refuse(wire.ErrBadRequest, "usage: "+byName["HELLO"].usage())
				return
			}
		}
	}
	if !validName(name) {
		c.refuse(wire.ErrBadRequest, badName)
		return
	}
	if credentials != nil && !c.login(credentials[0], credentials[1]) {
		return
	}
	if !c.authed {
		c.refuse(wire.ErrNoAuth, needAuth)
		return
	}
	c.proto = proto
	if name != "" {
		c.setName(name)
	}
	c.inline = resp.AppendMapHeader(c.inline, c.proto, 7)
	text := func(key, value string) {
		c.inline = resp.AppendBulkString(resp.AppendBulkString(c.inline, key), value)
	}
	text("server", "terracotta")
	text("version", c.srv.cfg.Version)
	c.inline = resp.AppendInt(resp.AppendBulkString(c.inline, "proto"), int64(c.proto))
	c.inline = resp.AppendInt(resp.AppendBulkString(c.inline, "id"), int64(c.id))
	text("mode", "standalone")
	text("role", c.srv.role())
	c.inline = resp.AppendArrayHeader(resp.AppendBulkString(c.inline, "modules"), 0)
}

const badName = "a name has at most 64 printable characters and no space"

func validName(s string) bool {
	if len(s) > 64 {
		return false
	}
	for _, b := range []byte(s) {
		if b <= ' ' || b > '~' {
			return false
		}
	}
	return true
}

func (c *conn) setName(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.about.name = name
}

// client answers CLIENT and its subcommands.
func (c *conn) client(args [][]byte) {
	sub := strings.ToUpper(string(args[0][:min(len(args[0]), 16)]))
	switch args = args[1:]; {
	case sub == "ID" && len(args) == 0:
		c.inline = resp.AppendInt(c.inline, int64(c.id))
	case sub == "GETNAME" && len(args) == 0:
		c.mu.Lock()
		name := c.about.name
		c.mu.Unlock()
		if name == "" {
			c.inline = resp.AppendNull(c.inline, c.proto)
			return
		}
		c.inline = resp.AppendBulkString(c.inline, name)
	case sub == "SETNAME" && len(args) == 1:
		if !validName(string(args[0])) {
			c.refuse(wire.ErrBadRequest, badName)
			return
		}
		c.setName(string(args[0]))
		c.ok()
	case sub == "SETINFO" && len(args) == 2:
		c.setInfo(string(args[0]), string(args[1]))
	case sub == "INFO" && len(args) == 0:
		c.inline = resp.AppendVerbatim(c.inline, c.proto, c.line())
	case sub == "LIST" && len(args) == 0:
		var b strings.Builder
		for _, other := range c.srv.connections() {
			b.WriteString(other.line())
		}
		c.inline = resp.AppendVerbatim(c.inline, c.proto, b.String())
	case (sub == "NO-EVICT" || sub == "NO-TOUCH") && len(args) == 1:
		c.ok() // nothing is ever evicted here, and a console's read is no access
	default:
		c.refuse(wire.ErrGeneric, fmt.Sprintf("CLIENT %s is not known here, or has other arguments; usage: %s",
			printable(sub), byName["CLIENT"].usage()))
	}
}

func (c *conn) setInfo(what, value string) {
	if !validName(value) {
		c.refuse(wire.ErrBadRequest, badName)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch strings.ToUpper(what) {
	case "LIB-NAME":
		c.about.lib = value
	case "LIB-VER":
		c.about.libVersion = value
	default:
		c.refuse(wire.ErrBadRequest, "CLIENT SETINFO knows LIB-NAME and LIB-VER")
		return
	}
	c.ok()
}

// line describes the connection as CLIENT LIST does. Any goroutine may call it.
func (c *conn) line() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := ""
	if c.about.last != nil {
		last = strings.ToLower(c.about.last.name)
	}
	return fmt.Sprintf("id=%d addr=%s laddr=%s name=%s age=%d node=%s cmd=%s lib-name=%s lib-ver=%s waiting=%d omem=%d\n",
		c.id, c.nc.RemoteAddr(), c.nc.LocalAddr(), c.about.name, int(time.Since(c.since).Seconds()), c.about.node,
		last, c.about.lib, c.about.libVersion, len(c.queue)-c.first, c.held)
}

// info answers INFO [section ...].
func (c *conn) info(args [][]byte) {
	want := make(map[string]bool, len(args))
	for _, a := range args {
		want[strings.ToLower(string(a))] = true
	}
	all := len(args) == 0 || want["all"] || want["default"] || want["everything"]
	s := c.srv
	var b strings.Builder
	section := func(name string, pairs ...any) {
		if !all && !want[strings.ToLower(name)] {
			return
		}
		if b.Len() > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString("# " + name + "\r\n")
		for i := 0; i+1 < len(pairs); i += 2 {
			// redis-cli shows this as it stands, and names are anybody's bytes.
			b.WriteString(printable(fmt.Sprint(pairs[i])) + ":" + printable(fmt.Sprint(pairs[i+1])) + "\r\n")
		}
	}
	st := s.stripe.Status()
	uptime := time.Since(s.started)
	section("Server", "terracotta_version", s.cfg.Version, "redis_version", redisLevel, "redis_mode", "standalone", "server_name", s.cfg.Self.Name, "tcp_port", s.cfg.Self.Port,
		"uptime_in_seconds", int(uptime.Seconds()), "uptime_in_days", int(uptime.Hours()/24))
	section("Clients", "connected_clients", s.Connections(), "maxclients", s.cfg.Limits.MaxConnections, "nodes", len(s.store.Nodes()))
	section("Stripe", "state", s.state(st), "server_id", st.ServerID, "formed", yesNo(st.Formed), "term", st.Term,
		"log_index", st.LogIndex, "applied", st.Applied, "durability", s.cfg.Durability, "disk_error", st.DiskError)
	var offheap, datasets []any
	for _, o := range s.store.Offheap() {
		offheap = append(offheap, o.Name, "size="+strconv.FormatUint(o.Size, 10)+",used="+strconv.FormatUint(o.Used, 10))
	}
	for _, d := range s.store.Datasets() {
		datasets = append(datasets, d.Name, fmt.Sprintf("sessions=%d,bytes=%d,offheap=%s", d.Sessions, d.Bytes, d.Offheap))
	}
	section("Replication", s.replication()...)
	section("Offheap", offheap...)
	section("Datasets", datasets...)
	if n, err := s.store.RedisSize(); err == nil && n > 0 {
		section("Keyspace", "db0", fmt.Sprintf("keys=%d,expires=0,avg_ttl=0", n))
	}
	c.inline = resp.AppendVerbatim(c.inline, c.proto, b.String())
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// redisLevel is the version of Redis whose answers the commands on keys are compared with: clients
// read it in INFO to learn what they may ask for.
const redisLevel = "7.0.15"

// config answers CONFIG GET with the few settings that Redis's own tools ask for.
func (c *conn) config(args [][]byte) {
	if !is(args[0], "GET") || len(args) < 2 {
		c.refuse(wire.ErrGeneric, "only CONFIG GET is known here: settings come from the server's configuration, see docs/settings.md")
		return
	}
	var found []string
	for _, s := range [...][2]string{{"appendonly", "yes"}, {"databases", "1"}, {"maxmemory", "0"}, {"maxmemory-policy", "noeviction"}, {"save", ""}} {
		for _, pattern := range args[1:min(len(args), 17)] {
			steps := 1 << 10
			if len(pattern) <= 64 && matchGlob(bytes.ToLower(pattern), []byte(s[0]), &steps) {
				found = append(found, s[0], s[1])
				break
			}
		}
	}
	c.inline = resp.AppendMapHeader(c.inline, c.proto, len(found)/2)
	for _, s := range found {
		c.inline = resp.AppendBulkString(c.inline, s)
	}
}
