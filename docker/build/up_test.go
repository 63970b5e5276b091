package main

import (
	"slices"
	"strings"
	"testing"
)

func TestTheProgramThatCOMPOSENames(t *testing.T) {
	t.Setenv("COMPOSE", "echo compose")
	if words, err := findCompose(t.Context()); err != nil || !slices.Equal(words, []string{"echo", "compose"}) {
		t.Errorf("found %q (%v)", words, err)
	}
	for _, name := range []string{"no-such-compose up", "false"} {
		t.Setenv("COMPOSE", name)
		if words, err := findCompose(t.Context()); err == nil || !strings.Contains(err.Error(), `COMPOSE names "`+name+`"`) {
			t.Errorf("found %q (%v)", words, err)
		}
	}
}
