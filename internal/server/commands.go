package server

import (
	"fmt"
	"strings"

	"github.com/terracotta-go/terracotta/internal/resp"
	"github.com/terracotta-go/terracotta/internal/wire"
)

// command is one row of the command table.
type command struct {
	name    string
	args    string // as TC.HELP and COMMAND DOCS show them
	summary string
	group   string // for COMMAND DOCS
	flags   []string
	arity   int    // with the name; negative: at least; 0: the command checks itself
	anybody bool   // allowed before AUTH
	cluster bool   // needs a configured cluster, and refuses while stopping
	redis   bool   // works on keys, and speaks of errors as Redis does
	keys    [3]int // which arguments are keys: first, last, step; zero: none
	run     func(c *conn, args [][]byte)
}

func (cmd *command) usage() string {
	if cmd.args == "" {
		return cmd.name
	}
	return cmd.name + " " + cmd.args
}

// table lists all commands in the order of TC.HELP; byName finds them. They
// are filled by init because some commands show the table.
var (
	table  []command
	byName map[string]*command // upper-case name -> row of table
)

func init() {
	table = []command{
		{name: "TC.HELP", summary: "List the commands of this server", group: "console", arity: -1, run: (*conn).help},
		{name: wire.CmdStatus, args: "[JSON | TEXT]", summary: "Tell how this server and its cluster are doing", group: "administration",
			arity: -1, run: (*conn).status},
		{name: wire.CmdConfigure, args: "request", summary: "Form the cluster and install its licence (use cluster-tool configure)", group: "administration",
			arity: 2, flags: []string{"write"}, run: (*conn).runConfigure},
		{name: wire.CmdDump, args: "[JSON | TEXT] [LOG]", summary: "Tell all about this server for whoever looks for a fault, or have it log that", group: "administration",
			arity: -1, flags: []string{"admin"}, run: (*conn).dump},
		{name: wire.CmdBackup, args: "PREPARE | ENTER | START | ABORT name", summary: "Back this stripe up in steps (use cluster-tool backup)", group: "administration",
			arity: 3, flags: []string{"admin"}, run: (*conn).backup},
		{name: wire.CmdPromote, summary: "Make a suspended server go on alone (use cluster-tool promote)", group: "administration",
			arity: 1, flags: []string{"admin"}, run: (*conn).promote},
		{name: wire.CmdStop, args: "[CLUSTER]", summary: "Stop this server in order, or as one of all those of its stripe", group: "administration", arity: -1, flags: []string{"admin"}, run: (*conn).stop},
		{name: wire.CmdJoin, args: "version node generation low label", summary: "Open a connection generation of an application node", group: "sessions",
			arity: 6, cluster: true, flags: []string{"write"}, run: (*conn).join},
		{name: wire.CmdLeave, args: "node", summary: "End an application node in order", group: "sessions",
			arity: 2, cluster: true, flags: []string{"write"}, run: (*conn).leave},
		{name: wire.CmdOpen, args: "dataset offheap disk concurrency tags none|session", summary: "Open a dataset, make it where missing", group: "sessions",
			arity: 7, cluster: true, flags: []string{"write"}, run: (*conn).open},
		{name: wire.CmdLoad, args: "dataset key [node R|P|O]", summary: "Read a session; without node and mode labelled, for people", group: "sessions",
			arity: -3, cluster: true, flags: []string{"readonly", "fast"}, run: (*conn).load},
		{name: wire.CmdCreate, args: "dataset key node seq low token idle-ms absolute-ms user n [name value ...]", summary: "Create a session", group: "sessions",
			arity: -11, cluster: true, flags: []string{"write"}, run: (*conn).create},
		{name: wire.CmdCommit, args: "dataset key node seq low token idle-ms n [name value ...] m [name ...]", summary: "Change attributes of a session", group: "sessions",
			arity: -10, cluster: true, flags: []string{"write"}, run: (*conn).commit},
		{name: wire.CmdInvalidate, args: "dataset key node seq low token reason", summary: "End a session for good", group: "sessions",
			arity: 8, cluster: true, flags: []string{"write"}, run: (*conn).invalidate},
		{name: wire.CmdRenew, args: "dataset key node seq low token newkey grace-ms [USER user]", summary: "Give a session a new key, and perhaps a user", group: "sessions",
			arity: -9, cluster: true, flags: []string{"write"}, run: (*conn).renew},
		{name: wire.CmdUser, args: "dataset user", summary: "List the sessions of a user", group: "sessions",
			arity: 3, cluster: true, flags: []string{"readonly"}, run: (*conn).user},

		{name: "AUTH", args: "[username] password", summary: "Show the shared secret", group: "connection", arity: -2, anybody: true, run: (*conn).auth},
		{name: "CLIENT", args: "ID | GETNAME | SETNAME name | SETINFO what value | INFO | LIST", summary: "Tell and ask about connections", group: "connection", arity: -2, run: (*conn).client},
		{name: "COMMAND", args: "[COUNT | LIST | INFO [name ...] | DOCS [name ...]]", summary: "Tell about the commands", group: "console", arity: -1, run: (*conn).command},
		{name: "ECHO", args: "message", summary: "Answer with the message", group: "connection", arity: 2, flags: []string{"fast"}, run: (*conn).echo},
		{name: "HELLO", args: "[2 | 3 [AUTH username password] [SETNAME name]]", summary: "Choose the protocol", group: "connection", arity: -1, anybody: true, run: (*conn).hello},
		{name: "INFO", args: "[section ...]", summary: "Tell about the server in lines of text", group: "console", arity: -1, run: (*conn).info},
		{name: "PING", args: "[message]", summary: "Answer PONG, or the message", group: "connection", arity: -1, flags: []string{"fast"}, run: (*conn).ping},
		{name: "QUIT", summary: "Close the connection", group: "connection", arity: -1, anybody: true, run: (*conn).goodbye},
		{name: "SELECT", args: "0", summary: "Accept database 0, the only one", group: "connection", arity: 2, flags: []string{"fast"}, run: (*conn).choose},
		{name: "CONFIG", args: "GET pattern [pattern ...]", summary: "Tell the settings that Redis's own tools ask for", group: "server", arity: -2, run: (*conn).config},
	}
	table = append(table, redisCommands()...)
	byName = make(map[string]*command, len(table))
	for i := range table {
		byName[table[i].name] = &table[i]
	}
}

