package wire

// RedisReply is what a Redis operation came to, before it is put into the form
// that its command answers in. It travels inside a server only.
type RedisReply struct {
	N      int64    // a count, 1 for done, a time to live in milliseconds, or the kind of a key
	Values [][]byte // nil ones stand for null
}

// The kinds of keys, as RedisReply.N tells them.
const (
	RedisNone   = 0
	RedisString = 1
	RedisHash   = 2
)
