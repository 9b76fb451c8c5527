package certs

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"smtpseal/certs/storage"
	"smtpseal/test/loopback"
	"smtpseal/test/pebble"
	"smtpseal/test/postgres"
	"smtpseal/test/redis"
)

// certmagic remembers challenges for a whole process, so replicas are processes:
// this binary, run again with this variable.
const replicaVariable = "CERTS_TEST_REPLICA"

// replicaPoll is their StoragePoll, replicaLease that of their locks.
const (
	replicaPoll  = time.Second
	replicaLease = 3 * time.Second
)

// A part is what a replica is told.
type part struct {
	Type, Path, URL             string // of the storage
	Directory, Roots            string
	Name, Challenge             string
	HTTP, TLS                   string // where it answers
	ForwardedHTTP, ForwardedTLS string // where the CA asks
}

// beReplica runs a Source until standard input ends. It prints what it serves,
// and renews for each line that it reads.
func beReplica(settings string) int {
	var p part
	if err := json.Unmarshal([]byte(settings), &p); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := p.play(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (p part) play() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	store, err := storage.Open(ctx, storage.Options{Type: p.Type, Path: p.Path, URL: p.URL, Lease: replicaLease})
	if err != nil {
		return err
	}
	defer store.Close()
	s, err := Open(ctx, Options{
		Entries: byACME(p.Name), Storage: store, StoragePoll: replicaPoll, Log: zap.NewNop(),
		ACME: &ACME{
			Directories: []Directory{{URL: p.Directory, Roots: p.Roots}}, Challenges: []string{p.Challenge},
			HTTPListen: p.ForwardedHTTP, TLSALPNListen: p.ForwardedTLS, IgnoreARI: true,
		},
	})
	if err != nil {
		return err
	}
	http01, err := net.Listen("tcp", p.HTTP)
	if err != nil {
		return err
	}
	alpn, err := net.Listen("tcp", p.TLS)
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	all.Go(func() { s.Run(ctx) })
	all.Go(func() { s.ServeChallenges(ctx, []net.Listener{http01}, []net.Listener{alpn}) })
	all.Go(func() { p.report(ctx, s) })
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if err := s.Renew(ctx, p.Name); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	cancel()
	all.Wait()
	return nil
}

func (p part) report(ctx context.Context, s *Source) {
	fmt.Println("serving nothing")
	for last := ""; ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		if c := s.Certificates(); len(c) > 0 && c[0].Serial != last {
			last = c[0].Serial
			fmt.Println("serving", last)
		}
	}
}

// A peer is such a process, seen from the test.
type peer struct {
	*exec.Cmd
	in      io.WriteCloser
	ended   sync.WaitGroup
	mu      sync.Mutex
	serials []string
}

func startPeer(t *testing.T, p part) *peer {
	t.Helper()
	settings, err := json.Marshal(p)
	must(t, err)
	r := &peer{Cmd: exec.Command(os.Args[0])}
	r.Env = append(os.Environ(), replicaVariable+"="+string(settings))
	r.Stderr = os.Stderr
	r.in, err = r.StdinPipe()
	must(t, err)
	out, err := r.StdoutPipe()
	must(t, err)
	must(t, r.Start())
	r.ended.Go(func() { r.listen(out) })
	t.Cleanup(func() {
		r.Process.Signal(syscall.SIGCONT)
		r.in.Close()
		force := time.AfterFunc(20*time.Second, func() { r.Process.Kill() })
		defer force.Stop()
		r.ended.Wait()
		r.Wait()
	})
	return r
}

func (r *peer) listen(out io.Reader) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if serial, ok := strings.CutPrefix(lines.Text(), "serving "); ok {
			r.mu.Lock()
			r.serials = append(r.serials, serial)
			r.mu.Unlock()
		}
	}
}

func (r *peer) serving() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.serials) == 0 {
		return ""
	}
	return r.serials[len(r.serials)-1]
}

// A balancer sends each connection to the next of its backends.
type balancer struct {
	backends []string
	next     atomic.Int64
	down     atomic.Int64 // how many of the first ones its health checks have found dead
	counts   []atomic.Int64
	all      sync.WaitGroup
}

