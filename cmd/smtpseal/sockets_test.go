package main

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"smtpseal/cmd/smtpseal/upgrade"
	"smtpseal/config"
)

// wanting is a configuration of listeners and of an admin listener.
func wanting(admin []config.Address, mail ...config.Address) *config.Config {
	return &config.Config{Listeners: []config.Listener{{Name: "one", Listen: mail}}, Admin: config.Admin{Listen: admin}}
}

func open(t *testing.T, c *config.Config, before sockets) sockets {
	t.Helper()
	next, err := openSockets(t.Context(), c, before, new(upgrade.Sockets))
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// replacedBy makes next the one that runs, as a commit does for what is no mail;
// the others the server closes, whose part the test plays.
func (s sockets) replacedBy(next sockets) {
	s.keepPathsFor(next)
	for _, l := range s.nets(forMail) {
		if !slices.Contains(next.nets(forMail), l) {
			l.Close()
		}
	}
	s.retire(next)
}

func isOpen(l net.Listener) bool {
	conn, err := net.Dial(l.Addr().Network(), l.Addr().String())
	if err == nil {
		conn.Close()
	}
	return err == nil
}

func address(addr string) config.Address { return config.Address{Network: "tcp", Addr: addr} }

// What stays is the very same listener, or its accept loop would end; what is new
// is opened, what is gone is closed.
func TestSocketsAreKeptOpenedAndClosed(t *testing.T) {
	stays, goes, comes, admin := address(free(t)), address(free(t)), address(free(t)), address(free(t))
	first := open(t, wanting([]config.Address{admin}, stays, goes), sockets{})
	second := open(t, wanting([]config.Address{admin}, comes, stays), first)
	t.Cleanup(func() { second.rollBack(); first.rollBack() })
	if first.at(stays).nets[0] != second.at(stays).nets[0] || first.at(admin).nets[0] != second.at(admin).nets[0] {
		t.Error("what stays was opened anew")
	}
	if len(second.fresh) != 1 || second.fresh[0] != second.at(comes).nets[0] {
		t.Errorf("fresh are %v", second.fresh)
	}
	gone := first.at(goes).nets[0]
	first.replacedBy(second)
	if isOpen(gone) || !isOpen(second.at(stays).nets[0]) || !isOpen(second.at(comes).nets[0]) || !isOpen(second.at(admin).nets[0]) {
		t.Error("not what is wanted is open")
	}
	second.replacedBy(sockets{})
	if isOpen(second.at(admin).nets[0]) || isOpen(second.at(stays).nets[0]) {
		t.Error("something is left open")
	}
}

// A configuration that is refused has opened and closed nothing.
func TestRollingBackClosesWhatIsFreshAndNothingElse(t *testing.T) {
	stays, goes, comes, admin := address(free(t)), address(free(t)), address(free(t)), address(free(t))
	first := open(t, wanting([]config.Address{admin}, stays, goes), sockets{})
	t.Cleanup(first.rollBack)
	second := open(t, wanting([]config.Address{goes}, stays, comes), first) // goes changes its purpose
	second.rollBack()
	for _, one := range first.open {
		if !isOpen(one.nets[0]) {
			t.Errorf("%s was closed", one.address)
		}
	}
	if isOpen(second.at(comes).nets[0]) {
		t.Error("what was opened is still open")
	}
	taken := address(free(t))
	other, err := net.Listen("tcp", taken.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := openSockets(t.Context(), wanting([]config.Address{admin}, stays, comes, taken), first, new(upgrade.Sockets)); err == nil {
		t.Fatal("no error")
	}
	again, err := net.Listen("tcp", comes.Addr)
	if err != nil {
		t.Fatalf("the good address was not given back: %v", err)
	}
	again.Close()
}

// An address that goes from mail to the admin listener, or back, is never closed
// meanwhile: its queue goes with it.
func TestAnAddressMayChangeItsPurpose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	moves, stays, unix := address(free(t)), address(free(t)), unixSocket(path)
	first := open(t, wanting([]config.Address{stays}, moves, unix), sockets{})
	old := first.at(moves).nets[0]
	waiting, err := net.Dial("tcp", moves.Addr) // in the queue, for whoever accepts
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	second := open(t, wanting([]config.Address{moves, unix}, stays), first)
	first.replacedBy(second)
	now := second.at(moves).nets[0]
	if now == old {
		t.Error("the server's listener was given away, which it closes")
	}
	conn, err := now.Accept()
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if !isOpen(second.at(unix).nets[0]) {
		t.Error("the path went with the old listener")
	}
	third := open(t, wanting([]config.Address{stays}, unix, moves), second) // and back
	second.replacedBy(third)
	if !isOpen(third.at(unix).nets[0]) || !isOpen(third.at(moves).nets[0]) {
		t.Error("closed on the way back")
	}
	third.replacedBy(sockets{})
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the path is left behind: %v", err)
	}
}

// What another process is handed has the name by which it looks for it, whatever
// became of the socket here.
func TestSocketsAreHandedByTheirNames(t *testing.T) {
	a, b := address(free(t)), address(free(t))
	first := open(t, wanting([]config.Address{b}, a), sockets{})
	second := open(t, wanting([]config.Address{a}, b), first)
	first.replacedBy(second)
	t.Cleanup(func() { second.replacedBy(sockets{}) })
	handed := second.handed()
	if len(handed) != 2 || handed[0].Name != upgrade.Name("tcp", b.Addr) || handed[1].Name != upgrade.Name("tcp", a.Addr) {
		t.Errorf("handed %v", handed)
	}
	for _, h := range handed {
		if !isOpen(h.Listener) {
			t.Errorf("%s is closed", h.Name)
		}
	}
}

// The admin listener's default address is not worth a start, nor a reload.
func TestATakenDefaultOfTheAdminListenerIsNoError(t *testing.T) {
	other, err := net.Listen("tcp", config.AdminDefault.Addr)
	if err != nil {
		other = nil // somebody else's, which is as good
	}
	s := open(t, wanting([]config.Address{config.AdminDefault}, address(free(t))), sockets{})
	defer s.rollBack()
	if s.lost == nil || len(s.nets(forAdmin)) != 0 {
		t.Errorf("lost: %v", s.lost)
	}
	if other != nil {
		other.Close()
	}
}
