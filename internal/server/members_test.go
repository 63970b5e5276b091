package server

import (
	"strings"
	"testing"

	"github.com/terracotta-go/terracotta/internal/stripe"
)

// An operator need not look for what a split brain has cost where it has cost nothing.
func TestWhatASplitBrainHasCost(t *testing.T) {
	s := new(Server)
	for want, lost := range map[string]stripe.LostChanges{
		"has cost nothing":             {Folder: "aside"},
		"has cost 3 changed sessions":  {Folder: "aside", Changes: 3},
		"has cost 0 changed sessions":  {Folder: "aside", Fault: "the list ends early"},
		"aside, which may be removed":  {Folder: "aside"},
		"aside; move that folder away": {Folder: "aside", Changes: 3},
	} {
		if said := strings.Join(s.memberWarnings(stripe.Status{Lost: &lost}), "; "); !strings.Contains(said, want) {
			t.Errorf("%q does not say %q", said, want)
		}
	}
}

// Whoever configured a voter so that one of two servers may fail must hear that there is none.
func TestVotersAreNotIgnoredInSilence(t *testing.T) {
	s := new(Server)
	if said := s.memberWarnings(stripe.Status{}); len(said) > 0 {
		t.Errorf("without voters: %q", said)
	}
	s.cfg.Running.Voters = 1
	if said := s.memberWarnings(stripe.Status{}); len(said) != 1 || said[0] != VotersIgnored {
		t.Errorf("with one: %q", said)
	}
}
