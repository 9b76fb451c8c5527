package observability

import (
	"crypto/tls"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"smtpseal/proxy"
)

// TestFail2ban has fail2ban look for whom to ban in what the program writes, in
// both forms and as each way of logging brings it along.
func TestFail2ban(t *testing.T) {
	for _, form := range []string{"json", "console"} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			p := start(t, form)
			callers := p.visitAll(t, visits...)
			for _, mode := range []string{"normal", "aggressive"} {
				found := found(t, p.log.String(), mode)
				for _, c := range callers {
					want := 0
					if mode == "normal" && c.normal || mode == "aggressive" && c.aggressive {
						want = len(ways)
					}
					if found[c.ip] != want {
						t.Errorf("mode=%s: %s: found %d times, want %d:\n%s", mode, c.name, found[c.ip], want, c.line)
					}
				}
				if found["192.0.2.66"] > 0 {
					t.Errorf("mode=%s: who was only named is found", mode)
				}
			}
		})
	}
}

// TestFail2banWithoutACertificate: that clients do not get TLS then is no fault
// of theirs.
func TestFail2banWithoutACertificate(t *testing.T) {
	t.Parallel()
	for _, form := range []string{"json", "console"} {
		p := startWith(t, form, fmt.Sprintf(`certificates: [{names: [mail.example.test]}]
acme: {email: postmaster@example.test, directory: "https://127.0.0.1:1/", challenges: [http-01], http_listen: %q}`, free(t, "127.0.0.1")))
		p.visitAll(t,
			visit{name: "TLS", at: "submissions", play: handshake(&tls.Config{InsecureSkipVerify: true}), outcome: "tls_failed"},
			visit{name: "STARTTLS", at: "submission", play: clear("EHLO x\r\n", "STARTTLS\r\n"), outcome: "no_tls"})
		if found := found(t, p.log.String(), "aggressive"); len(found) > 0 {
			t.Errorf("%s: found %v in\n%s", form, found, p.log.String())
		}
	}
}

// ways are what stands before a line in a file, from the journal and by syslog.
var ways = []string{"", "mail smtpseal[42]: ", "Nov 22 09:00:00 mail smtpseal[42]: "}

// found says how often the filter finds an address, in the log as each way
// brings it along.
func found(t *testing.T, log, mode string) map[string]int {
	t.Helper()
	var text strings.Builder
	for _, way := range ways {
		for line := range strings.Lines(log) {
			text.WriteString(way + line)
		}
	}
	file := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	filter := filepath.Join(deployed, "fail2ban", "filter.d", "smtpseal.conf") + "[mode=" + mode + "]"
	_, root := tool(t, "fail2ban-regex")
	times := map[string]int{}
	for _, ip := range strings.Fields(fail2ban(t, "fail2ban-regex", "-c", filepath.Join(root, "etc", "fail2ban"), "-o", "ip", file, filter)) {
		times[ip]++
	}
	return times
}

// fail2ban runs one of its programs from where it is unpacked.
func fail2ban(t *testing.T, name string, args ...string) string {
	t.Helper()
	path, root := tool(t, name)
	command := exec.Command("/usr/bin/python3", append([]string{path}, args...)...)
	command.Env = append(os.Environ(), "PYTHONPATH="+filepath.Join(root, "usr", "lib", "python3", "dist-packages"), "PYTHONDONTWRITEBYTECODE=1")
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

// TestFail2banTakesTheJail has fail2ban read the whole of its configuration
// with ours in it.
func TestFail2banTakesTheJail(t *testing.T) {
	t.Parallel()
	_, root := tool(t, "fail2ban-client")
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(root, "etc", "fail2ban"))); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "jail.d")); err != nil { // Debian's own looks for a log of sshd
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(deployed, "fail2ban"))); err != nil {
		t.Fatal(err)
	}
	out := fail2ban(t, "fail2ban-client", "-c", dir, "--dp")
	for _, want := range []string{
		`['set', 'smtpseal', 'maxretry', 5]`, `['set', 'smtpseal', 'bantime', '1h']`, `['add', 'smtpseal', 'systemd']`,
		`_SYSTEMD_UNIT=smtpseal.service`, `smtp,submission,submissions`, `smuggling|bad_bdat`,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
}

// What the filter calls by name is there.
func TestFail2banKnowsTheNames(t *testing.T) {
	filter := read(t, deployed, "fail2ban", "filter.d", "smtpseal.conf")
	var known []string
	for _, outcome := range proxy.Outcomes {
		known = append(known, string(outcome))
	}
	for _, phase := range proxy.Phases {
		known = append(known, string(phase))
	}
	known = append(known, proxy.ViolationKinds...)
	var names []string
	if line := regexp.MustCompile(`(?m)^_attack = (.*)$`).FindStringSubmatch(filter); line != nil {
		names = strings.Split(line[1], "|")
	}
	for _, group := range regexp.MustCompile(`"(?:phase|outcome)": \?"\(\?:([a-z_|]+)\)"`).FindAllStringSubmatch(filter, -1) {
		names = append(names, strings.Split(group[1], "|")...)
	}
	if len(names) < 8 {
		t.Errorf("only %q are seen", names)
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			t.Errorf("the filter names %q, which the log does not have", name)
		}
	}
}
