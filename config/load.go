package config

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// ServerFlags registers the server's flags on fs. Values are checked by
// LoadServer, together with those of all other floors.
func ServerFlags(fs *pflag.FlagSet) { registerFlags(fs, serverRows) }

// registerFlags makes every flag a string, so that a bad number is reported
// beside all other faults instead of ending the parse.
func registerFlags(fs *pflag.FlagSet, rows []row) {
	for _, r := range rows {
		if r.noFlag {
			continue
		}
		usage := "`" + r.arg + "`: " + r.help + " (" + r.env
		if r.def != "" {
			usage += ", default " + r.def
		}
		fs.StringP(r.key, r.short, "", usage+")")
	}
}

// common fills what every binary has. Notes and Settings are added last, by finish.
func (f *floors) common() Common {
	return Common{
		InContainer: f.env["TERRACOTTA_CONTAINER"] == "1",
		EULA:        f.env["ACCEPT_EULA"] == "Y",
		LogLevel:    f.oneOf("log-level", "debug", "info", "warn", "error"),
		LogFormat:   f.oneOf("log-format", "text", "json"),
	}
}

// text returns a setting as it was written, without white space around it.
func (f *floors) text(key string) string { return strings.TrimSpace(f.v.GetString(key)) }

// password returns the shared secret of password-file or password, "" = none.
func (f *floors) password() string {
	path, direct := f.text("password-file"), f.v.GetString("password")
	const example = "TC_PASSWORD_FILE=/run/secrets/terracotta"
	switch {
	case path != "" && direct != "":
		f.fault("password-file", path, f.origin["password-file"],
			"password and password-file are both set; which one counts?", example)
		return ""
	case path != "":
		doc, err := readLimited(path, maxSecretFile)
		if err != nil {
			f.bad("password-file", err.Error())
			return ""
		}
		direct = strings.TrimRight(string(doc), "\r\n")
		if direct == "" {
			f.bad("password-file", "holds no password")
		}
	}
	if strings.ContainsAny(direct, "\r\n\x00") {
		f.fault("password", "", f.origin["password"], "has more than one line", example)
	}
	return direct
}

// hostname returns this host's name and settles its origin.
func (f *floors) hostname() string {
	if f.text("hostname") == "" {
		name, err := os.Hostname()
		if err != nil || name == "" {
			name = "localhost"
		}
		f.lay(map[string]value{"hostname": {name, "this machine"}})
	}
	if problem := checkHost(f.text("hostname")); problem != "" {
		f.bad("hostname", problem)
	}
	return f.text("hostname")
}

// installedKeys is where the images keep the public keys that they trust.
const installedKeys = "/etc/terracotta/trusted"

// trustedKeys returns the directory of public keys and settles its origin.
func (f *floors) trustedKeys(executable string) string {
	if f.text("trusted-keys") == "" {
		dir := installedKeys
		if !isDir(dir) {
			if kit := kitKeys(executable); kit != "" {
				dir = kit
			}
		}
		f.lay(map[string]value{"trusted-keys": {dir, originDefault}})
		return dir
	}
	if dir := f.text("trusted-keys"); !isDir(dir) {
		f.bad("trusted-keys", "is not a directory")
	}
	return f.text("trusted-keys")
}

// kitKeys looks for license/trusted in the folders above the executable: it lies
// at most four deep in the kit. "" means that there is none.
func kitKeys(executable string) string {
	dir := filepath.Dir(executable)
	for range 5 {
		if keys := filepath.Join(dir, "license", "trusted"); isDir(keys) {
			return keys
		}
		dir = filepath.Dir(dir)
	}
	return ""
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func executable() string {
	path, err := os.Executable()
	if err != nil {
		return ""
	}
	return path
}

// variables returns the values of the substitutions of a tc-config.xml: %h %i %H
// %n %t of this machine and its environment, and %(property) from props, then
// user.home, user.name, user.dir, java.io.tmpdir.
func variables(host string, env, props map[string]string) func(string) (string, bool) {
	first := func(values ...string) (string, bool) {
		for _, v := range values {
			if v != "" {
				return v, true
			}
		}
		return "", false
	}
	return func(name string) (string, bool) {
		if v, ok := props[name]; ok {
			return v, true
		}
		switch name {
		case "%h":
			machine, _ := os.Hostname()
			return first(host, machine)
		case "%i":
			return first(machineAddress())
		case "%H", "user.home":
			return first(env["HOME"])
		case "%n", "user.name":
			return first(env["USER"], env["LOGNAME"], strconv.Itoa(os.Getuid()))
		case "%t", "java.io.tmpdir":
			return first(env["TMPDIR"], "/tmp")
		case "user.dir":
			dir, err := os.Getwd()
			return dir, err == nil
		}
		return "", false
	}
}

// machineAddress returns the machine's first address that others can reach,
// else the loopback address.
func machineAddress() string {
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.IsGlobalUnicast() && ip.IP.To4() != nil {
			return ip.IP.String()
		}
	}
	return "127.0.0.1"
}
