package foreign

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"

	"github.com/terracotta-go/terracotta/internal/testcluster"
)

// missing skips a test whose tool is not installed.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("TOOLS_REQUIRED") == "1" {
		t.Fatalf("TOOLS_REQUIRED=1, but %s is not installed", what)
	}
	t.Skipf("%s is not installed; TOOLS_REQUIRED=1 makes this a failure", what)
}

func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, name)
	}
	return path
}

// python returns an interpreter that has redis-py: the system's own where another one comes first.
func python(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		if path, err := exec.LookPath(name); err == nil && exec.Command(path, "-c", "import redis").Run() == nil {
			return path
		}
	}
	missing(t, "python3 with redis-py (python3-redis)")
	return ""
}

func php(t *testing.T) string {
	t.Helper()
	path := tool(t, "php")
	if modules, _ := exec.Command(path, "-m").Output(); !strings.Contains(string(modules), "\nredis\n") {
		missing(t, "the extension redis of PHP (php-redis)")
	}
	return path
}

// run runs a program and returns what it prints.
func run(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // one of them compiles
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", filepath.Base(name), args, err, out)
	}
	return string(out)
}

func start(t *testing.T) (addr, port string) {
	t.Helper()
	addr = testcluster.Start(t).Addr()
	_, port, _ = net.SplitHostPort(addr)
	return addr, port
}

func want(t *testing.T, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestGoRedis(t *testing.T) {
	addr, _ := start(t)
	ctx := t.Context()
	for _, protocol := range []int{2, 3} {
		c := redis.NewClient(&redis.Options{Addr: addr, Protocol: protocol, ClientName: "shop"})
		want(t, "SET", c.Set(ctx, "k", "v", time.Minute).Err(), nil)
		want(t, "GET", c.Get(ctx, "k").Val(), "v")
		want(t, "GET of nothing", c.Get(ctx, "nothing").Err(), redis.Nil)
		want(t, "SETNX", c.SetNX(ctx, "k", "w", 0).Val(), false)
		if ttl := c.TTL(ctx, "k").Val(); ttl <= 0 || ttl > time.Minute { // the clock runs
			t.Errorf("TTL: %v", ttl)
		}
		want(t, "EXPIRE", c.Expire(ctx, "k", time.Hour).Val(), true)
		want(t, "PERSIST", c.Persist(ctx, "k").Val(), true)
		want(t, "HSET", c.HSet(ctx, "h", map[string]any{"a": 1, "b": "two"}).Err(), nil)
		want(t, "HGETALL", c.HGetAll(ctx, "h").Val(), map[string]string{"a": "1", "b": "two"})
		want(t, "HMGET", c.HMGet(ctx, "h", "b", "c").Val(), []any{"two", nil})
		want(t, "TYPE", c.Type(ctx, "h").Val(), "hash")
		want(t, "GET of a hash", c.Get(ctx, "h").Err(), "WRONGTYPE Operation against a key holding the wrong kind of value")
		want(t, "MGET", c.MGet(ctx, "k", "h", "nothing").Val(), []any{"v", nil, nil})
		answers, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i := range 500 {
				p.Set(ctx, "key:"+strconv.Itoa(i), i, 0)
				p.Get(ctx, "key:"+strconv.Itoa(i))
			}
			return nil
		})
		want(t, "a pipeline", err, nil)
		for i := range 500 {
			want(t, "a read in a pipeline", answers[2*i+1].(*redis.StringCmd).Val(), i)
		}
		var keys []string
		for it := c.Scan(ctx, 0, "key:*", 50).Iterator(); it.Next(ctx); {
			keys = append(keys, it.Val())
		}
		slices.Sort(keys)
		want(t, "SCAN", len(slices.Compact(keys)), 500)
		want(t, "DBSIZE", c.DBSize(ctx).Val(), 502)
		want(t, "DEL", c.Del(ctx, append(keys, "k", "h")...).Val(), 502)
		c.Close()
	}
}

