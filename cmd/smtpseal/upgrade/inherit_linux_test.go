package upgrade

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// place is where the first of the sockets lies that are given to a process in
// these tests. Nothing else is anywhere near.
const place = 700

// give puts duplicates of listeners, or of connections, where a process finds
// what it is given, and returns its variables.
func give(t *testing.T, names string, sockets ...any) map[string]string {
	t.Helper()
	for i, s := range sockets {
		raw, err := s.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) {
			if err := unix.Dup3(int(fd), place+i, 0); err != nil {
				t.Error(err)
			}
		})
		t.Cleanup(func() { unix.Close(place + i) }) // if nobody took it over
	}
	return map[string]string{listenCount: strconv.Itoa(len(sockets)), listenNames: names, listenPID: "7"}
}

func listen(t *testing.T, network, addr string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func inherited(t *testing.T, env map[string]string) *Sockets {
	t.Helper()
	s, err := inherit(env, 7, place)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.abandon)
	return s
}

func expectAt(t *testing.T, got net.Listener, want net.Listener) {
	t.Helper()
	switch {
	case got == nil && want != nil:
		t.Errorf("nothing, want %v", want.Addr())
	case got != nil && (want == nil || got.Addr().String() != want.Addr().String()):
		t.Errorf("got %v, want %v", got.Addr(), want)
	}
}

func TestNothingIsInheritedWithoutTheVariablesOrWithAnothers(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	for name, change := range map[string]map[string]string{
		"no variables":         {listenCount: "", listenNames: "", listenPID: ""},
		"another process":      {listenPID: "8"},
		"no process":           {listenPID: ""},
		"another's upgrade":    {listenPID: "", upgradePipe: "1"},
		"another's upgrade, 2": {listenPID: "", listenCount: "0", upgradePipe: "1"}, // its pipe would be our socket
	} {
		env := give(t, "x", l)
		for variable, value := range change {
			env[variable] = value
		}
		s, err := inherit(env, 7, place)
		if err != nil || len(s.all) > 0 || s.says != nil {
			t.Errorf("%s: %v, %v", name, s, err)
		}
		if err := s.Ready(); err != nil {
			t.Errorf("%s: ready: %v", name, err)
		}
	}
}

func TestWhatCannotBeInheritedIsNamed(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	count := func(n string) map[string]string {
		env := give(t, "x", l)
		env[listenCount] = n
		return env
	}
	for want, env := range map[string]func() map[string]string{
		`LISTEN_FDS="two": no number of sockets up to 1024`:      func() map[string]string { return count("two") },
		`LISTEN_FDS="-1": no number of sockets up to 1024`:       func() map[string]string { return count("-1") },
		`LISTEN_FDS="2000000000": no number of sockets`:          func() map[string]string { return count("2000000000") },
		`LISTEN_FDNAMES="x": 1 names for 2 sockets`:              func() map[string]string { return count("2") },
		`socket 2 of 2 (b): no listening stream socket (in a so`: func() map[string]string { return give(t, "a:b", l, client) },
		`socket 1 of 1 (u): no listening stream socket`:          func() map[string]string { return give(t, "u", packets) },
	} {
		s, err := inherit(env(), 7, place)
		if s != nil {
			t.Errorf("%s: has sockets", want)
		}
		expectError(t, err, want)
	}
	env := give(t, "a:b", l)
	env[listenCount] = "2" // but one
	_, err = inherit(env, 7, place)
	expectError(t, err, "socket 2 of 2 (b): getsockopt: bad file descriptor")
	if fd, err := unix.FcntlInt(place, unix.F_GETFD, 0); err == nil {
		t.Errorf("the good one is still open: %d", fd)
	}
}

func TestSocketsAreTakenByNameOnce(t *testing.T) {
	one, two, three := listen(t, "tcp", "127.0.0.1:0"), listen(t, "tcp", "[::1]:0"), listen(t, "tcp", "127.0.0.1:0")
	s := inherited(t, give(t, "a:b:a", one, two, three))
	if names := s.Names(); !slices.Equal(names, []string{"a", "b", "a"}) {
		t.Error(names)
	}
	got := s.Named("a")
	if len(got) != 2 {
		t.Fatal(got)
	}
	expectAt(t, got[0], one)
	expectAt(t, got[1], three)
	if again := s.Named("a"); again != nil {
		t.Errorf("twice: %v", again)
	}
	if other := s.Take("tcp", one.Addr().String()); other != nil {
		t.Errorf("taken by its name, and again by its address: %v", other.Addr())
	}
	if unused, want := s.Close(), "b (tcp "+two.Addr().String()+")"; !slices.Equal(unused, []string{want}) {
		t.Errorf("unused %q, want %q", unused, want)
	}
	if unused := s.Close(); unused != nil {
		t.Errorf("closed twice: %v", unused)
	}
	// What was closed was only our duplicate, and what was taken is open.
	for _, l := range []net.Listener{two, got[0]} {
		go func() {
			if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
				c.Close()
			}
		}()
		if c, err := l.Accept(); err != nil {
			t.Error(err)
		} else {
			c.Close()
		}
	}
}

