package e2e

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"smtpseal/test/mta"
	"smtpseal/test/pebble"
)

// Two processes with one storage, behind one address for the CA: one order for
// both, at first and when it is due; a renewal from the command line is served by both within half a minute,
// and whose ticket it was is all the same.
func TestTwoProcessesWithOneStorage(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"redis", "postgres"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			store := openStore(t, kind)
			ca := pebble.Start(t, pebble.Options{})
			ca.Slow(100 * time.Millisecond) // or the first is done before the second looks
			past := time.Now().Add(-time.Hour)
			ca.SetARI("", pebble.ARI{Start: past, End: past.Add(time.Minute)})
			front := newBalance(t, ca.HTTPAddr(), freeAddr(t), freeAddr(t))
			srv := mta.Start(t, mta.Config{Proxy: mta.V2})
			var both []*process
			var files []string
			for _, addr := range front.to {
				s := site{CA: ca, Server: srv.Addr(), HTTP: addr, Storage: store.settings, Secrets: store.secrets, TLS: "session_tickets: shared"}
				path, addrs := s.file(t)
				both, files = append(both, s.runFile(t, path, addrs)), append(files, path)
			}
			first := sameLeaf(t, both, "", 20*time.Second)
			if n := len(ca.Orders("")); n != 1 {
				t.Errorf("%d orders for two processes", n)
			}
			for _, p := range both {
				p.hup() // for each of them it is due now
			}
			first = sameLeaf(t, both, serial(first), 20*time.Second)
			if n := len(ca.Orders("")); n != 2 {
				t.Errorf("%d orders, when two processes had to renew at once", n)
			}
			resumes(t, both[0], both[1])
			resumes(t, both[1], both[0])

			ca.Heal()
			o := command(t, store.secrets, "certs", "renew", hostname, "-c", files[0])
			renewed := time.Now()
			if o.code != 0 {
				t.Fatalf("certs renew: exit %d\n%s", o.code, o.stderr)
			}
			second := sameLeaf(t, both, serial(first), 35*time.Second)
			if !second.PublicKey.(interface{ Equal(crypto.PublicKey) bool }).Equal(first.PublicKey) {
				t.Errorf("the key is another, and TLSA records are wrong now")
			}
			t.Logf("served by both %v behind the renewal", time.Since(renewed).Round(time.Second))
			if issued := ca.Serials(hostname); len(issued) != 3 || issued[2] != serial(second) {
				t.Errorf("issued %v, served %s", issued, serial(second))
			}
			for n := range front.served {
				if front.served[n].Load() == 0 {
					t.Errorf("process %d was never asked by the CA", n)
				}
			}
		})
	}
}

// sameLeaf waits until both processes serve one certificate by both doors, and
// not that with the serial before.
func sameLeaf(t *testing.T, both []*process, before string, atMost time.Duration) (leaf *x509.Certificate) {
	t.Helper()
	until(t, "the same certificate at both", atMost, func() bool {
		seen := map[string]bool{}
		for _, p := range both {
			for _, listener := range []string{submissions, submission} {
				var err error
				if leaf, err = p.leaf(listener, hostname); err != nil {
					if before != "" {
						t.Fatalf("a handshake while renewing: %v", err)
					}
					return false
				}
				seen[serial(leaf)] = true
			}
		}
		return len(seen) == 1 && !seen[before]
	})
	return leaf
}

// resumes brings a ticket of one process to another, by each version that has
// tickets.
func resumes(t *testing.T, from, to *process) {
	t.Helper()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := from.tls()
		config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		config.MaxVersion = version
		for n, p := range []*process{from, to} {
			conn, err := p.shake(submissions, config)
			if err != nil {
				t.Fatal(err)
			}
			// In TLS 1.3 a ticket comes behind the handshake: with the greeting.
			if err := exchange(conn, step{"", "220"}); err != nil {
				t.Fatal(err)
			}
			conn.Close()
			if resumed := conn.ConnectionState().DidResume; resumed != (n == 1) {
				t.Errorf("%s, connection %d: resumed %v", tls.VersionName(version), n+1, resumed)
			}
		}
	}
}

// A balance hands connections to each of its servers in turn, as what stands
// before replicas does.
type balance struct {
	to     []string
	served []atomic.Int64
}

func newBalance(t *testing.T, addr string, to ...string) *balance {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	b := &balance{to: to, served: make([]atomic.Int64, len(to))}
	var running sync.WaitGroup
	running.Go(func() { b.accept(l, &running) })
	t.Cleanup(func() {
		l.Close()
		running.Wait()
	})
	return b
}

func (b *balance) accept(l net.Listener, running *sync.WaitGroup) {
	for n := 0; ; n++ {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		running.Go(func() { b.pass(conn, n%len(b.to)) })
	}
}

// pass is for one request: whoever is asked closes behind the answer.
func (b *balance) pass(conn net.Conn, n int) {
	defer conn.Close()
	server, err := net.Dial("tcp", b.to[n])
	if err != nil {
		return
	}
	defer server.Close()
	for _, c := range []net.Conn{conn, server} {
		c.SetDeadline(time.Now().Add(handshakeLimit))
	}
	b.served[n].Add(1)
	go io.Copy(server, conn) // ends when either is closed
	io.Copy(conn, server)
}
