package wire

import "time"

// The documents of the administrative commands, as JSON in one byte string.

// StripeConfig is what the servers of one stripe run, however it was written:
// tc-config.xml, environment or flags. It is what servers compare, the cluster
// tool sends and the cluster remembers. Two servers of a stripe must agree.
type StripeConfig struct {
	Servers          []ServerConfig    `json:"servers"` // at least one; names are unique
	OffheapResources []OffheapResource `json:"offheap-resources"`
	DataDirectories  []DataDirectory   `json:"data-directories"`
	FailoverPriority string            `json:"failover-priority"` // "availability" or "consistency"
	Voters           int               `json:"voters,omitempty"`  // external voters, with consistency
	LeaseLength      time.Duration     `json:"lease-length"`      // nanoseconds in JSON; 0 = the default
	ReconnectWindow  time.Duration     `json:"client-reconnect-window"`
	BackupLocation   string            `json:"backup-location,omitempty"`
	Security         bool              `json:"security"`
}

// ServerConfig is one server of a stripe as its peers and clients reach it.
type ServerConfig struct {
	Name      string `json:"name"`
	Host      string `json:"host"`
	Port      int    `json:"port"`       // clients and tools
	GroupPort int    `json:"group-port"` // other servers
}

// OffheapResource is a named budget of memory for sessions, in bytes.
type OffheapResource struct {
	Name string `json:"name"`
	Size uint64 `json:"size"`
}

// DataDirectory is a named place on disk. Exactly one is the platform's: the
// log and the snapshots of the stripe live there.
type DataDirectory struct {
	Name     string `json:"name"`
	Path     string `json:"path"`
	Platform bool   `json:"platform"`
}

// Cluster is what configure agrees and every server remembers.
type Cluster struct {
	Name    string         `json:"name"`
	Stripes []StripeConfig `json:"stripes"`
	Stripe  int            `json:"stripe"` // index of the stripe that holds this copy, from 0
	License string         `json:"-"`      // the document itself, replicated beside the JSON
}

// ConfigureRequest is the argument of TC.CONFIGURE. The active verifies it
// whole before anything is changed.
type ConfigureRequest struct {
	Cluster Cluster `json:"cluster"`
	License []byte  `json:"license"` // the document's exact bytes (base64 in JSON)
}

// ConfigureAnswer is the answer to TC.CONFIGURE.
type ConfigureAnswer struct {
	Configured bool   `json:"configured"`       // false: it was already, with the same content
	License    string `json:"license"`          // "installed" or "identical"
	Reason     string `json:"reason,omitempty"` // why something was left as it was
}

// Status is the answer to TC.STATUS. Unconfigured servers answer it too, with
// Cluster nil.
type Status struct {
	Server       ServerConfig    `json:"server"`
	State        string          `json:"state"`             // one of the State constants
	Waiting      string          `json:"waiting,omitempty"` // why it does not serve, where that is known: always where State is one of the suspended
	Version      string          `json:"version"`           // of the build
	ServerID     string          `json:"server-id"`
	UptimeMillis int64           `json:"uptime-ms"`
	Running      StripeConfig    `json:"running"` // what this server was started with
	Cluster      *Cluster        `json:"cluster,omitempty"`
	License      *LicenseStatus  `json:"license,omitempty"`
	Offheap      []OffheapStatus `json:"offheap,omitempty"`
	Datasets     []DatasetStatus `json:"datasets,omitempty"`
	Durability   string          `json:"durability"` // "every write", "every second" or "memory only"
	Nodes        int             `json:"nodes"`
	Connections  int             `json:"connections"`
	Activations  uint64          `json:"activations"`       // how often this server became active since its start
	Active       string          `json:"active,omitempty"`  // host:port of the active server, as far as this one knows
	Members      []MemberStatus  `json:"members,omitempty"` // of the stripe; none where it is a single server
	Warnings     []string        `json:"warnings,omitempty"`
}

// LicenseStatus tells of the installed licence.
type LicenseStatus struct {
	State        string `json:"state"` // valid, expiring, grace, limited
	SerialNumber string `json:"serial-number"`
	Customer     string `json:"customer"`
	Expires      string `json:"expires"` // yyyy/MM/dd or Unlimited
	OffheapLimit uint64 `json:"offheap-limit"`
	KeyID        string `json:"key-id"`
	SHA256       string `json:"sha256"` // of the document, hexadecimal
	Message      string `json:"message,omitempty"`
}

// OffheapStatus tells how full an off-heap resource is, in bytes.
type OffheapStatus struct {
	Name string `json:"name"`
	Size uint64 `json:"size"`
	Used uint64 `json:"used"`
}

// DatasetStatus tells of one dataset.
type DatasetStatus struct {
	Name     string `json:"name"`
	Offheap  string `json:"offheap"`
	Disk     string `json:"disk"`
	Segments int    `json:"segments"`
	LockMode string `json:"lock-mode"`
	Tags     string `json:"tags,omitempty"`
	Sessions uint64 `json:"sessions"`
	Bytes    uint64 `json:"bytes"` // accounted against the off-heap resource
}

// Default ports and times.
const (
	DefaultPort            = 9410
	DefaultGroupPort       = 9430
	DefaultLease           = 2 * time.Second
	DefaultReconnectWindow = 120 * time.Second
	DefaultMaxValue        = 8 << 20
)

// Server states as operators read them.
const (
	StateStarting           = "STARTING"
	StateUninitialized      = "UNINITIALIZED"
	StateSynchronizing      = "SYNCHRONIZING"
	StateActive             = "ACTIVE"
	StateActiveReconnecting = "ACTIVE_RECONNECTING"
	StateActiveSuspended    = "ACTIVE_SUSPENDED"
	StatePassive            = "PASSIVE"
	StatePassiveSuspended   = "PASSIVE_SUSPENDED"
	StateStartSuspended     = "START_SUSPENDED"
	StateUnreachable        = "UNREACHABLE"
	StateUnknown            = "UNKNOWN"
)
