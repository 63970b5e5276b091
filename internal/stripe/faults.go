package stripe

import "time"

// Faults are what a test lets go wrong with a server. nil functions: nothing. They
// are called by many goroutines at once.
type Faults struct {
	Wall  func() time.Time      // the machine's clock
	Disk  func(sync bool) error // how the log's disk fails: see raftlog.Files.Failing; it may hang
	Stall time.Duration         // between looks at whether the disk hangs; 0 = a second
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
	if f.Stall > 0 {
		p.stall = f.Stall
	}
	return p
}
