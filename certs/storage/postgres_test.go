package storage

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	pg "smtpseal/test/postgres"
)

// inPostgres opens a store in a schema of that name.
func inPostgres(t *testing.T, url, schema string) Store {
	t.Helper()
	s, err := Open(t.Context(), Options{Type: "postgres", URL: url, Prefix: schema})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// withoutPassword fails for an error that has any of the password's parts.
func withoutPassword(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	for _, part := range []string{pg.Password, url.QueryEscape(pg.Password), "h1dden", "p@ss", "word%41"} {
		if strings.Contains(err.Error(), part) {
			t.Errorf("the password is in %q", err)
		}
	}
}

func TestPostgres(t *testing.T) {
	srv := pg.Start(t)
	for name, test := range map[string]func(*testing.T, *pg.Server){
		"tables are made once by all at once":             madeOnce,
		"a schema's name is any text":                     strangeSchema,
		"schemas are apart":                               schemasApart,
		"tables that somebody drops are made again":       droppedTables,
		"an administrator can have made the tables":       tablesOfAnother,
		"a role without rights is told what it needs":     withoutRights,
		"a wrong password is told without any":            wrongLogin,
		"a database that is missing is told":              noDatabase,
		"by the unix socket":                              bySocket,
		"a value that is too long is not read":            longValue,
		"lock names are any text":                         lockNames,
		"it takes few connections":                        fewConnections,
		"the database's clock rules":                      databaseClock,
		"a connection that the server cuts costs no call": cutConnections,
		"Close leaves no goroutine":                       noGoroutine,
	} {
		t.Run(name, func(t *testing.T) { test(t, srv) })
	}
}

func TestPostgresConformance(t *testing.T) {
	srv := pg.Start(t)
	for name, key := range map[string]string{"plain": "", "encrypted": testKey} {
		t.Run(name, func(t *testing.T) {
			conform(t, opener(Options{Type: "postgres", URL: srv.URL(), Prefix: name, EncryptionKey: key}))
		})
	}
}

func madeOnce(t *testing.T, srv *pg.Server) {
	var all sync.WaitGroup
	for range 8 {
		s := inPostgres(t, srv.URL(), "race")
		all.Go(func() {
			if err := s.Store(t.Context(), "a/b", []byte("v")); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func strangeSchema(t *testing.T, srv *pg.Server) {
	s := inPostgres(t, srv.URL(), `it's "$1" \ $SCHEMA; é`)
	if err := s.Store(t.Context(), "a", nil); err != nil {
		t.Fatal(err)
	}
	if value, err := s.Load(t.Context(), "a"); err != nil || len(value) > 0 {
		t.Errorf("%q %v", value, err)
	}
}

func schemasApart(t *testing.T, srv *pg.Server) {
	one, other := inPostgres(t, srv.URL(), "one"), inPostgres(t, srv.URL(), "other")
	if err := one.Store(t.Context(), "a", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Load(t.Context(), "a"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if got, err := one.TryLock(t.Context(), "l"); !got || err != nil {
		t.Fatal(got, err)
	}
	if got, err := other.TryLock(t.Context(), "l"); !got || err != nil {
		t.Error(got, err)
	}
}

func droppedTables(t *testing.T, srv *pg.Server) {
	s := inPostgres(t, srv.URL(), "dropped")
	for _, drop := range []string{"drop schema if exists dropped cascade", "drop table dropped.stored", "drop table dropped.locks", "drop schema dropped cascade"} {
		srv.Query(t, drop)
		if err := s.Store(t.Context(), "a", []byte("v")); err != nil {
			t.Errorf("after %s: %v", drop, err)
		}
		if got, err := s.TryLock(t.Context(), "l"); !got || err != nil {
			t.Errorf("after %s: %v %v", drop, got, err)
		}
		if err := s.Unlock(t.Context(), "l"); err != nil {
			t.Errorf("after %s: %v", drop, err)
		}
	}
}

func tablesOfAnother(t *testing.T, srv *pg.Server) {
	admin := inPostgres(t, srv.URL(), "granted")
	if err := admin.Store(t.Context(), "a", []byte("v")); err != nil {
		t.Fatal(err)
	}
	srv.Query(t, "create role guest login password 'guest'")
	srv.Query(t, "grant usage on schema granted to guest")
	srv.Query(t, "grant select, insert, update, delete on all tables in schema granted to guest")
	s := inPostgres(t, srv.URLWith(url.UserPassword("guest", "guest")), "granted")
	if value, err := s.Load(t.Context(), "a"); err != nil || string(value) != "v" {
		t.Errorf("%q %v", value, err)
	}
	if got, err := s.TryLock(t.Context(), "l"); !got || err != nil {
		t.Error(got, err)
	}
}

func withoutRights(t *testing.T, srv *pg.Server) {
	srv.Query(t, "create role stranger login password 'stranger'")
	s := inPostgres(t, srv.URLWith(url.UserPassword("stranger", "stranger")), "forbidden")
	err := s.Store(t.Context(), "a", []byte("v"))
	if err == nil || !strings.Contains(err.Error(), "grant the role of storage.url CREATE on the database") {
		t.Error(err)
	}
}

func wrongLogin(t *testing.T, srv *pg.Server) {
	s := inPostgres(t, srv.URLWith(url.UserPassword("smtpseal", pg.Password+"!")), "x")
	_, err := s.Load(t.Context(), "a")
	withoutPassword(t, err)
	if err != nil && !strings.Contains(err.Error(), "check user and password") {
		t.Error(err)
	}
	if errors.Is(err, fs.ErrNotExist) {
		t.Error("taken for a missing key")
	}
}

func noDatabase(t *testing.T, srv *pg.Server) {
	s := inPostgres(t, strings.Replace(srv.URL(), "/postgres?", "/nowhere?", 1), "x")
	err := s.Store(t.Context(), "a", []byte("v"))
	withoutPassword(t, err)
	if err != nil && !strings.Contains(err.Error(), "create the database") {
		t.Error(err)
	}
}

func bySocket(t *testing.T, srv *pg.Server) {
	s := inPostgres(t, srv.SocketURL(), "socket")
	if err := s.Store(t.Context(), "a", []byte("v")); err != nil {
		t.Error(err)
	}
}

func longValue(t *testing.T, srv *pg.Server) {
	s := inPostgres(t, srv.URL(), "long")
	if err := s.Store(t.Context(), "a", make([]byte, maxValue)); err != nil {
		t.Fatal(err)
	}
	if value, err := s.Load(t.Context(), "a"); err != nil || len(value) != maxValue {
		t.Fatal(len(value), err)
	}
	srv.Query(t, "update long.stored set value = value || '1'::bytea")
	if _, err := s.Load(t.Context(), "a"); !errors.Is(err, errTooLong) {
		t.Error(err)
	}
}

func lockNames(t *testing.T, srv *pg.Server) {
	s := inPostgres(t, srv.URL(), "names")
	for _, name := range []string{"", "\x00", "\xff/'é", strings.Repeat("é", 2000), strings.Repeat("é", 2000) + "."} {
		if got, err := s.TryLock(t.Context(), name); !got || err != nil {
			t.Errorf("%.10q: %v %v", name, got, err)
		}
	}
}

func fewConnections(t *testing.T, srv *pg.Server) {
	s := inPostgres(t, srv.URL()+"&application_name=few", "few")
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if err := s.Store(t.Context(), "a", []byte("v")); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	srv.Query(t, "do $$ begin assert (select count(*) <= 4 from pg_stat_activity where application_name = 'few'); end $$")
}

// A process whose clock is wrong must neither lose nor steal a lock: what
// expires is set and judged by one clock.
func databaseClock(t *testing.T, srv *pg.Server) {
	holder, waiter := inPostgres(t, srv.URL(), "clock"), inPostgres(t, srv.URL(), "clock")
	if got, err := holder.TryLock(t.Context(), "l"); !got || err != nil {
		t.Fatal(got, err)
	}
	srv.Query(t, `do $$ begin assert (select expires between clock_timestamp() + interval '25 s'
		and clock_timestamp() + interval '30 s' from clock.locks); end $$`)
	if got, err := waiter.TryLock(t.Context(), "l"); got || err != nil {
		t.Fatal(got, err)
	}
	srv.Query(t, "update clock.locks set expires = clock_timestamp() - interval '1 ms'")
	if got, err := waiter.TryLock(t.Context(), "l"); !got || err != nil {
		t.Fatal(got, err)
	}
	if err := holder.Unlock(t.Context(), "l"); !errors.Is(err, ErrLockLost) {
		t.Error(err)
	}
	if err := waiter.Unlock(t.Context(), "l"); err != nil {
		t.Error(err)
	}
}

func cutConnections(t *testing.T, srv *pg.Server) {
	s := inPostgres(t, srv.URL()+"&application_name=cut", "cut")
	for range 5 {
		if err := s.Store(t.Context(), "a", []byte("v")); err != nil {
			t.Fatal(err)
		}
		srv.Query(t, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'cut'")
	}
}

func noGoroutine(t *testing.T, srv *pg.Server) {
	before := runtime.NumGoroutine()
	s, err := Open(t.Context(), Options{Type: "postgres", URL: srv.URL(), Prefix: "leak"})
	must(t, err)
	must(t, s.Lock(t.Context(), "l"))
	must(t, s.Close())
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			stacks := make([]byte, 1<<16)
			t.Fatalf("%d goroutines before, more after:\n%s", before, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

func TestPostgresRefusesURLsWithoutQuotingThem(t *testing.T) {
	for _, wrong := range []string{
		"", "h1dden", "mysql://u:h1dden@host/db", "host=h user=u password=h1dden",
		"postgres://u:h1dden/p@host/db", "postgres://u:h1dden?p@host/db", "postgres://u:h1dden#p@host/db", "postgres://u:#h1dden@host",
		"postgres://u:h1dden%zz@host/db", "postgres://u:p@ss:h1dden", "postgres://u:h1dden", "postgres://u:p@host:h1dden/db",
		"postgres://u:h1dden@host/db?sslmode=h1dden", "postgres://u:h1dden@host/db?connect_timeout=h1dden",
		"postgres://u:h1dden@host/db?target_session_attrs=h1dden", "postgres://u:h1dden\x00@host/db",
		"postgres://u:h1dden@host/db?pool_max_conns=h1dden", "postgres://u:h1dden@[host/db",
	} {
		s, err := Open(t.Context(), Options{Type: "postgres", URL: wrong})
		if err == nil {
			s.Close()
			t.Errorf("%q was taken", wrong)
			continue
		}
		withoutPassword(t, err)
		if !strings.Contains(err.Error(), "postgres://user:password@host") {
			t.Errorf("%v does not say what to write", err)
		}
	}
	_, err := Open(t.Context(), Options{Type: "postgres", URL: "postgres://u:h1dden@host/db?sslmode=verify-full&sslrootcert=/nowhere/root.pem"})
	withoutPassword(t, err)
	if err != nil && !strings.Contains(err.Error(), "/nowhere/root.pem") {
		t.Error(err)
	}
	if _, err := Open(t.Context(), Options{Type: "postgres", URL: "postgres://h/db", Prefix: strings.Repeat("x", 64)}); err == nil {
		t.Error("a name that PostgreSQL would cut was taken")
	}
}

func TestPostgresWarnsOfKeysInClear(t *testing.T) {
	for url, warned := range map[string]bool{
		"postgres://u:h1dden@db.example/x":                     true, // TLS is tried, and not demanded
		"postgres://u:h1dden@db.example/x?sslmode=disable":     true,
		"postgres://u:h1dden@127.0.0.1,db.example/x":           true,
		"postgres://u:h1dden@db.example/x?sslmode=require":     false,
		"postgres://u:h1dden@db.example/x?sslmode=verify-full": false,
		"postgres://u:h1dden@localhost/x":                      false,
		"postgres://u:h1dden@[::1]/x":                          false,
		"postgres:///x?host=/run/postgresql":                   false,
	} {
		core, logs := observer.New(zap.DebugLevel)
		s, err := Open(t.Context(), Options{Type: "postgres", URL: url, Log: zap.New(core)})
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		s.Close()
		if got := logs.FilterLevelExact(zap.WarnLevel).Len() > 0; got != warned {
			t.Errorf("%s: warned %v", url, got)
		}
		for _, entry := range logs.All() {
			if strings.Contains(entry.Message, "h1dden") {
				t.Error(entry)
			}
		}
	}
}

// A server that accepts and is silent, as behind a firewall that forgets.
func TestPostgresSilentServerCostsBoundedTime(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	u := url.URL{Scheme: "postgres", User: url.UserPassword("u", pg.Password), Host: listener.Addr().String(), Path: "/x"}
	s := inPostgres(t, u.String(), "x")
	began := time.Now()
	_, err = s.Load(t.Context(), "a")
	withoutPassword(t, err)
	if took := time.Since(began); took > callTime+time.Second {
		t.Errorf("Load took %v", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began = time.Now()
	if err := s.Lock(ctx, "l"); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("Lock took %v over its context", took)
	}
}