func balance(t *testing.T, addr string, backends []string) *balancer {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	must(t, err)
	b := &balancer{backends: backends, counts: make([]atomic.Int64, len(backends))}
	b.all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b.all.Go(func() { b.forward(c.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() { l.Close(); b.all.Wait() })
	return b
}

func (b *balancer) forward(client *net.TCPConn) {
	defer client.Close()
	dead := int(b.down.Load())
	i := dead + int(b.next.Add(1))%(len(b.backends)-dead)
	c, err := net.DialTimeout("tcp", b.backends[i], 5*time.Second)
	if err != nil {
		return
	}
	server := c.(*net.TCPConn)
	defer server.Close()
	client.SetDeadline(time.Now().Add(20 * time.Second))
	server.SetDeadline(time.Now().Add(20 * time.Second))
	var back sync.WaitGroup
	back.Go(func() { io.Copy(client, server); client.CloseWrite() })
	if n, _ := io.Copy(server, client); n > 0 { // certmagic looks whether the port is in use, and says nothing
		b.counts[i].Add(1)
	}
	server.CloseWrite()
	back.Wait()
}

// parts are n replicas behind balancers for a CA.
func parts(t *testing.T, ca *pebble.CA, n int, p part) (all []part, http01, alpn *balancer) {
	t.Helper()
	p.Directory, p.Roots = ca.DirectoryURL(), ca.RootsFile()
	p.ForwardedHTTP, p.ForwardedTLS = ca.HTTPAddr(), ca.TLSAddr()
	var to [2][]string
	for range n {
		for i, at := range []*string{&p.HTTP, &p.TLS} {
			addr, err := loopback.Free("127.0.0.1")
			must(t, err)
			*at = addr
			to[i] = append(to[i], addr)
		}
		all = append(all, p)
	}
	return all, balance(t, ca.HTTPAddr(), to[0]), balance(t, ca.TLSAddr(), to[1])
}

// Three processes that start together make one order, whose challenge all of
// them answer; a renewal by one of them reaches all.
func TestReplicasMakeOneOrder(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"file", "redis", "postgres"} {
		t.Run(kind, func(t *testing.T) {
			var p part
			switch p.Type = kind; kind {
			case "redis":
				p.URL = redis.Start(t, redis.Config{}).URL()
			case "postgres":
				p.URL = postgres.Start(t).URL()
			}
			for _, p.Challenge = range []string{"http-01", "tls-alpn-01"} {
				t.Run(p.Challenge, func(t *testing.T) {
					p.Path, p.Name = t.TempDir(), kind+"."+p.Challenge+".example.org"
					oneOrder(t, p)
				})
			}
		})
	}
}

func oneOrder(t *testing.T, p part) {
	ca := pebble.Start(t, pebble.Options{})
	all, asked, alpn := parts(t, ca, 3, p)
	if p.Challenge == "tls-alpn-01" {
		asked = alpn
	}
	var replicas []*peer
	for _, p := range all {
		replicas = append(replicas, startPeer(t, p))
	}
	same := func(n int) {
		t.Helper()
		await(t, "all to serve the newest", func() bool {
			serials := ca.Serials("")
			for _, r := range replicas {
				if len(serials) < n || r.serving() != serials[len(serials)-1] {
					return false
				}
			}
			return true
		})
		if got := ca.FinalizedOrders(); got != n {
			t.Errorf("%d orders, want %d", got, n)
		}
	}
	same(1)
	for i := range asked.counts {
		if asked.counts[i].Load() == 0 {
			t.Errorf("replica %d was never asked", i)
		}
	}
	time.Sleep(1100 * time.Millisecond) // certificates have dates of whole seconds
	start := time.Now()
	fmt.Fprintln(replicas[1].in, "renew")
	same(2)
	t.Logf("renewed by all in %s", time.Since(start).Round(10*time.Millisecond))
}

// Renewals that are due are made once, whoever makes them.
func TestReplicasRenewOnce(t *testing.T) {
	t.Parallel()
	ca := pebble.Start(t, pebble.Options{Validity: 18 * time.Second})
	all, _, _ := parts(t, ca, 3, part{Type: "file", Path: t.TempDir(), Name: "due.example.org", Challenge: "http-01"})
	var replicas []*peer
	for _, p := range all {
		replicas = append(replicas, startPeer(t, p))
	}
	ca.WaitFinalized(3, 60*time.Second)
	for i, r := range replicas {
		await(t, "the third", func() bool { s := ca.Serials(""); return r.serving() == s[len(s)-1] })
		r.mu.Lock()
		if len(r.serials) < 4 || len(r.serials)-2 > ca.FinalizedOrders() { // "nothing" twice, as a word and as a serial
			t.Errorf("replica %d served %q", i, r.serials)
		}
		r.mu.Unlock()
	}
	if n := ca.FinalizedOrders(); n > 4 {
		t.Errorf("%d orders in the time of three certificates", n)
	}
}

// A process that has the lock, in the midst of an order, and dies or is frozen
// for longer than its lease: the next one goes on; in the end all serve the same.
func TestLockHolderDiesOrFreezes(t *testing.T) {
	t.Parallel()
	for name, sign := range map[string]syscall.Signal{"dies": syscall.SIGKILL, "freezes": syscall.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca := pebble.Start(t, pebble.Options{})
			all, asked, _ := parts(t, ca, 2, part{Type: "file", Path: t.TempDir(), Name: name + ".lock.example.org", Challenge: "http-01"})
			ordering, release := make(chan struct{}, 100), make(chan struct{})
			ca.Hook(func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Method == http.MethodPost {
						ordering <- struct{}{}
						select {
						case <-release:
						case <-r.Context().Done():
						}
					}
					next.ServeHTTP(w, r)
				})
			})
			holder := startPeer(t, all[0])
			<-ordering
			must(t, holder.Process.Signal(sign))
			asked.down.Store(1)
			close(release)
			start := time.Now()
			heir := startPeer(t, all[1])
			await(t, "the heir's certificate", func() bool { s := heir.serving(); return s != "" && s != "nothing" })
			t.Logf("in %s, with leases of %s", time.Since(start).Round(10*time.Millisecond), replicaLease)
			if sign == syscall.SIGKILL {
				if n := ca.FinalizedOrders(); n != 1 {
					t.Errorf("%d orders", n)
				}
				return
			}
			time.Sleep(2 * replicaLease)
			must(t, holder.Process.Signal(syscall.SIGCONT))
			await(t, "both to serve the same", func() bool { return holder.serving() == heir.serving() })
			time.Sleep(3 * replicaPoll)
			if n := ca.FinalizedOrders(); n > 2 || holder.serving() != heir.serving() {
				t.Errorf("%d orders, serving %s and %s", n, holder.serving(), heir.serving())
			}
		})
	}
}
