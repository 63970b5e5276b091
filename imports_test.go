package terracotta

import (
	"go/build"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/terracotta-go/terracotta/"

// arrows says what each room may import of ours: the data's way runs down, and
// nobody reaches up (docs/architecture.md). A room that is not listed may
// import nothing of ours.
var arrows = map[string][]string{
	"client":                         {"internal/wire", "internal/resp", "internal/spin", "internal/nowait"},
	"websessions":                    {"client", "internal/wire"},
	"config":                         {"websessions", "internal/wire"},
	"internal/store":                 {"internal/wire"},
	"internal/stripe":                {"internal/stripe/raftlog", "internal/store", "internal/wire"},
	"internal/ownership":             {"internal/stripe", "internal/store", "internal/wire"},
	"internal/ownership/model/check": {"internal/ownership/model"},
	"internal/server": {"internal/ownership", "internal/stripe", "internal/store", "internal/resp",
		"internal/spin", "internal/nowait", "internal/wire", "license", "config"},
	"internal/management": {"internal/stripe", "internal/wire"},
	"internal/testcluster": {"internal/server", "internal/ownership", "internal/stripe", "internal/store",
		"internal/wire", "license", "config"},
	"internal/history": {"client", "internal/wire"},
	"cmd/terracotta-server": {"internal/server", "internal/management", "internal/ownership", "internal/stripe", "internal/store",
		"internal/resp", "internal/wire", "client", "license", "config"},
	"cmd/cluster-tool":   {"client", "license", "config", "internal/wire"},
	"cmd/cart-example":   {"websessions", "config"},
	"cmd/license-issuer": {"license"},
	"docker/build":       {"license"},
}

// owners says which rooms alone may import a library from outside.
var owners = map[string][]string{
	"github.com/spf13/viper":                                   {"config"},
	"github.com/hashicorp/":                                    {"internal/stripe"},
	"github.com/spf13/cobra":                                   {"cmd/"},
	"github.com/beevik/etree":                                  {"license", "config"},
	"github.com/testcontainers/":                               {"e2e"},
	"github.com/docker/":                                       {"docker/build", "e2e"},
	"golang.org/x/crypto/x509roots":                            {"cmd/cluster-tool", "docker/build"},
	"crypto/ed25519":                                           {"license", "cmd/license-issuer", "internal/testcluster"},
	"github.com/anishathalye/porcupine":                        {"internal/history"},
	"github.com/terracotta-go/terracotta/internal/testcluster": {},
	"github.com/terracotta-go/terracotta/internal/fuzzing":     {},
	"github.com/terracotta-go/terracotta/internal/history":     {},
}

// standardOnly are the rooms whose users must not pay with a dependency.
var standardOnly = []string{"websessions", "client", "internal/wire", "internal/resp", "internal/spin", "internal/nowait"}

func TestImportsRunOneWay(t *testing.T) {
	for _, room := range rooms(t) {
		pkg, err := build.Default.ImportDir(room, 0)
		if err != nil {
			if _, none := err.(*build.NoGoError); none {
				continue
			}
			t.Fatal(err)
		}
		for _, path := range pkg.Imports {
			if inner, ours := strings.CutPrefix(path, module); ours && !slices.Contains(arrows[room], inner) {
				t.Errorf("%s imports %s: its arrows are %v", room, inner, arrows[room])
			}
			for library, allowed := range owners {
				if strings.HasPrefix(path, library) && !startsWithAny(room, allowed) {
					t.Errorf("%s imports %s, which belongs to %v", room, path, allowed)
				}
			}
			if slices.Contains(standardOnly, room) && strings.Contains(strings.Split(path, "/")[0], ".") && !strings.HasPrefix(path, module) {
				t.Errorf("%s imports %s: only the standard library is allowed here", room, path)
			}
		}
	}
}

// Every room of ours in the table exists, so that a rename cannot switch the test off.
func TestArrowsNameRooms(t *testing.T) {
	all := rooms(t)
	for room, down := range arrows {
		for _, r := range append(down, room) {
			if !slices.Contains(all, r) {
				t.Errorf("arrows name %s, which does not exist", r)
			}
		}
	}
}

// Whoever looks for a room finds it in the page that draws the house.
func TestArchitectureNamesEveryRoom(t *testing.T) {
	page, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, room := range rooms(t) {
		parts := strings.Split(room, "/")
		if parts[0] == "internal" {
			parts = parts[:2]
		} else {
			parts = parts[:1]
		}
		if name := strings.Join(parts, "/"); !strings.Contains(string(page), "\n| `"+name+"/` |") {
			t.Errorf("the table of rooms lacks %s", name)
		}
	}
}

func startsWithAny(room string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(room, p) })
}

// ownModule reports whether the folder at path is a module beside ours, such as bench.
func ownModule(path string) bool {
	_, err := os.Stat(filepath.Join(path, "go.mod"))
	return err == nil
}

// rooms lists the folders of this module that hold Go files, with slashes.
func rooms(t *testing.T) []string {
	var list []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "dist" || d.Name() == "testdata" || ownModule(path)):
			return filepath.SkipDir
		case !d.IsDir() && strings.HasSuffix(path, ".go"):
			if room := filepath.ToSlash(filepath.Dir(path)); room != "." && !slices.Contains(list, room) {
				list = append(list, room)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}
