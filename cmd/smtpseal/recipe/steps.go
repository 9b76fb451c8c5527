package recipe

import (
	"net"
	"slices"
	"strings"
)

// This file is what to do when the server has its side: to look from outside,
// and to log in, which a probe has no password for.

// probing is the probe, before it the root that it has to trust if no CA of the
// system has signed the certificate.
func (f Facts) probing() []string {
	probe := "smtpseal probe " + f.targets()
	if !f.Internal {
		return []string{probe}
	}
	return []string{"smtpseal certs export -c " + f.config() + " --root > root.pem", probe + " --ca root.pem"}
}

// targets are what to probe: the host alone if the ports are the usual ones.
func (f Facts) targets() string {
	usual := []string{"25", "465", "587"}
	var all []string
	for _, l := range f.Listeners {
		for _, port := range l.Ports {
			if target := net.JoinHostPort(f.Name(), port); slices.Contains(usual, port) {
				all = append(all, f.Name())
			} else {
				all = append(all, target)
			}
		}
	}
	if len(all) == 0 {
		return f.Name()
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), " ")
}

// ways are how swaks begins TLS, by mode, the easier one to read the log of first.
var ways = []struct{ mode, flag string }{{"starttls", "--tls"}, {"implicit", "-tlsc"}}

// loggingIn is one mail with a login, if a port is for people.
func (f Facts) loggingIn() []string {
	for _, way := range ways {
		for _, l := range f.Listeners {
			if l.Mode == way.mode && len(l.Ports) > 0 {
				return []string{"swaks --server " + net.JoinHostPort(f.Name(), l.Ports[0]) + " " + way.flag + " --auth --auth-user NAME --from ADDRESS --to ADDRESS"}
			}
		}
	}
	return nil
}
