package upgrade

import (
	"slices"
	"strings"
	"testing"
)

func TestEnvironmentHasNothingThatWasMeantForTheOldProcess(t *testing.T) {
	old := []string{
		"PATH=/bin", "LISTEN_FDS=2", "LISTEN_PID=7", "LISTEN_FDNAMES=a:b", "LISTEN_PIDFDID=9", "NOTIFY_SOCKET=/old",
		"WATCHDOG_USEC=1", "WATCHDOG_PID=7", "SMTPSEAL_UPGRADE=8", "SMTPSEAL_TOKEN=kept", "NOTIFY_SOCKETS=kept",
	}
	got := environment(old, []Handed{{Name: Name("tcp", ":465")}, {Name: "submission"}}, []string{"NOTIFY_SOCKET=/new"})
	want := []string{
		"PATH=/bin", "SMTPSEAL_TOKEN=kept", "NOTIFY_SOCKETS=kept",
		"LISTEN_FDS=2", "LISTEN_FDNAMES=tcp%2F%3A465:submission", "NOTIFY_SOCKET=/new",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// sd_listen_fds(3): names are parted by colons, so none may hold one.
func TestNamesHoldNoColonAndAreToldFromAUnits(t *testing.T) {
	for _, addr := range []struct{ network, addr string }{
		{"tcp", "127.0.0.1:465"}, {"tcp", "[::]:0"}, {"tcp", ":25"}, {"unix", "/run/a:b/c d.sock"}, {"unix", "@abstract"},
	} {
		if name := Name(addr.network, addr.addr); strings.ContainsAny(name, ": \n") || !isOurs(name) {
			t.Errorf("%v: %q", addr, name)
		}
	}
	for _, name := range []string{"unknown", "smtpseal.socket", "tcp", "tcp/465", "unix"} {
		if isOurs(name) {
			t.Errorf("%q is a name in a unit", name)
		}
	}
}

func TestSocketNames(t *testing.T) {
	for _, c := range []struct {
		variable string
		count    int
		want     []string
		bad      bool
	}{
		{"", 0, nil, false},
		{"a:b", 2, []string{"a", "b"}, false},
		{"a::b", 3, []string{"a", "", "b"}, false},
		{"", 2, []string{"unknown", "unknown"}, false},
		{"a", 2, nil, true},
		{"a:b:c", 2, nil, true},
	} {
		got, err := socketNames(c.variable, c.count)
		if !slices.Equal(got, c.want) || (err != nil) != c.bad {
			t.Errorf("%q for %d: %q, %v", c.variable, c.count, got, err)
		}
	}
}
