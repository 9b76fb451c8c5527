package packages

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// With the socket unit systemd holds the port, and smtpseal has no capability at
// all; without it, as everywhere else in these tests, it opens the port itself.
func TestSocketUnit(t *testing.T) {
	m := boot(t)
	m.bring(pkg(t, older, "deb"))
	m.run("dpkg", "--install", "/root/"+filepath.Base(pkg(t, older, "deb")))
	s := configure(t, m)
	dropIn(m, "smtpseal.socket", "[Socket]\nListenStream=\nListenStream="+s.addr)
	dropIn(m, "smtpseal.service", "[Service]\nAmbientCapabilities=\nCapabilityBoundingSet=")
	m.run("systemctl", "start", "smtpseal.socket")
	if got := m.mainPID(); got != "0" {
		t.Fatalf("process %s before anybody has come", got)
	}
	m.run("systemctl", "start", "smtpseal.service") // for the root of its CA; a client would do it, too
	mails := s.load(4)
	flowing(t, mails)
	m.run("systemctl", "restart", "smtpseal.service") // clients wait meanwhile
	flowing(t, mails)
	upgraded(t, s, mails, func() { m.run("/usr/lib/smtpseal/upgrade") })
	mails.end(t, s.server)
	if status, _ := os.ReadFile("/proc/" + m.pid + "/root/proc/" + m.mainPID() + "/status"); !strings.Contains(string(status), "CapBnd:\t0000000000000000\n") {
		t.Errorf("it has capabilities:\n%s", status)
	}
}

func dropIn(m *machine, unit, text string) {
	m.t.Helper()
	dir := "/etc/systemd/system/" + unit + ".d"
	m.run("mkdir", "-p", dir)
	m.write(dir+"/test.conf", text+"\n")
	m.run("systemctl", "daemon-reload")
}

// Why smtpseal.service has a user that stays: DynamicUser=yes would make it no
// safer, and take the storage away from that user.
func TestDynamicUserHasNothingToOffer(t *testing.T) {
	m := boot(t)
	m.bring(pkg(t, older, "deb"))
	m.run("dpkg", "--install", "/root/"+filepath.Base(pkg(t, older, "deb")))
	configure(t, m)
	as := []string{"runuser", "-u", "smtpseal", "--", "smtpseal", "certs", "list"}
	m.run("systemctl", "start", "smtpseal")
	m.run(as...)
	with := exposure(t, m)
	m.run("systemctl", "stop", "smtpseal")

	dropIn(m, "smtpseal.service", "[Service]\nDynamicUser=yes")
	m.run("systemctl", "start", "smtpseal")
	if said, ok := m.try(as...); ok {
		t.Errorf("the storage of DynamicUser=yes is within reach, so the unit may have it:\n%s", said)
	}
	if dynamic := exposure(t, m); dynamic != with || with > "2.0" {
		t.Errorf("exposure %s with DynamicUser=yes, %s without", dynamic, with)
	}
}

// exposure is what systemd-analyze makes of the unit with its drop-ins, from 0.0
// to 10.0.
func exposure(t *testing.T, m *machine) string {
	t.Helper()
	said := m.run("systemd-analyze", "security", "--no-pager", "smtpseal.service")
	found := regexp.MustCompile(`exposure level for smtpseal.service: (\d\.\d)`).FindStringSubmatch(said)
	if found == nil {
		t.Fatal(said)
	}
	return found[1]
}
