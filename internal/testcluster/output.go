package testcluster

import (
	"bytes"
	"sync"
)

// Output keeps what a program says; a test may read it meanwhile.
type Output struct {
	mu   sync.Mutex // guards said
	said bytes.Buffer
}

// Write implements io.Writer.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.said.Write(p)
}

// String returns all that was said so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.said.String()
}