// A unit's socket meets the configured address, however each of them spells it.
func TestSocketsAreFoundByAddress(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	loop4, loop6, sock := listen(t, "tcp", "127.0.0.1:0"), listen(t, "tcp", "[::1]:0"), listen(t, "unix", path)
	all := listen(t, "tcp", ":0")
	port := func(l net.Listener) string { return strconv.Itoa(l.Addr().(*net.TCPAddr).Port) }
	for _, c := range []struct {
		network, addr string
		want          net.Listener
	}{
		{"tcp", "127.0.0.1:" + port(loop4), loop4},
		{"tcp", "localhost:" + port(loop4), loop4},
		{"tcp", "[::1]:" + port(loop6), loop6},
		{"tcp", ":" + port(all), all},
		{"tcp", "[::]:" + port(all), all},
		{"unix", path, sock},
		{"unix", filepath.Dir(path) + "//./s", sock},
		{"tcp", ":" + port(loop4), nil},          // more than the unit has
		{"tcp", "127.0.0.1:" + port(all), nil},   // less
		{"tcp", "127.0.0.1:" + port(loop6), nil}, // elsewhere
		{"tcp", "127.0.0.1:0", nil},
		{"tcp", "127.0.0.1", nil},
		{"tcp", path, nil},
		{"unix", path + "x", nil},
		{"unix", "127.0.0.1:" + port(loop4), nil},
	} {
		s := inherited(t, give(t, "unit:unit:unit:unit", loop4, loop6, sock, all))
		t.Run(c.network+" "+c.addr, func(t *testing.T) {
			l := s.Take(c.network, c.addr)
			expectAt(t, l, c.want)
			if l != nil {
				expectAt(t, s.Take(c.network, c.addr), nil)
				if h := s.Hand(c.network, c.addr, l); h.Name != "unit" || h.Listener != l {
					t.Errorf("handed on as %v", h)
				}
			}
		})
		s.abandon()
	}
}

// BindIPv6Only=ipv6-only and a socket for each family: a listener without a
// host is both of them.
func TestAWildcardMayHaveComeAsTwoSockets(t *testing.T) {
	four := listen(t, "tcp4", "0.0.0.0:0")
	_, port, _ := net.SplitHostPort(four.Addr().String())
	six := listen(t, "tcp6", "[::]:"+port)
	s := inherited(t, give(t, "x:x", four, six))
	expectAt(t, s.Take("tcp", ":"+port), six)
	expectAt(t, s.Take("tcp", ":"+port), four)
	expectAt(t, s.Take("tcp", ":"+port), nil)
}

// Our own names are the configuration's words, so what no address could be
// compared with is found.
func TestOwnNamesFindPortsThatTheSystemChose(t *testing.T) {
	one, two := listen(t, "tcp", "127.0.0.1:0"), listen(t, "tcp", "127.0.0.2:0")
	s := inherited(t, give(t, Name("tcp", "127.0.0.1:0")+":"+Name("tcp", "127.0.0.2:0"), one, two))
	l := s.Take("tcp", "127.0.0.2:0")
	expectAt(t, l, two)
	if h := s.Hand("tcp", "127.0.0.2:00", l); h.Name != Name("tcp", "127.0.0.2:00") {
		t.Errorf("handed on as %q: the name is that of today's configuration", h.Name)
	}
	expectAt(t, s.Take("tcp", one.Addr().String()), one)
	if h := new(Sockets).Hand("tcp", ":465", one); h.Name != Name("tcp", ":465") || h.Listener != one {
		t.Errorf("a socket of our own is handed on as %v", h)
	}
}

// Dead peers are found by deadlines; see listen.go of the program.
func TestInheritedConnectionsHaveNoProbesAndNoOtherProgramGetsThem(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	taken := inherited(t, give(t, "x", l)).Named("x")[0]
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := taken.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	expectOption(t, conn, func(fd int) (int, error) { return unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE) }, 0)
	expectOption(t, taken, func(fd int) (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0) }, unix.FD_CLOEXEC)
	if _, err := unix.FcntlInt(place, unix.F_GETFD, 0); err != unix.EBADF {
		t.Errorf("descriptor %d is left over: %v", place, err)
	}
}

