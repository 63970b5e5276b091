package terracotta

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// failureRow is a line of the tables of failures in docs/operations.md.
type failureRow struct {
	line     int
	messages []string // … stands for what differs
	exits    string   // "cluster-tool 52", or "runs on"
	tests    []string // "cmd/cluster-tool TestX" or "cmd/cluster-tool eula.txtar"
}

var (
	quoted    = regexp.MustCompile("`([^`]+)`")
	verb      = regexp.MustCompile(`%[+#]?[a-z]`)
	exitShape = regexp.MustCompile(`^(terracotta-server|cluster-tool|cart-example) (\d+)$`)
)

// failureTable reads the tables whose head is message, ends, what to do, test.
func failureTable(t *testing.T) (rows []failureRow) {
	t.Helper()
	page, err := os.ReadFile("docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	in := false
	for i, line := range strings.Split(string(page), "\n") {
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		switch {
		case !strings.HasPrefix(line, "|"):
			in = false
		case line == "| message | ends | what to do | test |":
			in = true
		case !in || strings.HasPrefix(line, "| ---"):
		case len(cells) != 4:
			t.Errorf("line %d has %d cells", i+1, len(cells))
		default:
			r := failureRow{line: i + 1, exits: cells[1]}
			for _, m := range quoted.FindAllStringSubmatch(cells[0], -1) {
				r.messages = append(r.messages, m[1])
			}
			for _, m := range quoted.FindAllStringSubmatch(cells[3], -1) {
				r.tests = append(r.tests, m[1])
			}
			rows = append(rows, r)
		}
	}
	if len(rows) < 60 {
		t.Fatalf("only %d failures are listed", len(rows))
	}
	return rows
}

// said is a text that the program may print, with … for what is filled in.
type said struct {
	text  string
	exit  string // "cluster-tool 52"; "" where the text alone does not tell
	where string
}

// sources returns every string in the code that is no test, and the exit
// statuses that each program's own table has.
func sources(t *testing.T) (texts []said, exits map[string]bool) {
	exits = map[string]bool{}
	set := token.NewFileSet()
	var files []*ast.File
	numbers := map[string]string{} // "cluster-tool codeFailure" -> "cluster-tool 2"
	for _, room := range []string{"cmd", "config", "client", "license", "websessions", "internal"} {
		err := filepath.WalkDir(room, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
			files = append(files, file)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	program := func(n ast.Node) string { return filepath.Base(filepath.Dir(set.Position(n.Pos()).Filename)) }
	for _, f := range files {
		for name, number := range exitNumbers(f) {
			numbers[program(f)+" "+name] = program(f) + " " + number
			exits[program(f)+" "+number] = true
		}
	}
	for _, f := range files {
		owned := map[*ast.BasicLit]string{} // the message of a failure -> its exit
		ast.Inspect(f, func(n ast.Node) bool {
			name, message := failureAt(n)
			if exit := numbers[program(f)+" "+name]; exit != "" && message != nil {
				owned[message] = exit
			}
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				text, _ := strconv.Unquote(lit.Value)
				texts = append(texts, said{verb.ReplaceAllString(text, "…"), owned[lit], set.Position(lit.Pos()).String()})
			}
			return true
		})
	}
	return texts, exits
}

// exitNumbers finds the exit statuses that a file declares: constants called
// exit... and the cluster tool's codes.
func exitNumbers(f *ast.File) map[string]string {
	found := map[string]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Names) != 1 || len(spec.Values) != 1 {
			return true
		}
		name := spec.Names[0].Name
		switch v := spec.Values[0].(type) {
		case *ast.BasicLit:
			if strings.HasPrefix(name, "exit") && v.Kind == token.INT {
				found[name] = v.Value
			}
		case *ast.CompositeLit:
			if kind, ok := v.Type.(*ast.Ident); ok && kind.Name == "code" && len(v.Elts) == 3 {
				found[name] = v.Elts[1].(*ast.BasicLit).Value
			}
		}
		return true
	})
	return found
}

// failureAt recognises fail(code, "message" ...) and &failure{exit, an error
// made of "message", ...}.
func failureAt(n ast.Node) (code string, message *ast.BasicLit) {
	var first, second ast.Expr
	switch n := n.(type) {
	case *ast.CallExpr:
		if f, ok := n.Fun.(*ast.Ident); ok && f.Name == "fail" && len(n.Args) >= 2 {
			first, second = n.Args[0], n.Args[1]
		}
	case *ast.CompositeLit:
		if f, ok := n.Type.(*ast.Ident); ok && f.Name == "failure" && len(n.Elts) >= 2 {
			first, second = n.Elts[0], n.Elts[1]
			call, ok := second.(*ast.CallExpr) // fmt.Errorf or errors.New
			if !ok || len(call.Args) == 0 {
				return "", nil
			}
			second = call.Args[0]
		}
	}
	id, _ := first.(*ast.Ident)
	message, _ = second.(*ast.BasicLit)
	if id == nil || message == nil {
		return "", nil
	}
	return id.Name, message
}

