// Package license turns bytes, trusted keys and a time into a License or a
// reason. It opens no connections, reads no clock and keeps no state.
//
// The one idea: an Ed25519 signature covers the exact bytes of the document,
// not a canonical form of it, so that there is nothing to wrap, transform or
// reinterpret. The bytes are verified first, by plain byte work, and only
// verified bytes are parsed.
//
//	keys, err := license.ReadKeys(os.DirFS("/etc/terracotta/trusted"))
//	l, err := license.Verify(doc, keys)
//	err = l.Allow(license.Growth{Stripes: 1, Offheap: []uint64{1 << 30}, Version: config.Version}, time.Now())
//
// docs/license.md describes the document for those who write or check one
// without this package.
package license

import (
	"fmt"
	"strings"
	"time"
)

// License is a verified licence. Verify makes one; Inspect makes one that
// nobody has verified, and Draft takes one that is yet to be signed.
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

// Product is the ProductCode that a licence must carry to allow anything here.
const Product = "terracotta-go"

// Names of the yes/no flags. FlagMultiStripe and FlagSecurity are enforced by
// Allow, the others are shown only.
const (
	FlagCaching       = "Caching"
	FlagTMC           = "TMC"
	FlagMultiStripe   = "MultiStripe"
	FlagSecurity      = "Security"
	FlagTCStore       = "TCStore"
	FlagSearchCompute = "SearchCompute"
	FlagWebsessions   = "Websessions"
)

// FlagNames returns the names of all yes/no flags in the order of the document.
func FlagNames() []string {
	return []string{FlagCaching, FlagTMC, FlagMultiStripe, FlagSecurity, FlagTCStore, FlagSearchCompute, FlagWebsessions}
}

// State is how a verified licence stands at a time.
type State string

// The states, in the order in which a licence passes through them.
const (
	Valid    State = "valid"
	Expiring State = "expiring" // fewer than 30 days left
	Grace    State = "grace"    // expired less than 7 days ago
	Limited  State = "limited"  // expired longer: growth is refused, nothing is dropped
)

const (
	expiringFor = 30 * 24 * time.Hour
	graceFor    = 7 * 24 * time.Hour
)

// State tells how the licence stands at now.
func (l *License) State(now time.Time) State {
	switch left := l.Expiration.Sub(now); {
	case l.Expiration.IsZero():
		return Valid
	case left > 0 && left < expiringFor:
		return Expiring
	case left > 0:
		return Valid
	case -left < graceFor:
		return Grace
	default:
		return Limited
	}
}

// Expires returns the last valid day as the document writes it: yyyy/MM/dd, or
// Unlimited.
func (l *License) Expires() string {
	if l.Expiration.IsZero() {
		return unlimited
	}
	return l.Expiration.UTC().AddDate(0, 0, -1).Format(dateForm)
}

// Growth is what a licence is asked to allow.
type Growth struct {
	Offheap  []uint64 // bytes of each stripe, all its off-heap resources together
	Largest  uint64   // largest single off-heap resource, bytes
	Stripes  int      // 0 = as many as Offheap has entries, at least one
	Security bool
	Version  string // of this product, e.g. 10.4.0-SNAPSHOT
}

// Allow returns nil or, as an *Error, every reason why g is not allowed at now.
// It refuses from the first moment after the last valid day: the grace of
// State is for clusters that run already, never for configuring one.
func (l *License) Allow(g Growth, now time.Time) error {
	var r refusals
	if l.ProductCode != Product {
		r.add(fmt.Sprintf("the licence is for product %q, this is %q", l.ProductCode, Product), "use a licence for this product")
	} else if majorMinor(l.ProductVersion) != majorMinor(g.Version) {
		r.add(fmt.Sprintf("the licence is for version %q, this is %q", l.ProductVersion, g.Version),
			"major and minor version must match: ask for a licence for "+majorMinor(g.Version))
	}
	if !l.Expiration.IsZero() && !now.Before(l.Expiration) {
		r.add("the licence expired: its last valid day was "+l.Expires()+" (UTC)", "install a renewed licence")
	}
	stripes := max(g.Stripes, len(g.Offheap), 1)
	if stripes > 1 && !l.Flags[FlagMultiStripe] {
		r.add(fmt.Sprintf("the licence does not allow %d stripes: its MultiStripe is no", stripes), "use one stripe or another licence")
	}
	if g.Security && !l.Flags[FlagSecurity] {
		r.add("the licence does not allow security to be configured: its Security is no", "")
	}
	l.allowOffheap(&r, g, stripes)
	return r.err()
}

func (l *License) allowOffheap(r *refusals, g Growth, stripes int) {
	const hint = "make the off-heap resources smaller or use a larger licence"
	left := l.OffheapLimit
	for _, bytes := range g.Offheap { // subtracting can't overflow, adding could
		if bytes > left {
			r.add(fmt.Sprintf("the off-heap resources of all stripes exceed the licence's limit of %s", size(l.OffheapLimit)), hint)
			break
		}
		left -= bytes
	}
	if perStripe := l.OffheapLimit / uint64(stripes); g.Largest > perStripe {
		r.add(fmt.Sprintf("an off-heap resource of %s exceeds the licence's limit of %s per stripe (%s over %d)",
			size(g.Largest), size(perStripe), size(l.OffheapLimit), stripes), hint)
	}
}

// majorMinor returns the first two numbers of a version: 10.4 of 10.4.0-SNAPSHOT.
func majorMinor(version string) string {
	version, _, _ = strings.Cut(version, "-")
	parts := strings.SplitN(version, ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}

// size writes bytes in the largest unit that divides them, as a configuration does.
func size(bytes uint64) string {
	unit := []string{"B", "kB", "MB", "GB", "TB", "PB"}
	i := 0
	for i < len(unit)-1 && bytes != 0 && bytes%1024 == 0 {
		bytes /= 1024
		i++
	}
	return fmt.Sprintf("%d %s", bytes, unit[i])
}

// Error is a refusal with what to do about it. It never holds the document.
type Error struct {
	Reason string // what is wrong
	Hint   string // what to do, or ""
}

// Error returns the reason without the hint.
func (e *Error) Error() string { return e.Reason }

// refuse makes an Error with a formatted reason.
func refuse(hint, format string, args ...any) *Error {
	return &Error{Reason: fmt.Sprintf(format, args...), Hint: hint}
}

// refusals gathers reasons, so that nobody learns of them one by one.
type refusals struct{ reasons, hints []string }

func (r *refusals) add(reason, hint string) {
	r.reasons = append(r.reasons, reason)
	for _, h := range r.hints {
		if h == hint {
			return
		}
	}
	if hint != "" {
		r.hints = append(r.hints, hint)
	}
}

func (r *refusals) err() error {
	if len(r.reasons) == 0 {
		return nil
	}
	return &Error{Reason: strings.Join(r.reasons, "; "), Hint: strings.Join(r.hints, "; ")}
}
