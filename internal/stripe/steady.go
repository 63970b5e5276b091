package stripe

import "os"

// steadyBytes of a snapshot may wait to be written to the disk.
const steadyBytes = 4 << 20

// steady has the system write a growing file to its disk all the time. Left alone, it
// would gather hundreds of megabytes, and write them at once when the file is synchronised
// at its end: whoever synchronises a log on that disk meanwhile waits for all of it.
// It makes nothing durable. nil does nothing.
type steady struct {
	f    *os.File
	size int64 // written
	sent int64 // of them, what the disk has been given
}

// openSteady opens path, which somebody else writes; nil where that fails.
func openSteady(path string) *steady {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	return &steady{f: f}
}

// wrote says that the file has n bytes more, but for what a buffer holds.
func (s *steady) wrote(n int) {
	if s == nil {
		return
	}
	s.size += int64(n)
	if s.size-s.sent >= steadyBytes {
		writeBack(s.f, s.sent, s.size-s.sent)
		s.sent = s.size
	}
}

func (s *steady) close() {
	if s != nil {
		s.f.Close()
	}
}
