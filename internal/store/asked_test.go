package store

import "testing"

// Every kind of operation is either a change that a client asked for, or not: who adds
// one decides.
func TestAskedKnowsEveryKind(t *testing.T) {
	asked := map[kind]bool{
		kindCreate: true, kindCommit: true, kindInvalidate: true, kindRenew: true, kindOpen: false, kindTouch: false, kindExpire: false,
		kindPrune: false, kindJoin: false, kindLeave: false, kindConfigure: false, kindRedisSet: true, kindRedisDelete: true,
		kindRedisExpire: true, kindRedisHSet: true, kindRedisHDel: true, kindRedisRead: false,
	}
	for k := kindCreate; k <= kindLast; k++ {
		want, known := asked[k]
		if got := Asked([]byte{byte(k)}); !known || got != want {
			t.Errorf("kind %d: %t, want %t (decided: %t)", k, got, want, known)
		}
	}
	if Asked(nil) || Asked([]byte{byte(kindLast) + 1}) {
		t.Error("what is no operation was asked for")
	}
}