// lookup finds a command by its name in any case, or nil.
func lookup(name []byte) *command {
	var upper [16]byte
	if len(name) > len(upper) {
		return nil
	}
	for i, b := range name {
		if 'a' <= b && b <= 'z' {
			b -= 'a' - 'A'
		}
		upper[i] = b
	}
	return byName[string(upper[:len(name)])] // no allocation: the compiler knows this form
}

// unknownCommand explains, with the nearest name where one is near.
func unknownCommand(name []byte) string {
	shown := strings.ToUpper(string(name[:min(len(name), 32)]))
	best, distance := "", 4
	for i := range table {
		if d := editDistance(shown, table[i].name); d < distance {
			best, distance = table[i].name, d
		}
	}
	text := "unknown command '" + printable(shown) + "'"
	if best != "" && distance*2 <= len(shown) {
		return text + "; did you mean " + best + "?"
	}
	return text + "; TC.HELP lists the commands"
}

// printable replaces what must not reach a terminal or a log line.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// editDistance counts insertions, deletions and replacements (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// help answers one line per command: simple strings, which redis-cli shows
// without quotes.
func (c *conn) help([][]byte) {
	c.inline = resp.AppendArrayHeader(c.inline, len(table))
	for i := range table {
		c.inline = resp.AppendSimple(c.inline, table[i].usage()+" -- "+table[i].summary)
	}
}

