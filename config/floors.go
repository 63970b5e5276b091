package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// Limits on what is read, in bytes.
const (
	maxSettingsFile = 64 << 10
	maxSecretFile   = 4 << 10
)

const originDefault = "default"

// floors holds one binary's settings after all floors are laid over each other.
type floors struct {
	rows   []row
	v      *viper.Viper
	origin map[string]string // key -> where the value in v came from
	env    map[string]string
	props  map[string]string // all properties of JAVA_OPTS
	notes  []string
	faults []error
}

// value is one setting on one floor.
type value struct{ text, origin string }

// load lays the floors, lowest first. own is a prefix of properties that the
// caller hands on itself ("" = none). fs may be nil.
func load(rows []row, fs *pflag.FlagSet, environ []string, own string) *floors {
	f := &floors{rows: rows, v: viper.New(), origin: map[string]string{}, env: environMap(environ)}
	opts, err := parseJavaOpts(f.env["JAVA_OPTS"])
	if err != nil {
		f.fault("JAVA_OPTS", "", "environment JAVA_OPTS", err.Error(), `JAVA_OPTS='-Dname=value -Dother="two words"'`)
	}
	f.props = opts.props
	if len(opts.ignored) > 0 {
		f.note("JAVA_OPTS: there is no Java here, only -Dname=value counts; ignored: %s", strings.Join(opts.ignored, " "))
	}
	defaults := map[string]value{}
	for _, r := range rows {
		defaults[r.key] = value{r.def, originDefault}
	}
	f.lay(defaults)
	upper := []map[string]value{f.properties(own), f.environment(), f.flags(fs)}
	path := value{}
	for _, floor := range upper {
		if v, ok := floor["settings"]; ok {
			path = v
		}
	}
	if path.text != "" {
		f.lay(f.settingsFile(path))
	}
	for _, floor := range upper {
		f.lay(floor)
	}
	return f
}

// lay puts one floor over those below. Value and origin change hands together,
// here and nowhere else.
func (f *floors) lay(floor map[string]value) {
	merged := map[string]any{}
	for key, v := range floor {
		merged[key], f.origin[key] = v.text, v.origin
	}
	if err := f.v.MergeConfigMap(merged); err != nil {
		panic(fmt.Sprintf("config: merge of plain strings: %v", err))
	}
}

// lower lays a value of tc-config.xml: over the default, under everything else.
func (f *floors) lower(key, text, origin string) {
	if f.origin[key] == originDefault && text != "" {
		f.lay(map[string]value{key: {text, origin}})
	}
}

func (f *floors) row(key string) row {
	for _, r := range f.rows {
		if r.key == key {
			return r
		}
	}
	return row{key: key}
}

func (f *floors) properties(own string) map[string]value {
	floor := map[string]value{}
	known := map[string]row{}
	for _, r := range f.rows {
		if r.property != "" {
			known[r.property] = r
		}
	}
	for name, text := range f.props {
		r, ok := known[name]
		switch {
		case ok:
			floor[r.key] = value{text, "JAVA_OPTS -D" + name}
		case own != "" && strings.HasPrefix(name, own):
		case strings.HasPrefix(name, "terracotta.websessions."):
			f.fault(name, "", "JAVA_OPTS", "is a property of applications that use Web Sessions, not of this program", "")
		case strings.HasPrefix(name, "terracotta."):
			f.fault(name, "", "JAVA_OPTS", "is not a known property"+nearest(name, keysOf(known)), "")
		}
	}
	return floor
}

func (f *floors) environment() map[string]value {
	floor := map[string]value{}
	known := map[string]row{}
	for _, r := range f.rows {
		known[r.env] = r
		text := f.env[r.env]
		if text == "" {
			continue // compose files set what they don't know to ""
		}
		if r.port && strings.HasPrefix(text, "tcp://") {
			f.note("environment %s=%s is set by a container link or a Kubernetes service and not used", r.env, text)
			continue
		}
		floor[r.key] = value{text, "environment " + r.env}
	}
	for name := range f.env {
		if _, ok := known[name]; ok || f.env[name] == "" || strings.Contains(f.env[name], "://") {
			continue
		}
		hint := nearest(name, keysOf(known))
		kind, rest, resource := strings.Cut(name, "_RESOURCE")
		resource = resource && (kind == "OFFHEAP" || kind == "DATA")
		third := resource && !strings.HasPrefix(rest, "1") && !strings.HasPrefix(rest, "2")
		_, serves := known["OFFHEAP_RESOURCE1_NAME"]
		switch {
		case serves && (third || resource && hint == ""):
			f.fault(name, "", "environment", "is not a known variable"+hint+
				": the built-in configuration has two resources of each kind, a tc-config.xml any number", "-f /configs/tc-config.xml -n "+"NAME")
		case hint != "" && (resource || hasOwnPrefix(name)):
			f.fault(name, "", "environment", "is not a known variable"+hint, "")
		}
	}
	return floor
}

// hasOwnPrefix reports whether an unknown variable called name can only be meant for us.
func hasOwnPrefix(name string) bool {
	return strings.HasPrefix(name, "TC_") || strings.HasPrefix(name, "LICENSE_") || strings.HasPrefix(name, "CART_")
}

