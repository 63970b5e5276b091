package wire

// This file holds the argument order of the session commands: AppendArgs and
// Parse of each stand together.

// The names of the commands of every request, as arguments. They are never changed.
var (
	cmdCreate, cmdCommit        = []byte(CmdCreate), []byte(CmdCommit)
	cmdInvalidate, cmdRenew     = []byte(CmdInvalidate), []byte(CmdRenew)
	cmdLoad                     = []byte(CmdLoad)
	modeRead, modePeek, modeOwn = []byte{byte(LoadRead)}, []byte{byte(LoadPeek)}, []byte{byte(LoadOwn)}
)

func (m LoadMode) arg() []byte {
	switch m {
	case LoadRead:
		return modeRead
	case LoadPeek:
		return modePeek
	case LoadOwn:
		return modeOwn
	}
	return []byte{byte(m)}
}

// head appends what every Write starts with. The token is written behind scratch.
func (w *Write) head(dst [][]byte, cmd, scratch []byte) [][]byte {
	return append(dst, cmd, w.Dataset, w.Key, nodeArg(w.Node),
		uintArg(w.Seq), uintArg(w.Low), w.Token.AppendTo(scratch)[len(scratch):])
}

func (p *args) write(w *Write) {
	w.Dataset = p.name("dataset", MaxDatasetName)
	w.Key = p.name("key", MaxKey)
	w.Node = p.node()
	w.Seq = p.uint("sequence number")
	w.Low = p.uint("lowest unacknowledged number")
	w.Token = p.token()
	if p.err == nil && (w.Low == 0 || w.Low > w.Seq) {
		p.fail("lowest unacknowledged number %d is not within 1 and %d", w.Low, w.Seq)
	}
}

func appendAttributes(dst [][]byte, set []Attribute) [][]byte {
	dst = append(dst, uintArg(uint64(len(set))))
	for _, a := range set {
		dst = append(dst, a.Name, a.Value)
	}
	return dst
}

// AppendArgs appends the command and its arguments:
// TC.CREATE dataset key node seq low token idle-ms absolute-ms user n (name value)*n
func (c *Create) AppendArgs(dst [][]byte) [][]byte {
	dst = append(c.head(dst, cmdCreate, nil), msArg(c.Idle), msArg(c.Absolute), c.User)
	return appendAttributes(dst, c.Set)
}

// ParseCreate parses the arguments after the command's name.
func ParseCreate(a [][]byte) (c Create, err error) {
	p := args{cmd: CmdCreate, a: a}
	p.write(&c.Write)
	c.Idle = p.timeout("idle timeout")
	c.Absolute = p.timeout("absolute timeout")
	c.User = p.user()
	c.Set = p.attributes()
	return c, p.end()
}

func (p *args) user() []byte {
	u := p.bytes("user")
	if len(u) > MaxUser {
		p.fail("user has %d bytes; at most %d are allowed", len(u), MaxUser)
	}
	return u
}

// AppendArgs appends the command and its arguments:
// TC.COMMIT dataset key node seq low token idle-ms n (name value)*n m name*m
func (c *Commit) AppendArgs(dst [][]byte) [][]byte { return c.AppendWith(dst, nil) }

// AppendWith is AppendArgs for a client that sends many: the token is written into
// the room behind scratch, which must not be used for anything else before the command is sent.
func (c *Commit) AppendWith(dst [][]byte, scratch []byte) [][]byte {
	dst = append(c.head(dst, cmdCommit, scratch), msArg(c.Idle))
	dst = appendAttributes(dst, c.Set)
	dst = append(dst, uintArg(uint64(len(c.Remove))))
	return append(dst, c.Remove...)
}

// ParseCommit parses the arguments after the command's name. An attribute may
// stand in the command only once: that is checked by the store.
func ParseCommit(a [][]byte) (c Commit, err error) {
	p := args{cmd: CmdCommit, a: a}
	p.write(&c.Write)
	c.Idle = p.millis("idle timeout")
	c.Set = p.attributes()
	if n := p.count("number of attributes to remove"); n > 0 {
		c.Remove = make([][]byte, n)
		for i := range c.Remove {
			c.Remove[i] = p.attributeName()
		}
	}
	return c, p.end()
}

// AppendArgs appends the command and its arguments:
// TC.INVALIDATE dataset key node seq low token reason
func (c *Invalidate) AppendArgs(dst [][]byte) [][]byte {
	return append(c.head(dst, cmdInvalidate, nil), c.Reason)
}

// ParseInvalidate parses the arguments after the command's name.
func ParseInvalidate(a [][]byte) (c Invalidate, err error) {
	p := args{cmd: CmdInvalidate, a: a}
	p.write(&c.Write)
	c.Reason = p.name("reason", MaxReason)
	for _, b := range c.Reason {
		if b <= ' ' || b > '~' {
			p.fail("reason %q is not one printable word", clip(c.Reason))
			break
		}
	}
	return c, p.end()
}

// AppendArgs appends the command and its arguments:
// TC.RENEW dataset key node seq low token newkey grace-ms [USER user]
func (c *Renew) AppendArgs(dst [][]byte) [][]byte {
	dst = append(c.head(dst, cmdRenew, nil), c.NewKey, msArg(c.Grace))
	if c.SetUser {
		dst = append(dst, []byte("USER"), c.User)
	}
	return dst
}

