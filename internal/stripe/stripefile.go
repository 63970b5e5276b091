package stripe

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// stripeFile lies beside identity.json and says which stripe the server belongs
// to. It is written before the first entry of that stripe, so that servers of
// different stripes never mix.
const stripeFile = "stripe.json"

const stripeFormat = 1

// belonging is what stripeFile holds.
type belonging struct {
	Format int       `json:"format"`
	Stripe string    `json:"stripe-id"`
	Server string    `json:"server-id"` // must be that of identity.json
	Since  time.Time `json:"since"`
}

// readBelonging returns the stripe's id, "" where there is no file.
func readBelonging(dir, server string) (string, error) {
	path := filepath.Join(dir, stripeFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", explain(dir, err)
	}
	var f belonging
	const mend = "put the file back from a backup, or move the folder away to start empty"
	switch err := json.Unmarshal(b, &f); {
	case err != nil:
		return "", fmt.Errorf("%q is damaged (%w): %s", path, err, mend)
	case f.Format > stripeFormat:
		return "", fmt.Errorf("%q has format %d, and this version reads up to %d: start the newer version that wrote it", path, f.Format, stripeFormat)
	case f.Format < 1 || len(f.Stripe) != 32:
		return "", fmt.Errorf("%q is damaged (format %d, stripe id of %d characters): %s", path, f.Format, len(f.Stripe), mend)
	case f.Server != server:
		return "", fmt.Errorf("%q is of server %s, and %s says %s: %s", path, f.Server, identityFile, server, mend)
	}
	return f.Stripe, nil
}

// belong remembers, on disk where there is one, that this server is of a stripe.
func (s *Stripe) belong(stripe string) error {
	if s.root != nil {
		b, err := json.MarshalIndent(belonging{stripeFormat, stripe, s.id, time.Now().UTC().Truncate(time.Second)}, "", "  ")
		if err != nil {
			return err
		}
		if err := writeAtomic(filepath.Join(s.root.dir, stripeFile), append(b, '\n')); err != nil {
			return explain(s.root.dir, err)
		}
	}
	s.stripeID.Store(&stripe)
	return nil
}

// stripe returns the id of the stripe that this server belongs to; "" for none.
func (s *Stripe) stripe() string {
	if id := s.stripeID.Load(); id != nil {
		return *id
	}
	return ""
}
