package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"smtpseal/cmd/smtpseal/upgrade"
	"smtpseal/config"
	"smtpseal/test/loopback"
)

func free(t *testing.T) string {
	t.Helper()
	addr, err := loopback.Free("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

func tcp(name string, addrs ...string) config.Listener {
	l := config.Listener{Name: name}
	for _, addr := range addrs {
		l.Listen = append(l.Listen, config.Address{Network: "tcp", Addr: addr})
	}
	return l
}

func unixSocket(path string) config.Address { return config.Address{Network: "unix", Addr: path} }

// Half a configuration is never served, and one start shows all that is wrong.
func TestBindOpensAllOrNoneAndNamesEveryFailure(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	good := free(t)
	open, err := openSockets(context.Background(), &config.Config{Listeners: []config.Listener{
		tcp("first", good),
		tcp("second", taken.Addr().String(), "192.0.2.1:10"), // an address for documentation: nobody has it
	}}, sockets{}, new(upgrade.Sockets))
	if err == nil {
		open.rollBack()
		t.Fatal("no error")
	}
	var said strings.Builder
	complain(&said, err)
	for _, want := range []string{
		"smtpseal: listen " + taken.Addr().String() + " (listener second): address already in use\n",
		"smtpseal: listen 192.0.2.1:10 (listener second): cannot assign requested address\n",
		"ss -ltnp 'sport = :",
		"ip address",
	} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("no %q in\n%s", want, said.String())
		}
	}
	again, err := net.Listen("tcp", good)
	if err != nil {
		t.Fatalf("the good address was not given back: %v", err)
	}
	again.Close()
}

func TestBindOpensEveryAddressOfAListener(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "sock")
	l := tcp("one", free(t), free(t))
	l.Listen = append(l.Listen, unixSocket(socket))
	open, err := openSockets(context.Background(), &config.Config{Listeners: []config.Listener{l}}, sockets{}, new(upgrade.Sockets))
	if err != nil {
		t.Fatal(err)
	}
	defer open.rollBack()
	if got := strings.Join(open.addresses(), " "); got != l.Listen[0].Addr+" "+l.Listen[1].Addr+" unix:"+socket {
		t.Error(got)
	}
}

// A process that is killed leaves its socket's path, and the next one must
// start all the same.
func TestSocketOfADeadProcessIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	ln, err := listen(context.Background(), unixSocket(path))
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("path is left behind: %v", err)
	}
}

func TestSocketOfALiveProcessIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	live, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	_, err = listen(context.Background(), unixSocket(path))
	if !errors.Is(err, errAlive) {
		t.Fatal(err)
	}
	var said strings.Builder
	complain(&said, adviseListen("one", unixSocket(path), err))
	if want := "smtpseal: listen unix:" + path + " (listener one): another process is listening there\n"; !strings.HasPrefix(said.String(), want) ||
		!strings.Contains(said.String(), "ss -xlp") {
		t.Error(said.String())
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the live socket is gone: %v", err)
	}
}

func TestFileInTheSocketsPlaceIsLeftAlone(t *testing.T) {
	path := write(t, "precious", "text")
	_, err := listen(context.Background(), unixSocket(path))
	if err == nil {
		t.Fatal("listens on a file")
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "text" {
		t.Errorf("%q, %v", text, err)
	}
	if remedy := listenRemedy(unixSocket(path), err); !strings.Contains(remedy, "is no socket") {
		t.Error(remedy)
	}
}

// No right to bind 465 names the capability, the systemd line
// and the sysctl. The path to the cause is that of a real failure.
func TestNoRightToAPortNamesTheThreeWays(t *testing.T) {
	denied := &net.OpError{Op: "listen", Net: "tcp", Err: os.NewSyscallError("bind", syscall.EACCES)}
	var said strings.Builder
	complain(&said, adviseListen("submissions", config.Address{Network: "tcp", Addr: ":465"}, denied))
	for _, want := range []string{
		"smtpseal: listen :465 (listener submissions): permission denied\n",
		"setcap cap_net_bind_service=+ep ",
		"AmbientCapabilities=CAP_NET_BIND_SERVICE",
		"sysctl -w net.ipv4.ip_unprivileged_port_start=",
	} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("no %q in\n%s", want, said.String())
		}
	}
}

func TestARemedyIsToldOnce(t *testing.T) {
	one, two, three := advised{errors.New("one"), "do this\nand that"}, advised{errors.New("two"), "do this\nand that"}, errors.New("three")
	var said strings.Builder
	complain(&said, errors.Join(one, errors.Join(two, three)))
	if want := "smtpseal: one\nsmtpseal: two\nsmtpseal: three\n  do this\n  and that\n"; said.String() != want {
		t.Errorf("got %q, want %q", said.String(), want)
	}
}
