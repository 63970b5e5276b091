package stripe

import "time"

// Faults are what a test lets go wrong with a server. nil functions: nothing. They
// are called by many goroutines at once.
type Faults struct {
	Wall func() time.Time // the machine's clock

	// Disk is asked before the log is written, and with sync before it is synchronised or
	// gets another file. An error is the disk's; what was to be written is torn.
	Disk func(sync bool) error
}

// upon returns p with the faults in it.
func (f *Faults) upon(p parts) parts {
	if f == nil {
		return p
	}
	if f.Wall != nil {
		p.clock.wall = f.Wall
	}
	if f.Disk != nil {
		p.files = p.files.Failing(f.Disk)
	}
	return p
}
