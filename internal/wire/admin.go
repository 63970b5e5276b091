package wire

import "time"

// The documents of servers among themselves and of those who look after them.

// MemberStatus is a server of the stripe as another one sees it. The active
// knows all of it, a passive what it has heard.
type MemberStatus struct {
	Name      string `json:"name"`
	Address   string `json:"address"`             // host:port for clients
	Group     string `json:"group-address"`       // host:port for servers
	ServerID  string `json:"server-id,omitempty"` // none where it never was heard of
	State     string `json:"state"`               // UNREACHABLE and UNKNOWN included
	Voter     bool   `json:"voter"`               // it counts for the majority
	LogIndex  uint64 `json:"log-index,omitempty"` // last entry that it is known to have
	Lag       uint64 `json:"lag,omitempty"`       // entries that it lacks, as far as known
	ContactMS int64  `json:"last-contact-ms"`     // since the last sign of it; -1 = never
	Self      bool   `json:"self,omitempty"`      // the server that answers
}

// EngineStatus tells how far a server's log is.
type EngineStatus struct {
	Role        string `json:"role"` // as State, before the server's own additions
	Formed      bool   `json:"formed"`
	Incarnation uint64 `json:"incarnation,omitempty"`
	Term        uint64 `json:"term"`
	LogIndex    uint64 `json:"log-index"`
	Applied     uint64 `json:"applied"`
	DiskError   string `json:"disk-error,omitempty"`
}

// NodeStatus is a joined application node.
type NodeStatus struct {
	ID         string `json:"id"`
	Label      string `json:"label"`
	Generation uint64 `json:"generation"`
	Connected  bool   `json:"connected"` // to the server that answers
}

// ProcessStatus tells what a server takes of its machine, in bytes.
type ProcessStatus struct {
	Resident   uint64 `json:"resident"` // 0 where the system does not tell
	Heap       uint64 `json:"heap"`
	Limit      uint64 `json:"go-memory-limit,omitempty"`
	Goroutines int    `json:"goroutines"`
	GoVersion  string `json:"go-version"`
	PID        int    `json:"pid"`
}

// MemoryStatus tells what sessions really take of a server's memory, in bytes.
// What off-heap resources account follows a formula, the same on all servers of a stripe.
type MemoryStatus struct {
	Mapped   uint64 `json:"mapped"`    // of the arenas; pages never written are no real memory
	Used     uint64 `json:"used"`      // by sessions, old keys and tombstones in them
	Held     uint64 `json:"held"`      // part of Used that only snapshots under way read
	Blocks   uint64 `json:"blocks"`    // a count: what Used consists of
	Resident uint64 `json:"resident"`  // part of Mapped that may be real memory
	HeldMost uint64 `json:"held-most"` // what Held may be, and one session more: then changes wait for the snapshots
	Waited   int64  `json:"waited"`    // milliseconds that changes have waited for that
	GivenUp  int64  `json:"given-up"`  // a count: snapshots and backups that did not get on meanwhile
	Outcomes uint64 `json:"outcomes"`  // outcomes of changes that nodes have not acknowledged, by formula; on Go's heap
}

// Setting is one effective setting of a server. Secrets are not shown.
type Setting struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Origin string `json:"from"`
}

// Dump is the answer to TC.DUMP: all that a person needs to find out what is
// wrong, and nothing secret: no session, no user, no licence document.
type Dump struct {
	At       time.Time     `json:"at"` // of the server's wall clock
	Status   Status        `json:"status"`
	Engine   EngineStatus  `json:"engine"`
	Nodes    []NodeStatus  `json:"nodes,omitempty"`
	Memory   MemoryStatus  `json:"memory"`
	Process  ProcessStatus `json:"process"`
	Settings []Setting     `json:"settings,omitempty"`
}

// The steps of TC.BACKUP, in order; Abort may come at any time.
const (
	BackupPrepare = "PREPARE" // may this server back up, and is the name free?
	BackupEnter   = "ENTER"   // takes the place where the backup is written
	BackupStart   = "START"   // writes, verifies and publishes it; takes as long as that takes
	BackupAbort   = "ABORT"   // ends a backup under way and leaves nothing of it
)

// BackupAnswer is the answer to TC.BACKUP.
type BackupAnswer struct {
	File   string `json:"file,omitempty"`   // on the server
	Bytes  uint64 `json:"bytes,omitempty"`  // of the file
	SHA256 string `json:"sha256,omitempty"` // of the file, hexadecimal
	Index  uint64 `json:"index,omitempty"`  // log entry up to which it goes
	Millis int64  `json:"took-ms,omitempty"`
}

// StopCluster is the argument of TC.STOP where all servers of the stripe stop:
// nobody is left to hand over to.
const StopCluster = "CLUSTER"

// InService reports whether a server in this state serves, or has all that its
// stripe has agreed and could take over at once.
func InService(state string) bool {
	return state == StateActive || state == StateActiveReconnecting || state == StatePassive
}

// Unread reports whether a server in state that tells no cluster may belong to one
// all the same: it has data of a stripe, and can't say yet how much of it holds.
func Unread(state string) bool { return !InService(state) && state != StateUninitialized }
