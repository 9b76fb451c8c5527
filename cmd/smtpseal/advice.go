package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"smtpseal/config"
)

// adviseListen says why an address could not be opened, and what to do.
func adviseListen(listener string, addr config.Address, err error) error {
	return advise("listener "+listener, addr, err, listenRemedy(addr, err))
}

// adviseAdmin does so for the admin listener.
func adviseAdmin(addr config.Address, err error) error {
	remedy := listenRemedy(addr, err)
	if isInUse(err) && addr.Network == "tcp" {
		_, port, _ := net.SplitHostPort(addr.Addr)
		remedy = "write another address as admin.listen, or off. Who holds the port: ss -ltnp 'sport = :" + port + "'"
	}
	return advise("admin", addr, err, remedy)
}

// adviseChallenge does so for a port at which a CA looks for us.
func adviseChallenge(challenge string, addr config.Address, err error) error {
	remedy := listenRemedy(addr, err)
	if isInUse(err) && addr.Network == "tcp" {
		key, other := "http_listen", "tls-alpn-01"
		if challenge == "tls-alpn-01" {
			key, other = "tls_alpn_listen", "http-01"
		}
		_, port, _ := net.SplitHostPort(addr.Addr)
		remedy = `another server has the port; who: ss -ltnp 'sport = :` + port + `'. One of these helps:
    acme.challenges: [dns-01]     needs no port at all: see acme.dns
    acme.challenges: [` + other + `]  if the other port is free
    acme.` + key + `: ":8080"   and let that server forward ` + forwards[challenge] + ` to it`
	}
	return advise(challenge, addr, err, remedy)
}

// noteTaken is for a command beside the service: it is no error that a port
// cannot be opened, if the service has it.
func noteTaken(challenge string, addr config.Address, err error) string {
	_, port, _ := net.SplitHostPort(addr.Addr)
	note := fmt.Sprintf("%v: fine if a running smtpseal with this storage answers the CA there; ", advise(challenge, addr, err, ""))
	if isInUse(err) {
		return note + "who has the port: ss -ltnp 'sport = :" + port + "'"
	}
	return note + "without one, run this as a user who may open the port"
}

// forwards is what a server that holds the port has to pass on.
var forwards = map[string]string{
	"http-01":     "/.well-known/acme-challenge/",
	"tls-alpn-01": "TLS with the ALPN protocol acme-tls/1",
}

func advise(what string, addr config.Address, err error, remedy string) error {
	// net.OpError repeats the address; its cause alone reads better here.
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	var call *os.SyscallError
	if errors.As(err, &call) {
		err = call.Err
	}
	err = fmt.Errorf("listen %s (%s): %w", addr, what, err)
	if remedy == "" {
		return err
	}
	return advised{err, remedy}
}

func listenRemedy(addr config.Address, err error) string {
	switch {
	case addr.Network == "systemd":
		return "a .socket unit must open it, with FileDescriptorName=" + addr.Addr + "; systemd then starts smtpseal with it"
	case addr.Network == "unix" && errors.Is(err, errAlive):
		return "is smtpseal running already? Who holds the socket: ss -xlp | grep " + addr.Addr
	case addr.Network == "unix" && isInUse(err):
		return addr.Addr + " is no socket; choose another path, or move the file away"
	case addr.Network == "unix" && errors.Is(err, fs.ErrNotExist):
		return "make the directory first: mkdir -p " + filepath.Dir(addr.Addr)
	case addr.Network == "unix" && isDenied(err):
		return "the user that runs smtpseal must be able to write to " + filepath.Dir(addr.Addr)
	case isInUse(err):
		_, port, _ := net.SplitHostPort(addr.Addr)
		return "is smtpseal, or another mail server, running already? Who holds the port: ss -ltnp 'sport = :" + port + "'"
	case isDenied(err):
		return privilegedPort()
	case isNotLocal(err):
		return "no interface of this machine has that address; see: ip address"
	}
	return ""
}

// privilegedPort names the ways to a port below 1024 without being root.
func privilegedPort() string {
	binary, err := os.Executable()
	if err != nil {
		binary = "smtpseal"
	}
	return `a port below 1024 needs the capability CAP_NET_BIND_SERVICE; one of these gives it:
    setcap cap_net_bind_service=+ep ` + binary + `
    AmbientCapabilities=CAP_NET_BIND_SERVICE          in the [Service] part of the systemd unit
    sysctl -w net.ipv4.ip_unprivileged_port_start=25  no capability needed then; in Kubernetes a sysctl of the pod
  setcap has no effect where privileges cannot be gained (NoNewPrivileges=yes,
  allowPrivilegeEscalation: false): use one of the other two there`
}

// adviseDemo adds the demo's own way out to an address that is taken.
func adviseDemo(err error) error {
	var remedied []error
	for _, one := range flatten(err) {
		if isInUse(one) {
			one = advised{one, "choose other ports: smtpseal demo --listen-465 127.0.0.1:2465 --listen-587 127.0.0.1:2587"}
		}
		remedied = append(remedied, one)
	}
	return errors.Join(remedied...)
}