func expectOption(t *testing.T, of any, get func(int) (int, error), want int) {
	t.Helper()
	raw, err := of.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		if got, err := get(int(fd)); got != want || err != nil {
			t.Errorf("%T: %d, %v, want %d", of, got, err, want)
		}
	})
}

// A shell between two processes passes pipes of its own, and old variables.
func TestAnotherPipeIsNoProof(t *testing.T) {
	env := give(t, "x", listen(t, "tcp", "127.0.0.1:0"))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if err := unix.Dup3(int(w.Fd()), place+1, 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(place + 1)
	env[listenPID], env[upgradePipe] = "", "1"
	s, err := inherit(env, 7, place)
	if err != nil || len(s.all) > 0 || s.says != nil {
		t.Errorf("%v, %v", s, err)
	}
}

// paired are sockets of a process that replaces another, and that one's ends.
func paired(t *testing.T, env map[string]string) (s *Sockets, says, heard *os.File) {
	t.Helper()
	says, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r, heard, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	count, _ := strconv.Atoi(env[listenCount])
	for i, f := range []*os.File{w, r} {
		if err := unix.Dup3(int(f.Fd()), place+count+i, 0); err != nil {
			t.Fatal(err)
		}
	}
	name, err := inode(int(w.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	r.Close()
	t.Cleanup(func() { says.Close(); heard.Close() })
	env[upgradePipe], env[listenPID] = name, ""
	return inherited(t, env), says, heard
}

// The old process may unlink until we are ready, we may from then on; systemd's
// paths are nobody's.
func TestPathsAreUnlinkedByWhoeverServes(t *testing.T) {
	dir := t.TempDir()
	sockets := make(map[string]net.Listener)
	for _, name := range []string{"taken", "dropped", "systemd"} {
		sockets[name] = listen(t, "unix", filepath.Join(dir, name))
		sockets[name].(*net.UnixListener).SetUnlinkOnClose(false)
	}
	tcp := listen(t, "tcp", "127.0.0.1:0")
	env := give(t, Name("unix", dir+"/taken")+":"+Name("unix", dir+"/dropped")+":unit:"+Name("tcp", "x"),
		sockets["taken"], sockets["dropped"], sockets["systemd"], tcp)
	s, says, heard := paired(t, env)
	taken, unit := s.Take("unix", dir+"/taken"), s.Named("unit")[0]
	if unused := s.Close(); len(unused) != 2 || !strings.HasSuffix(unused[0], "(unix "+dir+"/dropped)") {
		t.Error(unused)
	}
	if _, err := s.all[3].Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a socket without a path waits, too: %v", err)
	}
	expectFiles(t, dir, "dropped", "systemd", "taken")
	heard.Close()
	if err := s.Ready(); err != nil {
		t.Error(err)
	}
	var word [2]byte
	if n, err := says.Read(word[:]); n != 1 || err != nil || word[0] != readyWord {
		t.Errorf("said %q, %v", word[:n], err)
	}
	expectFiles(t, dir, "systemd", "taken")
	taken.Close()
	unit.Close()
	expectFiles(t, dir, "systemd")
}

func TestAStartThatFailsUnlinksNothing(t *testing.T) {
	dir := t.TempDir()
	l := listen(t, "unix", filepath.Join(dir, "s"))
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	s, _, _ := paired(t, give(t, Name("unix", dir+"/s"), l))
	s.Take("unix", dir+"/s").Close()
	expectFiles(t, dir, "s")
}

func expectFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, want) {
		t.Errorf("files %v, want %v", got, want)
	}
}

func TestReadyWaitsUntilTheOldProcessHasHeard(t *testing.T) {
	s, says, heard := paired(t, give(t, ""))
	done := make(chan error)
	go func() { done <- s.Ready() }()
	var word [1]byte
	if _, err := says.Read(word[:]); err != nil || word[0] != readyWord {
		t.Fatalf("%q, %v", word, err)
	}
	select {
	case err := <-done:
		t.Fatalf("did not wait: %v", err)
	case <-time.After(20 * time.Millisecond): // it must go on waiting: time for it not to
	}
	heard.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := s.Ready(); err != nil {
		t.Errorf("a second time: %v", err)
	}
}

func TestAnOldProcessThatIsDeadOrStoppedStopsNobody(t *testing.T) {
	s, says, heard := paired(t, give(t, ""))
	says.Close()
	heard.Close()
	if err := s.Ready(); err != nil {
		t.Errorf("dead: %v", err)
	}
	s, _, _ = paired(t, give(t, ""))
	if err := s.hear(time.Now()); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("stopped: %v", err)
	}
}
