package upgrade

import (
	"net/url"
	"strconv"
	"strings"
)

// Variables by which sockets come, sd_listen_fds(3), and our own, which takes
// the place of LISTEN_PID: nobody knows a process's id before it has begun.
// Its value names the pipe behind the sockets, so that only a process that was
// given that pipe believes it.
const (
	listenCount = "LISTEN_FDS"
	listenNames = "LISTEN_FDNAMES"
	listenPID   = "LISTEN_PID"
	upgradePipe = "SMTPSEAL_UPGRADE"
)

// personal are variables meant for one process alone. What replaces it gets
// its own, or none: NOTIFY_SOCKET and WATCHDOG_USEC are handed on by who has
// removed them from the environment, and a WATCHDOG_PID would be wrong.
var personal = []string{"LISTEN_", "NOTIFY_SOCKET=", "WATCHDOG_USEC=", "WATCHDOG_PID=", upgradePipe + "="}

// environment is that of the new process, but for the pipe.
func environment(old []string, sockets []Handed, extra []string) []string {
	var env, names []string
	for _, variable := range old {
		if !isPersonal(variable) {
			env = append(env, variable)
		}
	}
	for _, s := range sockets {
		names = append(names, s.Name)
	}
	env = append(env, listenCount+"="+strconv.Itoa(len(sockets)), listenNames+"="+strings.Join(names, ":"))
	return append(env, extra...)
}

func isPersonal(variable string) bool {
	for _, prefix := range personal {
		if strings.HasPrefix(variable, prefix) {
			return true
		}
	}
	return false
}

// Name is the name of a socket that we opened ourselves: the address as it is
// configured, so that a port 0 or a wildcard finds its socket again, without
// the colons that separate names.
func Name(network, addr string) string { return url.QueryEscape(network + "/" + addr) }

// isOurs tells such a name from one in a socket unit.
func isOurs(name string) bool {
	return strings.HasPrefix(name, Name("tcp", "")) || strings.HasPrefix(name, Name("unix", ""))
}
