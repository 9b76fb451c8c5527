package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"time"
)

// A load is clients that come one after the other, each to either door, make a
// full handshake, see that the mail server is behind it, and go.
type load struct {
	rig  loadRig
	todo chan int
	done chan struct{} // closed when all that was asked for has been made
	stop chan struct{}

	mu   sync.Mutex
	made []sample
}

// load makes at least so many handshakes, and goes on until end.
func (r loadRig) load(handshakes, workers int) *load {
	l := &load{rig: r, todo: make(chan int), done: make(chan struct{}), stop: make(chan struct{})}
	var clients sync.WaitGroup
	for range workers {
		clients.Go(l.work)
	}
	go l.feed(handshakes, &clients)
	return l
}

// feed hands out the work. It closes done when enough has been made, and todo
// when no more is wanted.
func (l *load) feed(handshakes int, clients *sync.WaitGroup) {
	enough := l.done
	for n := 0; ; n++ {
		if n == handshakes {
			close(enough)
		}
		select {
		case l.todo <- n:
		case <-l.stop:
			close(l.todo)
			clients.Wait()
			l.stop <- struct{}{}
			return
		}
	}
}

// end waits for what was asked for, and for the clients that are there.
func (l *load) end() {
	<-l.done
	l.stop <- struct{}{}
	<-l.stop
}

func (l *load) work() {
	for n := range l.todo {
		s := l.one([]string{submissions, submission}[n%2])
		l.mu.Lock()
		l.made = append(l.made, s)
		l.mu.Unlock()
	}
}

// one is a client's whole stay. What is timed is the handshake alone.
func (l *load) one(listener string) (s sample) {
	raw, err := net.DialTimeout("tcp", l.rig.addrs[listener], handshakeLimit)
	if err != nil {
		return sample{err: fmt.Errorf("%s: dial: %w", listener, err)}
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(2 * handshakeLimit))
	if listener != submissions {
		if err := upgrade(raw); err != nil {
			return sample{err: fmt.Errorf("%s: %w", listener, err)}
		}
	}
	conn := tls.Client(raw, l.rig.verified())
	s.at = time.Now()
	if err := conn.Handshake(); err != nil {
		s.err = fmt.Errorf("%s: handshake: %w", listener, err)
		return s
	}
	s.took = time.Since(s.at)
	s.leaf = conn.ConnectionState().PeerCertificates[0]
	// TLS 1.3 lets a client believe in a handshake that the server refuses: only
	// an answer tells.
	if listener == submissions {
		err = exchange(conn, step{"", "220"})
	}
	if err == nil {
		err = exchange(conn, step{"QUIT\r\n", "221"})
	}
	if err != nil {
		s.err = fmt.Errorf("%s: behind the handshake: %w", listener, err)
	}
	return s
}

func (l *load) samples() []sample {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.made
}

func (l *load) failures() (all []error) {
	for _, s := range l.samples() {
		if s.err != nil {
			all = append(all, s.err)
		}
	}
	return all
}

// serials counts the certificates that clients have seen.
func (l *load) serials() int {
	seen := map[string]bool{}
	for _, s := range l.samples() {
		if s.leaf != nil {
			seen[serial(s.leaf)] = true
		}
	}
	return len(seen)
}