// ParseRenew parses the arguments after the command's name.
func ParseRenew(a [][]byte) (c Renew, err error) {
	p := args{cmd: CmdRenew, a: a}
	p.write(&c.Write)
	c.NewKey = p.name("new key", MaxKey)
	c.Grace = p.timeout("grace")
	if p.err == nil && len(p.a) > 0 {
		if word := p.bytes("USER"); string(word) != "USER" {
			p.fail("%q stands where USER may stand", clip(word))
		}
		c.SetUser, c.User = true, p.user()
	}
	if p.err == nil && string(c.NewKey) == string(c.Key) {
		p.fail("new key is the old key")
	}
	return c, p.end()
}

// AppendArgs appends the command and its arguments: TC.LOAD dataset key node mode
func (l *Load) AppendArgs(dst [][]byte) [][]byte {
	return append(dst, cmdLoad, l.Dataset, l.Key, nodeArg(l.Node), l.Mode.arg())
}

// ParseLoad parses the arguments after the command's name.
func ParseLoad(a [][]byte) (l Load, err error) {
	p := args{cmd: CmdLoad, a: a}
	l.Dataset = p.name("dataset", MaxDatasetName)
	l.Key = p.name("key", MaxKey)
	l.Node = p.node()
	switch mode := p.bytes("mode"); string(mode) {
	case "R", "P", "O":
		l.Mode = LoadMode(mode[0])
	default:
		p.fail("mode %q is none of R, P, O", clip(mode))
	}
	return l, p.end()
}

// AppendArgs appends the command and its arguments:
// TC.OPEN dataset offheap disk concurrency tags lockmode
func (o *Open) AppendArgs(dst [][]byte) [][]byte {
	return append(dst, []byte(CmdOpen), o.Dataset, o.Offheap, o.Disk,
		uintArg(uint64(o.Concurrency)), o.Tags, o.LockMode)
}

// MaxConcurrency bounds the segments of a dataset.
const MaxConcurrency = 4096

// ParseOpen parses the arguments after the command's name.
func ParseOpen(a [][]byte) (o Open, err error) {
	p := args{cmd: CmdOpen, a: a}
	o.Dataset = p.name("dataset", MaxDatasetName)
	o.Offheap = p.bytes("offheap resource")
	o.Disk = p.bytes("disk resource")
	n := p.uint("concurrency")
	if n > MaxConcurrency {
		p.fail("concurrency is %d; at most %d segments are allowed", n, MaxConcurrency)
	}
	o.Concurrency = int(min(n, MaxConcurrency))
	o.Tags = p.bytes("tags")
	o.LockMode = p.bytes("lock mode")
	if p.err == nil && string(o.LockMode) != "none" && string(o.LockMode) != "session" {
		p.fail("lock mode %q is neither none nor session", clip(o.LockMode))
	}
	for _, f := range [][]byte{o.Offheap, o.Disk, o.Tags} {
		if len(f) > MaxUser {
			p.fail("a name has %d bytes; at most %d are allowed", len(f), MaxUser)
		}
	}
	return o, p.end()
}

// AppendArgs appends the command and its arguments:
// TC.JOIN version node generation low label
func (j *Join) AppendArgs(dst [][]byte) [][]byte {
	return append(dst, []byte(CmdJoin), uintArg(Version), []byte(j.Node.String()),
		uintArg(j.Generation), uintArg(j.Low), j.Label)
}

// ParseJoin parses the arguments after the command's name. A version that this
// build does not speak is refused here.
func ParseJoin(a [][]byte) (j Join, err error) {
	p := args{cmd: CmdJoin, a: a}
	p.version()
	j.Node = p.node()
	j.Generation = p.uint("generation")
	j.Low = p.uint("lowest unacknowledged number")
	j.Label = p.bytes("label")
	if len(j.Label) > MaxLabel {
		p.fail("label has %d bytes; at most %d are allowed", len(j.Label), MaxLabel)
	}
	if p.err == nil && (j.Generation == 0 || j.Low == 0) {
		p.fail("generation and lowest unacknowledged number start at 1")
	}
	return j, p.end()
}

// JoinVersion is an error where the arguments of a TC.JOIN name a version that this
// build does not speak: another version may have other arguments.
func JoinVersion(a [][]byte) error {
	p := args{cmd: CmdJoin, a: a}
	p.version()
	return p.err
}

func (p *args) version() {
	if v := p.uint("version"); p.err == nil && v != Version {
		p.fail("version %d is not spoken here, this server speaks %d: upgrade the older of the two, the application's library or the server", v, Version)
	}
}

// AppendArgs appends the command and its arguments: TC.LEAVE node
func (l *Leave) AppendArgs(dst [][]byte) [][]byte {
	return append(dst, []byte(CmdLeave), nodeArg(l.Node))
}

// ParseLeave parses the arguments after the command's name.
func ParseLeave(a [][]byte) (l Leave, err error) {
	p := args{cmd: CmdLeave, a: a}
	l.Node = p.node()
	return l, p.end()
}
