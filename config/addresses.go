package config

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// A purpose tells an address to listen on from one to dial.
type purpose int

const (
	listen purpose = iota
	dial
)

// String is the address as it is written in the file.
func (a Address) String() string {
	if a.Network != "tcp" {
		return a.Network + ":" + a.Addr
	}
	return a.Addr
}

// maxUnixPath is what Linux keeps of a socket's path, without its final NUL.
const maxUnixPath = 107

// addresses reads one address to listen on, or a list of them.
func (v value) addresses(example string) []Address {
	if v.node.Kind != yaml.SequenceNode {
		if v.node.Kind == yaml.ScalarNode && v.node.Tag == "!!int" {
			v.wrong("is "+describe(v.node)+" where an address belongs", fmt.Sprintf("write %q", ":"+v.node.Value))
			return nil
		}
		if a, ok := v.address(example, listen); ok {
			return []Address{a}
		}
		return nil
	}
	var all []Address
	remedy := `write an address such as "` + example + `", or a list of them`
	if v.items(remedy, func(item value) {
		if a, ok := item.address(example, listen); ok {
			all = append(all, a)
		}
	}) && len(v.node.Content) == 0 {
		v.wrong("is empty", remedy)
	}
	return all
}

// address reads host:port or unix:PATH, and returns it in one spelling, so that
// equal addresses are equal.
func (v value) address(example string, why purpose) (Address, bool) {
	text, ok := v.text(`"` + example + `" or unix:PATH`)
	if !ok {
		return Address{}, false
	}
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		return v.unixAddress(path)
	}
	if name, ok := strings.CutPrefix(text, "systemd:"); ok && why == listen {
		return v.systemdAddress(name)
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		v.noAddress(text, example)
		return Address{}, false
	}
	number, ok := v.port(port)
	if !ok {
		return Address{}, false
	}
	host, ok = v.host(host, number, why)
	return Address{"tcp", net.JoinHostPort(host, number)}, ok
}

func (v value) unixAddress(path string) (Address, bool) {
	switch {
	case path == "":
		v.wrong("has no path", "write one, such as unix:/run/smtpseal/submissions.sock")
	case len(path) > maxUnixPath:
		v.wrong(fmt.Sprintf("has a path of %d bytes", len(path)), fmt.Sprintf("write one of %d at most: the system keeps no more of a socket's path", maxUnixPath))
	default:
		return Address{"unix", filepath.Clean(path)}, true
	}
	return Address{}, false
}

// systemdAddress is a socket that systemd has opened, by its name in the unit
// (systemd.socket(5), FileDescriptorName=, which bounds its length and letters).
func (v value) systemdAddress(name string) (Address, bool) {
	if name == "" || len(name) > 255 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' }) {
		v.wrong(quote(name)+" is no name of a socket", "write what FileDescriptorName= says in the socket unit, such as systemd:submissions")
		return Address{}, false
	}
	return Address{"systemd", name}, true
}

func (v value) noAddress(text, example string) {
	remedy := fmt.Sprintf("write host:port, such as %q, or unix:PATH", example)
	if _, err := netip.ParseAddr(text); err == nil && strings.Contains(text, ":") {
		remedy = "write an IPv6 address in brackets, and the port behind them: \"[::1]:465\""
	}
	v.wrong(quote(text)+" is no address", remedy)
}

// wellKnown are the names that an operator might write for a port. They are
// refused: /etc/services, which would resolve them, differs between systems.
var wellKnown = map[string]string{"smtp": "25", "smtps": "465", "submissions": "465", "submission": "587"}

func (v value) port(port string) (string, bool) {
	if number, ok := wellKnown[port]; ok {
		v.wrong("names its port "+quote(port), "write the number, "+number)
		return "", false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		v.wrong(quote(port)+" is no port", "write a number from 1 to 65535")
		return "", false
	}
	return strconv.FormatUint(n, 10), true
}

func (v value) host(host, port string, why purpose) (string, bool) {
	ip, err := netip.ParseAddr(host)
	switch {
	case err == nil && why == dial && ip.IsUnspecified():
		v.wrong(quote(host)+" is no address of a server", "write the server's own, such as 127.0.0.1:"+port)
	case err == nil:
		return ip.Unmap().String(), true
	case host == "" && why == listen:
		return "", true
	case host == "*" && why == listen:
		v.wrong("\"*\" is no host", fmt.Sprintf("write %q for every address of this machine", ":"+port))
	case isHostname(host):
		return strings.ToLower(host), true
	case host == "":
		v.wrong("has no host", fmt.Sprintf("write one, such as %q", "127.0.0.1:"+port))
	default:
		v.wrong(quote(host)+" is no host", "write an IP address, or a host name such as mta.example.org")
	}
	return "", false
}

// isHostname takes a name of RFC 1123 section 2.1, and underscores, which the
// names of closed networks have. A name whose last label is a number would be a
// mistyped IPv4 address.
func isHostname(s string) bool {
	if len(s) > 253 {
		return false
	}
	labels := strings.Split(s, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.ContainsFunc(label, notInHostname) {
			return false
		}
	}
	_, err := strconv.ParseUint(labels[len(labels)-1], 10, 64)
	return err != nil
}

func notInHostname(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
}