// command answers COMMAND and its subcommands, from which redis-cli makes its
// hints and clients learn which arguments are keys.
func (c *conn) command(args [][]byte) {
	sub := "INFO"
	if len(args) > 0 {
		sub = strings.ToUpper(string(args[0]))
		args = args[1:]
	}
	if len(args) > len(table) { // an answer is a hundred times its question
		c.refuse(wire.ErrBadRequest, fmt.Sprintf("%d names; at most %d are allowed, and without any all commands are told of", len(args), len(table)))
		return
	}
	switch sub {
	case "COUNT":
		c.inline = resp.AppendInt(c.inline, int64(len(table)))
	case "LIST":
		c.inline = resp.AppendArrayHeader(c.inline, len(table))
		for i := range table {
			c.inline = resp.AppendBulkString(c.inline, strings.ToLower(table[i].name))
		}
	case "INFO":
		list := chosen(args)
		c.inline = resp.AppendArrayHeader(c.inline, len(list))
		for _, cmd := range list {
			c.inline = cmd.appendInfo(c.inline, c.proto)
		}
	case "DOCS":
		var list []*command
		for _, cmd := range chosen(args) {
			if cmd != nil {
				list = append(list, cmd)
			}
		}
		c.inline = resp.AppendMapHeader(c.inline, c.proto, len(list))
		for _, cmd := range list {
			c.inline = resp.AppendBulkString(c.inline, strings.ToLower(cmd.name))
			c.inline = cmd.appendDocs(c.inline, c.proto)
		}
	default:
		c.refuse(wire.ErrGeneric, "unknown subcommand; usage: "+byName["COMMAND"].usage())
	}
}

// chosen returns the named commands, nil for unknown ones; all without names.
func chosen(names [][]byte) []*command {
	var list []*command
	if len(names) == 0 {
		for i := range table {
			list = append(list, &table[i])
		}
	}
	for _, n := range names {
		list = append(list, lookup(n))
	}
	return list
}

// appendInfo appends name, arity, flags, first key, last key, step.
func (cmd *command) appendInfo(dst []byte, proto int) []byte {
	if cmd == nil {
		return resp.AppendNull(dst, proto)
	}
	dst = resp.AppendArrayHeader(dst, 6)
	dst = resp.AppendBulkString(dst, strings.ToLower(cmd.name))
	arity := cmd.arity
	if arity == 0 {
		arity = -1
	}
	dst = resp.AppendInt(dst, int64(arity))
	flags := cmd.flags
	if cmd.anybody {
		flags = append(flags[:len(flags):len(flags)], "no_auth")
	}
	dst = resp.AppendSetHeader(dst, proto, len(flags))
	for _, f := range flags {
		dst = resp.AppendSimple(dst, f)
	}
	for _, n := range cmd.keys { // a session's key is none in the sense of the Redis slots
		dst = resp.AppendInt(dst, int64(n))
	}
	return dst
}

// appendDocs appends what COMMAND DOCS tells of one command. The arguments go
// as one plain text, which redis-cli prints behind the name as it stands.
func (cmd *command) appendDocs(dst []byte, proto int) []byte {
	n := 3
	if cmd.args != "" {
		n++
	}
	dst = resp.AppendMapHeader(dst, proto, n)
	for _, pair := range [][2]string{{"summary", cmd.summary}, {"since", "10.4.0"}, {"group", cmd.group}} {
		dst = resp.AppendBulkString(dst, pair[0])
		dst = resp.AppendBulkString(dst, pair[1])
	}
	if cmd.args != "" {
		dst = resp.AppendBulkString(dst, "arguments")
		dst = resp.AppendArrayHeader(dst, 1)
		dst = resp.AppendMapHeader(dst, proto, 3)
		for _, pair := range [][2]string{{"name", cmd.args}, {"type", "string"}, {"display_text", cmd.args}} {
			dst = resp.AppendBulkString(dst, pair[0])
			dst = resp.AppendBulkString(dst, pair[1])
		}
	}
	return dst
}
