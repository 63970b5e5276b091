package spin

import (
	"testing"
	"time"
)

func TestCrowd(t *testing.T) {
	var c Crowd
	at := time.Minute
	alone := func(id uint64, later time.Duration) bool {
		at += later
		return c.Alone(id, at)
	}
	if alone(1, 0) || alone(1, apart) || !alone(1, 1) {
		t.Error("one is alone when it was for long enough")
	}
	if alone(2, 1) || alone(1, 1) || alone(1, apart) || !alone(1, 1) {
		t.Error("two are not alone")
	}
}
