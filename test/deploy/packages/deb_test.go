package packages

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"smtpseal/test/loopback"
)

// A package's whole life on a Debian machine.
func TestDebianPackage(t *testing.T) {
	m := boot(t)
	m.bring(pkg(t, older, "deb"), pkg(t, newer, "deb"))
	install := func(dir string) { m.run("dpkg", "--install", "/root/"+filepath.Base(pkg(t, dir, "deb"))) }

	install(older)
	installed(t, m)
	startsSafely(t, m)
	s := configure(t, m)
	m.run("systemctl", "enable", "--now", "smtpseal")
	if got := m.run("stat", "-c", "%U:%G %a", configFile); got != "root:smtpseal 640\n" {
		t.Errorf("behind an edit the configuration is %s", got)
	}

	mails := s.load(8)
	upgraded(t, s, mails, func() { install(newer) })
	if text, _ := os.ReadFile(m.path(configFile)); !strings.HasPrefix(string(text), "# ours\n") {
		t.Errorf("the upgrade has replaced the configuration by\n%s", text)
	}
	refused(t, s, mails)
	install(newer) // the administrator puts it right
	upgraded(t, s, mails, func() { install(older) })
	mails.end(t, s.server)

	m.run("dpkg", "--remove", "smtpseal")
	if state, ok := m.try("systemctl", "is-active", "smtpseal"); ok {
		t.Errorf("removed, and %s", state)
	}
	for _, kept := range []string{configFile, "/var/lib/smtpseal/internal/root.crt"} {
		if !m.has(kept) {
			t.Errorf("a removal takes %s along", kept)
		}
	}
	m.run("dpkg", "--purge", "smtpseal")
	left := m.run("find", "/etc", "/usr", "/var", "-xdev", "-name", "*smtpseal*", "-not", "-path", "/var/log/*", "-not", "-path", "/var/cache/man/*")
	if left != "" {
		t.Errorf("a purge leaves\n%s", left)
	}
	if state, ok := m.try("systemctl", "is-enabled", "smtpseal"); ok {
		t.Errorf("purged, and %s", state)
	}
}

// installed is right behind an installation: nothing runs that nobody asked for.
func installed(t *testing.T, m *machine) {
	t.Helper()
	for _, question := range []string{"is-enabled", "is-active"} {
		for _, unit := range []string{"smtpseal.service", "smtpseal.socket"} {
			if said, ok := m.try("systemctl", question, unit); ok {
				t.Errorf("newly installed, %s %s: %s", unit, question, said)
			}
		}
	}
	for file, want := range map[string]string{configFile: "root:smtpseal 640\n", "/var/lib/smtpseal": "smtpseal:smtpseal 700\n", "/usr/bin/smtpseal": "root:root 755\n"} {
		if got := m.run("stat", "-c", "%U:%G %a", file); got != want {
			t.Errorf("%s is %swant %s", file, got, want)
		}
	}
	m.run("runuser", "-u", "smtpseal", "--", "smtpseal", "check")
	if _, ok := m.try("runuser", "-u", "nobody", "--", "cat", configFile); ok {
		t.Errorf("%s may be read by all", configFile)
	}
	m.run("systemd-analyze", "verify", "/usr/lib/systemd/system/smtpseal.service", "/usr/lib/systemd/system/smtpseal.socket")
	m.run("man", "--where", "smtpseal-run")
	if said := m.run("bash", "-c", "source /usr/share/bash-completion/completions/smtpseal && complete -p smtpseal"); !strings.Contains(said, "smtpseal") {
		t.Errorf("bash completes %q", said)
	}
}

// startsSafely starts what was installed as it is, but for ports that are free
// here: only this machine can connect.
func startsSafely(t *testing.T, m *machine) {
	t.Helper()
	text, err := os.ReadFile(m.path(configFile))
	if err != nil {
		t.Fatal(err)
	}
	listens := regexp.MustCompile(`listen: "([^"]*)"`)
	for _, found := range listens.FindAllSubmatch(text, -1) {
		if !bytes.HasPrefix(found[1], []byte("127.0.0.1:")) {
			t.Fatalf("as installed it listens on %s", found[1])
		}
	}
	free := func() string {
		addr, err := loopback.Free("127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		return addr
	}
	changed := listens.ReplaceAllStringFunc(string(text), func(string) string { return `listen: "` + free() + `"` })
	changed = strings.Replace(changed, "127.0.0.1:10025", free(), 1) + "admin: {listen: off}\n"
	m.write(configFile, changed)
	m.run("systemctl", "start", "smtpseal")
	if n := strings.Count(changed, "listen: \"127.0.0.1:"); n != 2 {
		t.Errorf("%d listeners as installed", n)
	}
	m.run("systemctl", "stop", "smtpseal")
	if got := m.mainPID(); got != "0" {
		t.Errorf("stopped, and process %s runs", got)
	}
}

// upgraded does what brings another program, and returns when that one serves.
func upgraded(t *testing.T, s *site, mails *load, upgrade func()) {
	t.Helper()
	flowing(t, mails)
	before := s.mainPID()
	upgrade()
	after := s.mainPID()
	if after == before || after == "0" {
		t.Errorf("process %s behind %s", after, before)
	}
	s.run("cmp", "/proc/"+after+"/exe", "/usr/bin/smtpseal")
	s.run("systemctl", "is-active", "smtpseal")
	flowing(t, mails)
	until(t, "the old process to be gone", func() bool {
		_, there := s.try("test", "-e", "/proc/"+before)
		return !there
	})
}

// flowing returns when some mail more has been taken.
func flowing(t *testing.T, mails *load) {
	t.Helper()
	n := mails.sent()
	until(t, "mail to flow", func() bool { return mails.sent() > n+50 })
}

// refused tries a program that does not come up: the old one goes on, and the
// reason is told long before the minute is over that one which hangs would get.
func refused(t *testing.T, s *site, mails *load) {
	t.Helper()
	before := s.mainPID()
	s.run("sh", "-c", "printf '#!/bin/sh\\nexit 3\\n' >/root/broken && install /root/broken /usr/bin/smtpseal")
	began := time.Now()
	said, ok := s.try("/usr/lib/smtpseal/upgrade")
	if ok || !strings.Contains(said, "did not come up") {
		t.Errorf("of a program that ends at once: %v, %q", ok, said)
	}
	if took := time.Since(began); took > 40*time.Second {
		t.Errorf("told after %v", took)
	}
	if after := s.mainPID(); after != before {
		t.Errorf("process %s behind %s", after, before)
	}
	flowing(t, mails)
}
