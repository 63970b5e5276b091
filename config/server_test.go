package config

import (
	"testing"

	"github.com/spf13/pflag"
)

// loadServer loads with flags args in a quiet environment.
func loadServer(t *testing.T, args []string, environ ...string) (Server, error) {
	t.Helper()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	ServerFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return LoadServer(fs, append(environ, "HOSTNAME=box"))
}

func TestSmoke(t *testing.T) {
	s, err := loadServer(t, nil)
	t.Logf("%+v %v", s, err)
	s, err = loadServer(t, []string{"-f", "testdata/single.xml"})
	t.Logf("%+v %v", s, err)
	s, err = loadServer(t, []string{"-f", "testdata/pair.xml", "-n", "tc1"}, "JAVA_OPTS=-Xmx1g -Ddata.root=/x", "OFFHEAP_RESOURCE1_SIZE=3")
	t.Logf("%+v %v", s, err)
	s, err = loadServer(t, []string{"-f", "testdata/pair.xml", "--bind", "a b"}, "JAVA_OPTS=-Dterracotta.bnd=1", "OFFHEAP_RESOURCE1_SIZE=3", "TC_MAX_CONNECTIONS=x", "TC_BNID=3")
	t.Logf("%+v\n%v", s, err)
}
