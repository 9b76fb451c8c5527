package postgres

import (
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestDataOutlivesStopAndCrash(t *testing.T) {
	s := Start(t)
	s.Query(t, "create table kept (value int)")
	for round, stop := range []func() error{s.Stop, s.Crash} {
		s.Query(t, "insert into kept values ($1)", round)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if conn, err := pgx.Connect(t.Context(), s.URL()); err == nil {
			conn.Close(t.Context())
			t.Fatal("a stopped server answers")
		}
		if err := s.Again(); err != nil {
			t.Fatal(err)
		}
	}
	conn, err := pgx.Connect(t.Context(), s.SocketURL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var rows int
	if err := conn.QueryRow(t.Context(), "select count(*) from kept").Scan(&rows); err != nil || rows != 2 {
		t.Errorf("%d rows, %v", rows, err)
	}
}

// Without this no test could tell a store that sends the password.
func TestPasswordIsAsked(t *testing.T) {
	s := Start(t)
	for _, who := range []*url.Userinfo{url.User("smtpseal"), url.UserPassword("smtpseal", "wrong")} {
		conn, err := pgx.Connect(t.Context(), s.URLWith(who))
		if err == nil {
			conn.Close(t.Context())
			t.Errorf("%v was let in", who)
		}
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	s, err := Run()
	if err != nil {
		t.Fatal(err)
	}
	pid := s.process.Process.Pid
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", s.dir, err)
	}
	// The postmaster leads a group with all that it starts.
	for end := time.Now().Add(5 * time.Second); syscall.Kill(-pid, 0) == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("processes of group %d are left", pid)
		}
	}
	if !strings.Contains(s.Log(), "database system is shut down") {
		t.Errorf("no orderly end:\n%s", s.Log())
	}
}