// rueidis sends all its callers' commands on few connections: each caller must see its own.
func TestRueidis(t *testing.T) {
	addr, _ := start(t)
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, DisableCache: true, PipelineMultiplex: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := t.Context()
	var wg sync.WaitGroup
	for caller := range 32 {
		wg.Go(func() {
			key := "caller:" + strconv.Itoa(caller)
			for i := range 100 {
				value := strconv.Itoa(i)
				if err := c.Do(ctx, c.B().Set().Key(key).Value(value).ExSeconds(100).Build()).Error(); err != nil {
					t.Errorf("SET: %v", err)
				}
				got, err := c.Do(ctx, c.B().Get().Key(key).Build()).ToString()
				if err != nil || got != value {
					t.Errorf("GET: %q, %v; want %q", got, err, value)
				}
			}
		})
	}
	wg.Wait()
	entry, err := c.Do(ctx, c.B().Scan().Cursor(0).Match("caller:1?").Count(1000).Build()).AsScanEntry()
	if err != nil || len(entry.Elements) != 10 || entry.Cursor != 0 {
		t.Errorf("SCAN: %v, %v", entry, err)
	}
	want(t, "HSET", c.Do(ctx, c.B().Hset().Key("h").FieldValue().FieldValue("a", "1").Build()).Error(), nil)
	all, err := c.Do(ctx, c.B().Hgetall().Key("h").Build()).AsStrMap()
	if err != nil || len(all) != 1 || all["a"] != "1" {
		t.Errorf("HGETALL: %v, %v", all, err)
	}
}

func TestRedisPy(t *testing.T) {
	interpreter := python(t)
	_, port := start(t)
	got := run(t, `
import redis, sys
c = redis.Redis(port=int(sys.argv[1]), decode_responses=True, client_name="shop")
assert c.ping()
assert c.set("k", "v", px=60000) and 0 < c.pttl("k") <= 60000
assert c.set("k", "w", nx=True) is None
assert c.get("k") == "v" and c.get("nothing") is None
assert c.set("k", "w", keepttl=True) and 0 < c.ttl("k") <= 60
assert c.hset("h", mapping={"a": 1, "b": b"two"}) == 2
assert c.hgetall("h") == {"a": "1", "b": "two"}
assert c.hmget("h", "b", "c") == ["two", None]
assert c.hexists("h", "a") and c.hlen("h") == 2 and c.hdel("h", "a") == 1
try:
    c.get("h")
    raise SystemExit("no WRONGTYPE")
except redis.ResponseError as e:
    assert str(e).startswith("WRONGTYPE"), e
p = c.pipeline(transaction=False)
for i in range(300):
    p.set("key:%d" % i, i).get("key:%d" % i)
assert p.execute()[1::2] == [str(i) for i in range(300)]
assert sorted(c.scan_iter(match="key:*", count=7)) == sorted("key:%d" % i for i in range(300))
assert sorted(c.scan_iter(_type="hash")) == ["h"]
assert c.dbsize() == 302 and c.type("h") == "hash"
assert c.expire("k", 5) and c.persist("k") and c.exists("k", "h", "nothing") == 2
assert "redis_version" in c.info() and c.config_get("save") == {"save": ""}
print("done")
`, interpreter, "-", port)
	want(t, "redis-py", got, "done\n")
}

func TestPHPRedis(t *testing.T) {
	interpreter := php(t)
	_, port := start(t)
	got := run(t, `<?php
$c = new Redis();
$c->connect('127.0.0.1', (int)$argv[1]);
assert($c->ping());
assert($c->set('k', 'v', ['ex' => 60]) && $c->ttl('k') > 0 && $c->ttl('k') <= 60);
assert($c->set('k', 'w', ['nx']) === false);
assert($c->get('k') === 'v' && $c->get('nothing') === false);
assert($c->setex('s', 60, 'v') && $c->del('s') === 1);
assert($c->hMSet('h', ['a' => 1, 'b' => 'two']) && $c->hGetAll('h') == ['a' => '1', 'b' => 'two']);
assert($c->hMGet('h', ['b', 'c']) == ['b' => 'two', 'c' => false]);
assert($c->type('h') === Redis::REDIS_HASH && $c->exists('k', 'h') === 2);
$c->setOption(Redis::OPT_SCAN, Redis::SCAN_RETRY);
for ($i = 0; $i < 300; $i++) $c->set("key:$i", $i);
$seen = []; $cursor = null;
while ($keys = $c->scan($cursor, 'key:*', 7)) foreach ($keys as $key) $seen[$key] = true;
assert(count($seen) === 300, count($seen) . ' keys');
assert($c->dbSize() === 302);
echo "done\n";
`, interpreter, "-d", "zend.assertions=1", "-d", "assert.exception=1", "--", port)
	want(t, "phpredis", got, "done\n")
}