func (f *floors) flags(fs *pflag.FlagSet) map[string]value {
	floor := map[string]value{}
	if fs == nil {
		return floor
	}
	for _, r := range f.rows {
		if r.noFlag {
			continue
		}
		if fl := fs.Lookup(r.key); fl != nil && fl.Changed {
			floor[r.key] = value{fl.Value.String(), "flag --" + r.key}
		}
	}
	return floor
}

// settingsFile reads the keys of the table from a YAML, TOML or JSON file.
func (f *floors) settingsFile(path value) map[string]value {
	example := "--settings /configs/settings.yaml"
	format := strings.TrimPrefix(strings.ToLower(filepath.Ext(path.text)), ".")
	if !slices.Contains([]string{"yaml", "yml", "toml", "json"}, format) {
		f.fault("settings", path.text, path.origin, "ends in none of .yaml, .yml, .toml, .json", example)
		return nil
	}
	doc, err := readLimited(path.text, maxSettingsFile)
	if err != nil {
		f.fault("settings", path.text, path.origin, err.Error(), example)
		return nil
	}
	file := viper.NewWithOptions(viper.KeyDelimiter("\x00"))
	file.SetConfigType(format)
	if err := file.ReadConfig(bytes.NewReader(doc)); err != nil {
		f.fault("settings", path.text, path.origin, fmt.Sprintf("is not %s: %v", format, errors.Unwrap(err)), example)
		return nil
	}
	floor := map[string]value{}
	for key, raw := range file.AllSettings() {
		r := f.row(key)
		switch raw.(type) {
		case nil:
			continue
		case string, int, int64, uint64, float64, bool:
		default:
			f.fault(key, "", path.text, "is not a single value", key+": "+r.example)
			continue
		}
		switch {
		case r.env == "":
			f.fault(key, "", path.text, "is not a known setting"+nearest(key, f.fileKeys()), "")
		case r.noFile:
			f.fault(key, "", path.text, "may not stand in a settings file", "environment "+r.env)
		default:
			floor[key] = value{fmt.Sprint(raw), path.text}
		}
	}
	return floor
}

func (f *floors) fileKeys() []string {
	var keys []string
	for _, r := range f.rows {
		if !r.noFile {
			keys = append(keys, r.key)
		}
	}
	return keys
}

// listed returns all settings but those that only shape the built-in configuration.
func (f *floors) listed() []Setting {
	var list []Setting
	for _, r := range f.rows {
		if r.builtin {
			continue
		}
		s := Setting{Key: r.key, Value: f.v.GetString(r.key), Origin: f.origin[r.key]}
		if r.secret && s.Value != "" {
			s.Value = "(set)"
		}
		list = append(list, s)
	}
	return list
}

func (f *floors) note(format string, args ...any) {
	f.notes = append(f.notes, fmt.Sprintf(format, args...))
}

func (f *floors) fault(key, value, origin, problem, example string) {
	f.faults = append(f.faults, &Fault{Key: key, Value: value, Origin: origin, Problem: problem, Example: example})
}

// bad records that the value of a setting is wrong. Its example is given in the
// form that the user used.
func (f *floors) bad(key, problem string) {
	r := f.row(key)
	text, origin := f.v.GetString(key), f.origin[key]
	if r.secret {
		text = ""
	}
	f.fault(key, text, origin, problem, exampleFor(r, origin))
}

func exampleFor(r row, origin string) string {
	switch {
	case r.example == "":
		return ""
	case strings.HasPrefix(origin, "flag "):
		return "--" + r.key + " " + r.example
	case strings.HasPrefix(origin, "JAVA_OPTS "):
		return "-D" + r.property + "=" + r.example
	case origin == originDefault || strings.HasPrefix(origin, "environment "):
		return r.env + "=" + r.example
	}
	return r.key + ": " + r.example
}

// err joins all faults in an order that does not depend on maps.
func (f *floors) err() error {
	slices.SortStableFunc(f.faults, func(a, b error) int { return strings.Compare(faultKey(a), faultKey(b)) })
	return errors.Join(f.faults...)
}

func faultKey(err error) string {
	var fault *Fault
	if errors.As(err, &fault) {
		return fault.Key
	}
	return ""
}

// environMap turns os.Environ() into a map; the first of two equal names wins, as in os.Getenv.
func environMap(environ []string) map[string]string {
	m := make(map[string]string, len(environ))
	for _, kv := range environ {
		name, text, ok := strings.Cut(kv, "=")
		if _, twice := m[name]; ok && name != "" && !twice {
			m[name] = text
		}
	}
	return m
}

// readLimited reads a file of at most limit bytes; its errors don't repeat the path.
func readLimited(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path) // before opening: opening a pipe would wait for whoever fills it
	switch {
	case err != nil:
		return nil, bare(err)
	case info.IsDir():
		return nil, errors.New("is a directory, not a file")
	case !info.Mode().IsRegular():
		return nil, errors.New("is not a regular file")
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, bare(err)
	}
	defer file.Close()
	doc, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, bare(err)
	}
	if int64(len(doc)) > limit {
		return nil, fmt.Errorf("is larger than %d KiB", limit>>10)
	}
	return doc, nil
}

func bare(err error) error {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}
