// Package license turns bytes, trusted keys and a time into a License or a
// reason. It opens no files and no connections, and keeps no state.
package license

import (
	"crypto/ed25519"
	"io/fs"
	"time"
)

// License is a verified licence. Only Verify makes one.
type License struct {
	// SalesInfo
	SerialNumber, CustomerID, CustomerName, ContractDetails, LicenseTypeDetails string
	// ProductInfo and LicenseInfo
	Expiration                                                   time.Time // first moment after the last valid day, UTC; zero = Unlimited
	OS, ProductCode, ProductName, ProductVersion, Usage, Renewal string
	LicenseType, LicenseVersion                                  string
	OffheapLimit                                                 uint64 // bytes over all stripes; PriceQuantity in GB of 1<<30
	// Terracotta: the yes/no flags by name
	Flags map[string]bool
	// of the signature
	KeyID  string
	SHA256 string // of the whole document, hexadecimal
}

// State is how a verified licence stands at a time.
type State string

const (
	Valid    State = "valid"
	Expiring State = "expiring" // fewer than 30 days left
	Grace    State = "grace"    // expired less than 7 days ago
	Limited  State = "limited"  // expired longer: growth is refused, nothing is dropped
)

// Keys are the trusted public keys by id, and what was revoked.
type Keys struct{ unexported map[string]ed25519.PublicKey }

// ReadKeys reads every *.pem in the root of fsys: the file's base name is the key id. A file
// named revoked lists revoked keys ("key ID") and serial numbers ("serial N"), one a line.
// Anything unreadable there is an error: a damaged trust store trusts nobody.
func ReadKeys(fsys fs.FS) (*Keys, error) { panic("not built") }

// IDs lists the key ids, sorted; dev-* keys are development keys.
func (k *Keys) IDs() []string { panic("not built") }

// Verify checks the signature over the exact bytes, then parses them. It does
// not look at the time. Errors are *Error.
func Verify(doc []byte, keys *Keys) (*License, error) { panic("not built") }

// Inspect parses the document without trusting it: for show only.
func Inspect(doc []byte) (*License, error) { panic("not built") }

// Sign fills in the LicenseKey of doc (whose text there is "ed25519:KEYID:" and 86 A's and ==, or a former signature).
func Sign(doc []byte, keyID string, key ed25519.PrivateKey) ([]byte, error) { panic("not built") }

// State tells how the licence stands at now.
func (l *License) State(now time.Time) State { panic("not built") }

// Growth is what a licence is asked to allow.
type Growth struct {
	Offheap  []uint64 // per stripe, per resource summed: bytes of each stripe
	Largest  uint64   // largest single off-heap resource, bytes
	Stripes  int
	Security bool
	Version  string // of this product, e.g. 10.4.0-SNAPSHOT
}

// Allow returns nil or the reason why g is not allowed at now.
func (l *License) Allow(g Growth, now time.Time) error { panic("not built") }

// Error is a refusal with what to do about it.
type Error struct {
	Reason string // what is wrong
	Hint   string // what to do, or ""
}

func (e *Error) Error() string { return e.Reason }