func TestRedisBenchmark(t *testing.T) {
	bench := tool(t, "redis-benchmark")
	_, port := start(t)
	for _, pipeline := range []string{"1", "16"} {
		got := run(t, "", bench, "-p", port, "-t", "ping,set,get,hset", "-n", "2000", "-r", "100", "-P", pipeline, "-q")
		for _, name := range []string{"SET", "GET", "HSET"} {
			if !regexp.MustCompile(`(?m)(^|\r)` + name + `: [0-9.]+ requests per second`).MatchString(got) {
				t.Errorf("no figure for %s:\n%s", name, got)
			}
		}
		if strings.Contains(strings.ToLower(got), "err") {
			t.Errorf("redis-benchmark complains:\n%s", got)
		}
	}
}

func TestRedisCLI(t *testing.T) {
	cli := tool(t, "redis-cli")
	_, port := start(t)
	say := func(args ...string) string {
		return strings.TrimSpace(run(t, "", cli, append([]string{"-p", port}, args...)...))
	}
	want(t, "SET", say("SET", "k", "v", "EX", "60"), "OK")
	want(t, "GET with -3", say("-3", "GET", "k"), "v")
	want(t, "HSET", say("HSET", "h", "a", "1"), "1")
	want(t, "HGETALL with -3", say("-3", "HGETALL", "h"), "a 1")
	want(t, "SET", say("SET", "key:1", "v"), "OK")
	scanned := strings.Fields(say("--scan"))
	slices.Sort(scanned)
	want(t, "--scan", scanned, "[h k key:1]")
	want(t, "--scan --pattern", say("--scan", "--pattern", "key*"), "key:1")
	if got := say("--bigkeys"); !strings.Contains(got, `Biggest string found '"k`) {
		t.Errorf("--bigkeys: %s", got)
	}
	// What comes by a pipe is sent without waiting.
	want(t, "a pipe", strings.TrimSpace(run(t, "SET p 1\nGET p\nDEL p\nGET p\n", cli, "-p", port)), "OK\n1\n1")
	want(t, "an unknown command", say("LPUSH", "l", "x"), "ERR unknown command 'LPUSH'; TC.HELP lists the commands")
}

var fence = regexp.MustCompile("(?ms)^```(sh|go|python|php)\n(.*?)^```$")

// TestExamplesOfThePage runs every example of docs/redis.md.
func TestExamplesOfThePage(t *testing.T) {
	page, err := os.ReadFile("../../docs/redis.md")
	if err != nil {
		t.Fatal(err)
	}
	addr, port := start(t)
	c := redis.NewClient(&redis.Options{Addr: addr})
	defer c.Close()
	ran := map[string]int{}
	for _, block := range fence.FindAllStringSubmatch(string(page), -1) {
		lang := block[1]
		ran[lang]++
		code := strings.ReplaceAll(block[2], "9410", port)
		if code == block[2] {
			t.Errorf("an example in %s uses another port than 9410", lang)
		}
		name := fmt.Sprintf("%s-%d", lang, ran[lang])
		t.Run(name, func(t *testing.T) {
			c.Del(t.Context(), "greeting")
			switch lang {
			case "sh":
				tool(t, "redis-cli")
				want(t, "the example prints", run(t, code, tool(t, "sh"), "-e"), "OK\nhello\n2\nbook\n1\npen\n3\n")
			case "go":
				dir, err := os.MkdirTemp(".", "example")
				if err != nil {
					t.Fatal(err)
				}
				defer os.RemoveAll(dir)
				if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(code), 0o600); err != nil {
					t.Fatal(err)
				}
				want(t, "the example prints", run(t, "", tool(t, "go"), "run", "./"+dir), "hello\n")
			case "python":
				want(t, "the example prints", run(t, code, python(t), "-"), "hello\n")
			case "php":
				if !strings.Contains(code, "session_start") {
					want(t, "the example prints", run(t, code, php(t)), "hello\n")
					break
				}
				for visit := 1; visit <= 3; visit++ {
					want(t, "the example prints", run(t, code, php(t), "--", "abcdefghij0123456789klmnop"), strconv.Itoa(visit)+"\n")
				}
				if ttl := c.TTL(t.Context(), "PHPREDIS_SESSION:abcdefghij0123456789klmnop").Val(); ttl <= 0 {
					t.Errorf("the session lives for %v", ttl)
				}
			}
		})
	}
	want(t, "examples", ran, map[string]int{"sh": 1, "go": 1, "python": 1, "php": 2})
}
