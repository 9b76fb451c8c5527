package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"smtpseal/cmd/smtpseal/recipe"
	"smtpseal/config"
)

// nameOf is what clients connect to, as far as the file says it.
func nameOf(c *config.Config) string {
	var certified []string
	for _, one := range c.Certificates {
		certified = append(certified, one.Names...)
	}
	return cmp.Or(c.Hostname, firstHostname(certified))
}

// internalCA reports whether the certificate of a name is by our own CA. It is
// asked of the one that has the name, else of the first, which clients get then.
func internalCA(c *config.Config, name string) bool {
	i := slices.IndexFunc(c.Certificates, func(one config.Certificate) bool { return slices.Contains(one.Names, name) })
	return len(c.Certificates) > 0 && c.Certificates[max(i, 0)].Internal
}

func firstHostname(names []string) string {
	i := slices.IndexFunc(names, func(name string) bool {
		_, err := netip.ParseAddr(name)
		return err != nil && !strings.HasPrefix(name, "*.")
	})
	if i < 0 {
		return ""
	}
	return names[i]
}

func listenersOf(c *config.Config, backend string) []recipe.Listener {
	var all []recipe.Listener
	for _, l := range c.Listeners {
		if l.Backend != backend {
			continue
		}
		one := recipe.Listener{Name: l.Name, Mode: l.Mode}
		for _, a := range l.Listen {
			if _, port, err := net.SplitHostPort(a.Addr); a.Network == "tcp" && err == nil {
				one.Ports = append(one.Ports, port)
			}
		}
		all = append(all, one)
	}
	return all
}

func serversOf(b config.Backend) ([]recipe.Server, error) {
	var all []recipe.Server
	for _, a := range b.Servers {
		host, port, err := net.SplitHostPort(a.Addr)
		if a.Network != "tcp" || err != nil {
			return nil, advised{fmt.Errorf("backend %s: servers has %s, and recipes know host and port alone", b.Name, a),
				`write an address of loopback, such as servers: ["127.0.0.1:10025"]`}
		}
		all = append(all, recipe.Server{Host: host, Port: port})
	}
	return all, nil
}

const routeTimeout = 3 * time.Second // bounds the look-up of a server's name

// source is the address that the server will see. To connect a UDP socket sends
// nothing: it asks the system for the route.
func (k *cook) source(ctx context.Context, addr string, s recipe.Server) (string, error) {
	switch {
	case k.from != "":
		ip, err := netip.ParseAddr(k.from)
		if err != nil {
			return "", advised{fmt.Errorf("--from: %q is no address", k.from), "write an IP address, such as --from 192.0.2.5"}
		}
		return ip.Unmap().WithZone("").String(), nil
	case s.Loopback() && s.IPv6():
		return "::1", nil
	case s.Loopback():
		return "127.0.0.1", nil
	}
	dialer := net.Dialer{Timeout: routeTimeout}
	conn, err := dialer.DialContext(ctx, "udp", addr)
	if err != nil {
		return "", advised{fmt.Errorf("from which address does smtpseal reach %s? This machine does not know: %w", addr, err), "--from ADDRESS says it"}
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap().WithZone("").String(), nil
}
