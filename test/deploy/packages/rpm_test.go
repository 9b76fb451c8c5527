package packages

import (
	"path/filepath"
	"strings"
	"testing"
)

// The whole life of the other package, on the same machine: its scripts are what
// is looked at, and rpm runs them as it does at home.
func TestRPM(t *testing.T) {
	m := boot(t)
	m.run("mkdir", "-p", "/etc/systemd/system-preset")
	m.write("/etc/systemd/system-preset/99.preset", "disable *\n") // as it is where rpm is at home
	older, newer := pkg(t, older, "rpm"), pkg(t, newer, "rpm")
	m.bring(older, newer)
	env := append([]string{"env"}, unpacked("/mnt")...)
	rpm := func(args ...string) string {
		return m.run(append(append(env, "/mnt/usr/bin/rpm", "--dbpath", "/root/rpm"), args...)...)
	}
	if said := m.run(append(env, "/mnt/usr/bin/rpmkeys", "--dbpath", "/root/rpm", "-K", "/root/"+filepath.Base(older))...); !strings.Contains(said, "digests OK") {
		t.Error(said)
	}

	// --nodeps: what it needs is here by way of dpkg.
	rpm("--nodeps", "--install", "/root/"+filepath.Base(older))
	installed(t, m)
	if said := rpm("--verify", "--nodeps", "smtpseal"); said != "" {
		t.Errorf("rpm finds changed what it has just installed:\n%s", said)
	}
	s := configure(t, m)
	m.run("systemctl", "enable", "--now", "smtpseal")
	mails := s.load(4)
	upgraded(t, s, mails, func() { rpm("--nodeps", "--upgrade", "/root/"+filepath.Base(newer)) })
	mails.end(t, s.server)
	if said := rpm("--query", "--state", "--configfiles", "smtpseal"); !strings.Contains(said, configFile) {
		t.Errorf("the configuration is none to rpm: %s", said)
	}

	rpm("--nodeps", "--erase", "smtpseal")
	for _, question := range []string{"is-active", "is-enabled"} {
		if said, ok := m.try("systemctl", question, "smtpseal"); ok {
			t.Errorf("removed, %s: %s", question, said)
		}
	}
	for _, kept := range []string{configFile + ".rpmsave", "/var/lib/smtpseal/internal/root.crt"} {
		if !m.has(kept) {
			t.Errorf("a removal takes %s along", kept)
		}
	}
	if m.has("/usr/lib/smtpseal") || m.has("/usr/bin/smtpseal") {
		t.Error("a removal leaves something")
	}
}