// Every message of the tables stands so in the code, ends the program with the
// status of that row, and has a test that exists.
func TestFailuresAreAsThePageTells(t *testing.T) {
	texts, exits := sources(t)
	for _, r := range failureTable(t) {
		if m := exitShape.FindStringSubmatch(r.exits); r.exits != "runs on" && (m == nil || !exits[r.exits]) {
			t.Errorf("line %d: no program ends with %q", r.line, r.exits)
		}
		if len(r.messages) == 0 || len(r.tests) == 0 {
			t.Errorf("line %d: a message and a test are needed", r.line)
		}
		for _, m := range r.messages {
			if len(strings.Trim(m, "…: ")) < 6 {
				t.Errorf("line %d: %q could be anything", r.line, m)
			}
			program, _, _ := strings.Cut(r.exits, " ")
			found, ends := false, ""
			for _, s := range texts {
				if !strings.Contains(s.text, m) {
					continue
				}
				found = true
				if own, _, _ := strings.Cut(s.exit, " "); own == program && ends != r.exits {
					ends = s.exit
				}
			}
			if !found {
				t.Errorf("line %d: nothing says %q", r.line, m)
			}
			if ends != "" && ends != r.exits {
				t.Errorf("line %d: %q ends with %s", r.line, m, ends)
			}
		}
		source := ""
		for _, name := range r.tests {
			source += testSource(t, r.line, name)
		}
		for _, m := range r.messages {
			if parts := distinctive(m); !slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(source, p) }) {
				t.Errorf("line %d: %q is proved by %v, which do not say any of %q", r.line, m, r.tests, parts)
			}
		}
	}
}

// plainWords are those that any message may have.
var plainWords = regexp.MustCompile(`^(a|an|and|are|at|be|but|by|can|cannot|did|do|does|file|for|has|if|in|is|it|its|no|not|now|of|on|or|server|servers|that|the|there|this|to|was|with)$`)

// bare takes out punctuation, and what quotes it in tests.
var bare = strings.NewReplacer("\\", "", ":", "", ";", "", ",", "", "(", "", ")", "", "?", "", ".", "")

// distinctive returns the parts of a message of which a test that proves it has
// one at least: two words in a row that are not both plain, or the one word there
// is between two fillings.
func distinctive(message string) (parts []string) {
	var single []string
	for piece := range strings.SplitSeq(message, "…") {
		words := strings.Fields(bare.Replace(piece))
		for i := range len(words) - 1 {
			if !plainWords.MatchString(words[i]) || !plainWords.MatchString(words[i+1]) {
				parts = append(parts, words[i]+" "+words[i+1])
			}
		}
		single = append(single, words...)
	}
	if len(parts) == 0 {
		return single
	}
	return parts
}

// testSource returns the text of "ROOM TestX" or "ROOM script.txtar", without
// punctuation, for distinctive has none, and without what quotes.
func testSource(t *testing.T, line int, name string) string {
	room, test, _ := strings.Cut(name, " ")
	if strings.HasSuffix(test, ".txtar") {
		text, err := os.ReadFile(filepath.Join(room, "testdata/script", test))
		if err != nil {
			t.Errorf("line %d: %v", line, err)
		}
		return bare.Replace(string(text))
	}
	files, _ := filepath.Glob(filepath.Join(room, "*_test.go"))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, body, found := strings.Cut(string(text), "\nfunc "+test+"("); found && test != "" {
			body, _, _ = strings.Cut(body, "\n}\n")
			return bare.Replace(body)
		}
	}
	t.Errorf("line %d: %s has no test %q", line, room, test)
	return ""
}

// No failure of the server or the cluster tool is missing from the tables.
func TestThePageTellsEveryFailure(t *testing.T) {
	told := map[string][]string{} // exit -> messages
	for _, r := range failureTable(t) {
		told[r.exits] = append(told[r.exits], r.messages...)
	}
	texts, _ := sources(t)
	counted := 0
	for _, s := range texts {
		if s.exit == "" || len(strings.Trim(s.text, "…: ")) == 0 { // or only what lies below
			continue
		}
		counted++
		if !slices.ContainsFunc(told[s.exit], func(m string) bool { return strings.Contains(s.text, m) }) {
			t.Errorf("%s: docs/operations.md does not tell of %q (%s)", s.where, s.text, s.exit)
		}
	}
	if counted < 80 {
		t.Errorf("only %d failures were found in the code", counted)
	}
}
