package websessions

import (
	"strings"
	"testing"
)

// A password in the URI is refused, and the refusal lands in the log of a container.
func TestAttackPasswordInTheURIIsNotRepeated(t *testing.T) {
	for _, uri := range []string{"terracotta://user:hunter2@h/x", "terracotta://:hunter2@[::1/x", "terracotta://h,u:hunter2@b:9x/x"} {
		_, err := New(Config{URI: uri})
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", uri, err)
		}
	}
}
