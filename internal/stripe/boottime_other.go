//go:build !linux

package stripe

import "time"

func sinceBoot() func() time.Duration { return sinceStart() }
