package exim

import (
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// prepare writes all that Exim reads, and gives it to who runs it.
func (s *Server) prepare(config Config, root string) error {
	for _, name := range []string{"conf", "spool", "mail"} {
		if err := os.Mkdir(s.file(name), 0o755); err != nil {
			return err
		}
	}
	whole, err := s.configuration(config.Local, root)
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"exim4.conf":  whole,
		"conf/passwd": passwords(config.Users),
		"aliases":     "",
		"passwd":      fmt.Sprintf("Debian-exim:x:%d:%d::/:/bin/false\n", owner(), owner()),
		"group":       fmt.Sprintf("Debian-exim:x:%d:\n", owner()),
	} {
		if system, err := os.ReadFile(filepath.Join("/etc", name)); err == nil && (name == "passwd" || name == "group") {
			text = string(system) + text
		}
		if err := os.WriteFile(s.file(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	// A copy: Exim starts itself again by its path, from wherever it is.
	program, err := os.ReadFile(filepath.Join(root, "usr/sbin/exim4"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.file("exim4"), program, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(s.dir, 0o755); err != nil {
		return err
	}
	return s.give()
}

// give hands the directory over to the user that Exim runs as.
func (s *Server) give() error {
	if owner() == os.Geteuid() {
		return nil
	}
	return filepath.WalkDir(s.dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, owner(), owner()))
	})
}

// owner is the user that Exim runs as: the caller, unless that is root, whom
// Exim takes for an attacker's wish.
func owner() int {
	if id := os.Geteuid(); id != 0 {
		return id
	}
	return 65534 // nobody
}

// configuration is what update-exim4.conf makes of a site that is on the
// Internet: what is local, then Debian's template with the answers to its
// questions in it. This machine's paths in it become ours, the two example
// authenticators live, and all mail is ours or nobody's.
func (s *Server) configuration(local, root string) (string, error) {
	template, err := os.ReadFile(filepath.Join(root, "etc/exim4/exim4.conf.template"))
	if err != nil {
		return "", err
	}
	text := string(template)
	for _, name := range []string{"plain_server", "login_server"} {
		if text, err = uncomment(text, name); err != nil {
			return "", err
		}
	}
	for _, change := range []struct{ old, new string }{
		{"exim_path = /usr/sbin/exim4\n", "exim_path = " + s.file("exim4") + "\n"},
		{"/etc/aliases", s.file("aliases")},
		{"UPEX4CmacrosUPEX4C = 1\n", answers()},
		{"\nbegin routers\n", "\nbegin routers\n" + routers},
		{"\nbegin transports\n", "\nbegin transports\n" + strings.ReplaceAll(transports, "$DIR", s.dir)},
	} {
		if !strings.Contains(text, change.old) {
			return "", fmt.Errorf("exim4.conf.template has no %q", change.old)
		}
		text = strings.Replace(text, change.old, change.new, 1)
	}
	return strings.ReplaceAll(ours, "$DIR", s.dir) + local + text, nil
}

// uncomment makes an example of the template live.
func uncomment(text, name string) (string, error) {
	start := strings.Index(text, "\n# "+name+":\n")
	if start < 0 {
		return "", fmt.Errorf("exim4.conf.template has no example %s", name)
	}
	before, example := text[:start+1], text[start+1:]
	var live strings.Builder
	for strings.HasPrefix(example, "# ") {
		line, rest, _ := strings.Cut(example, "\n")
		fmt.Fprintln(&live, strings.TrimPrefix(line, "# "))
		example = rest
	}
	return before + live.String() + example, nil
}

// passwords is the file that the example authenticators look into.
func passwords(users map[string]string) string {
	var text strings.Builder
	for user, password := range users {
		sum := sha1.Sum([]byte(password))
		fmt.Fprintf(&text, "%s:{sha1}%s\n", user, base64.StdEncoding.EncodeToString(sum[:]))
	}
	return text.String()
}

// ours says where this Exim lives. The user runs it as itself, so deliveries
// have no privilege to drop.
const ours = `CONFDIR = $DIR/conf
SPOOLDIR = $DIR/spool
MAIN_KEEP_ENVIRONMENT = LD_LIBRARY_PATH : LD_PRELOAD : NSS_WRAPPER_PASSWD : NSS_WRAPPER_GROUP
MAIN_HARDCODE_PRIMARY_HOSTNAME = exim.` + Domain + `
DC_minimaldns = 1
log_file_path = $DIR/%slog
pid_file_path = $DIR/pid
deliver_drop_privilege = true
`

// answers are those to the questions of Debian's package, for a site on the
// Internet, but listening on loopback alone. A macro that is defined before, by
// what is local, stays as it is.
func answers() string {
	var text strings.Builder
	for _, macro := range []string{
		"MAIN_LOCAL_INTERFACES = <; 127.0.0.1 ; ::1",
		"ETC_MAILNAME = " + Domain,
		"MAIN_PACKAGE_VERSION = test",
		"MAIN_LOCAL_DOMAINS = @ : localhost : " + Domain,
		"MAIN_RELAY_TO_DOMAINS =",
		"MAIN_RELAY_NETS = : 127.0.0.1 : ::::1",
		"DC_eximconfig_configtype = internet",
		"DCconfig_internet = 1",
		"DCreadhost =",
		"DCsmarthost =",
	} {
		name, _, _ := strings.Cut(macro, " ")
		fmt.Fprintf(&text, ".ifndef %s\n%s\n.endif\n", name, macro)
	}
	return text.String()
}

const routers = `
test_inbox:
  driver = accept
  domains = ` + Domain + `
  transport = test_inbox

test_nowhere:
  driver = redirect
  data = :blackhole:

`

const transports = `
test_inbox:
  driver = appendfile
  directory = $DIR/mail
  maildir_format
  create_directory
  return_path_add
  envelope_to_add

`
