//go:build linux && (amd64 || arm64)

package spin

import "testing"

func TestReleasesThatTellThePoller(t *testing.T) {
	for release, want := range map[string]bool{
		"6.1.0-18-amd64": true, "4.18.0-553.el8.x86_64\x00\x00": true, "5.4": true, "10.0": true,
		"4.17.19": false, "4.4.0": false, "3.10.0-1160.el7": false, "": false, "v6.1": false,
	} {
		if got := since418(release); got != want {
			t.Errorf("%q: %v", release, got)
		}
	}
}
