package wire

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// The wire is a promise to nodes and servers of other builds: when this fails, either
// the change was not meant, or Version has to rise, and what stands here with it.
func TestTheWireIsWhatItWas(t *testing.T) {
	session := Session{[]byte("k"), write.Token, true, 9, time.Hour, 0, time.Minute, KeepIdle, []byte("ann"), set}
	outcome := Outcome{Version: 3, Existed: true, Token: write.Token, Dropped: [][]byte{[]byte("a"), []byte("b")}}
	joined := Joined{1, "s1", "MyCluster", 2 * time.Second, 8 << 20}
	users := []UserSession{{[]byte("k1"), time.Hour, time.Second}, {[]byte("k2"), time.Minute, 0}}

	var got strings.Builder
	fmt.Fprintf(&got, "version %d\n", Version)
	for _, c := range [][][]byte{
		create.AppendArgs(nil), commit.AppendArgs(nil), invalidate.AppendArgs(nil), renew.AppendArgs(nil),
		load.AppendArgs(nil), open.AppendArgs(nil), join.AppendArgs(nil), leave.AppendArgs(nil),
	} {
		fmt.Fprintf(&got, "%q\n", c)
	}
	fmt.Fprintf(&got, "session %q\noutcome %q\njoined %q\nusers %q\n",
		session.AppendTo(nil), outcome.AppendTo(nil), joined.AppendTo(nil), AppendUserSessions(nil, users))
	if got.String() != golden {
		t.Errorf("the wire is now\n%s", got.String())
	}
}

const golden = `version 2
["TC.CREATE" "carts" "aB3.key" "01020300000000000000000000000009" "7" "3" "1.2.3.18446744073709551615" "1000" "0" "ann" "2" "cart" "\x00\r\n$" "b" ""]
["TC.COMMIT" "carts" "aB3.key" "01020300000000000000000000000009" "7" "3" "1.2.3.18446744073709551615" "-1" "2" "cart" "\x00\r\n$" "b" "" "1" "gone"]
["TC.INVALIDATE" "carts" "aB3.key" "01020300000000000000000000000009" "7" "3" "1.2.3.18446744073709551615" "logout"]
["TC.RENEW" "carts" "aB3.key" "01020300000000000000000000000009" "7" "3" "1.2.3.18446744073709551615" "aB3.new" "5000" "USER" "ann"]
["TC.LOAD" "carts" "aB3.key" "01020300000000000000000000000009" "R"]
["TC.OPEN" "carts" "offheap-1" "dataroot-1" "64" "shop,eu" "none"]
["TC.JOIN" "2" "01020300000000000000000000000009" "2" "5" "host-a"]
["TC.LEAVE" "01020300000000000000000000000009"]
session ["1.2.3.18446744073709551615 1 9 3600000 0 60000 -1" "k" "ann" "cart" "\x00\r\n$" "b" ""]
outcome ["3 1 1.2.3.18446744073709551615" "a" "b"]
joined ["6" "1" "s1" "MyCluster" "2000" "8388608"]
users ["1" "k1" "3600000" "1000" "k2" "60000" "0"]
`
