package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/terracotta-go/terracotta/internal/ownership/model"
)

func TestRun(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		want string // in either output
	}{
		{"-rules", 0, "drain                  nothing is granted while"},
		{"-without drain", 0, "  1. node "},
		{"-without grant-lease", 0, "every promise holds: lapse-drops"},
		{"-without nothing", 2, `no rule is called "nothing"`},
		{"-search nothing", 1, "0 searches"},
		{"-memory 1 -search locking", 1, "WRONG: incomplete: more than 1 MiB"},
		{"-loads", 2, "flag provided but not defined"},
	} {
		t.Run(c.args, func(t *testing.T) {
			var out bytes.Buffer
			if code := run(context.Background(), strings.Fields(c.args), &out, &out); code != c.code {
				t.Errorf("exit code %d, not %d", code, c.code)
			}
			if !strings.Contains(out.String(), c.want) {
				t.Errorf("the output lacks %q:\n%s", c.want, &out)
			}
		})
	}
}

// A promise that breaks, or breaks otherwise than expected, is told with its way.
func TestWhatIsNotExpectedIsWrong(t *testing.T) {
	broken := model.Search{Name: "x", Writes: 1, Admin: true, Without: []model.Rule{model.AdminRecalls}}
	for _, c := range []struct {
		name string
		want model.Mutation
		code int
		text string
	}{
		{"as expected", model.Mutation{Search: broken, Broken: model.Resurrection, Steps: 2}, 0, "resurrection\n1 searches"},
		{"nothing expected", model.Mutation{Search: broken}, 1, "WRONG: resurrection is broken, not nothing\n  1. the active is told"},
		{"another promise", model.Mutation{Search: broken, Broken: model.StaleRead, Steps: 2}, 1, "WRONG: resurrection is broken, not stale-read\n  1."},
		{"later", model.Mutation{Search: broken, Broken: model.Resurrection, Steps: 3}, 1, "WRONG: resurrection is broken after 2 steps, not 3\n  1."},
		{"something expected", model.Mutation{Search: model.Search{Name: "x", Writes: 1, Renews: 1}, Broken: model.StaleRead, Steps: 3}, 1, "WRONG: nothing is broken, not stale-read"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, progress bytes.Buffer
			check := checker{ctx: context.Background(), stdout: &out, stderr: &progress, memory: 4 << 30}
			check.check(c.want, false)
			if code := check.end(); code != c.code || !strings.Contains(out.String(), c.text) {
				t.Errorf("exit code %d, not %d, or the output lacks %q:\n%s", code, c.code, c.text, &out)
			}
		})
	}
}
