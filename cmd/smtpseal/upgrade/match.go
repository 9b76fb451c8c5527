package upgrade

import (
	"net"
	"path/filepath"
)

// at returns the socket that listens at a configured address, or nil. Two
// spellings may mean one address: localhost, or no host at all.
func at(network, addr string, waiting []*socket) *socket {
	if len(waiting) == 0 {
		return nil
	}
	if network == "unix" {
		return first(waiting, func(have net.Addr) bool {
			return have.Network() == "unix" && filepath.Clean(have.String()) == filepath.Clean(addr)
		})
	}
	want, err := net.ResolveTCPAddr(network, addr)
	if err != nil {
		return nil
	}
	if found := first(waiting, func(have net.Addr) bool { return sameTCP(have, want) }); found != nil || want.IP != nil {
		return found
	}
	// No host means IPv6 and IPv4, which one socket may serve, or one each.
	return first(waiting, func(have net.Addr) bool { return sameTCP(have, &net.TCPAddr{IP: net.IPv4zero, Port: want.Port}) })
}

func first(waiting []*socket, fits func(net.Addr) bool) *socket {
	for _, one := range waiting {
		if fits(one.Addr()) {
			return one
		}
	}
	return nil
}

func sameTCP(addr net.Addr, want *net.TCPAddr) bool {
	have, ok := addr.(*net.TCPAddr)
	if !ok || have.Port != want.Port || have.Zone != want.Zone {
		return false
	}
	if want.IP == nil {
		return have.IP.Equal(net.IPv6unspecified)
	}
	return have.IP.Equal(want.IP)
}
