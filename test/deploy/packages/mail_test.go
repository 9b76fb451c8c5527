package packages

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"smtpseal/test/loopback"
	"smtpseal/test/mta"
)

// A site is smtpseal on a machine, before a mail server of the test's.
type site struct {
	*machine
	server *mta.Server
	addr   string // of the listener, implicit TLS
}

const configFile = "/etc/smtpseal/smtpseal.yaml"

// configure writes what an administrator would.
func configure(t *testing.T, m *machine) *site {
	t.Helper()
	addr, err := loopback.Free("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	s := &site{machine: m, server: mta.Start(t, mta.Config{Proxy: mta.V2}), addr: addr}
	s.write(configFile, fmt.Sprintf(`# ours
listeners:
  - {name: submissions, listen: %q, tls: implicit, backend: mta}
backends:
  mta: {preset: postfix, servers: [%q], relay_check: "off", health: {interval: "off"}}
certificates:
  - {names: [mail.example.test], internal: true}
admin: {listen: off}
limits: {max_sessions: 1000, max_sessions_per_client: 1000}
`, addr, s.server.Addr()))
	return s
}

// A load is clients that send one mail each, one behind the other, until it is
// ended. Whatever they hear but what they should is a fault, with one exception: a
// drain may send a client away that has not begun a mail, by a 421, and it comes
// again.
type load struct {
	addr  string
	trust *tls.Config
	stop  chan struct{}
	wait  sync.WaitGroup

	mu     sync.Mutex
	told   map[string]bool // mails that were answered with 250
	away   int             // how often a client was sent away
	faults []error
}

func (s *site) load(clients int) *load {
	s.t.Helper()
	pem, err := os.ReadFile(s.path("/var/lib/smtpseal/internal/root.crt"))
	if err != nil {
		s.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	l := &load{
		addr: s.addr, trust: &tls.Config{RootCAs: roots, ServerName: "mail.example.test"},
		stop: make(chan struct{}), told: map[string]bool{},
	}
	for c := range clients {
		l.wait.Go(func() { l.client(c) })
	}
	return l
}

func (l *load) client(c int) {
	for n := 0; ; n++ {
		select {
		case <-l.stop:
			return
		case <-time.After(50 * time.Millisecond): // the machine is shared
		}
		id := fmt.Sprintf("mail-%d-%d", c, n)
		err := l.mail(id)
		l.mu.Lock()
		switch {
		case err == nil:
			l.told[id] = true
		case errors.Is(err, errAway):
			l.away++
		default:
			l.faults = append(l.faults, fmt.Errorf("%s: %w", id, err))
		}
		l.mu.Unlock()
	}
}

// mail is a session with one mail.
func (l *load) mail(id string) error {
	raw, err := net.DialTimeout("tcp", l.addr, 30*time.Second)
	if err != nil {
		return err
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(30 * time.Second))
	conn := textproto.NewConn(tls.Client(raw, l.trust))
	steps := []struct {
		say  string
		code int
	}{
		{"", 220}, {"EHLO client.example", 250}, {"MAIL FROM:<a@example.org>", 250}, {"RCPT TO:<b@example.test>", 250}, {"DATA", 354},
		{"Subject: " + id + "\r\n\r\n" + strings.Repeat("An ordinary line.\r\n", 50) + ".", 250},
	}
	for i, step := range steps {
		if step.say != "" {
			if err := conn.PrintfLine("%s", step.say); err != nil {
				return err
			}
		}
		if _, _, err := conn.ReadResponse(step.code); err != nil {
			if i <= 2 && isAway(err) { // as the answer to MAIL at the latest
				return errAway
			}
			return fmt.Errorf("behind %.20q: %w", step.say, err)
		}
	}
	// The mail has been taken; a drain may be quicker than QUIT is.
	conn.PrintfLine("QUIT")
	if _, _, err := conn.ReadResponse(221); err != nil && !isAway(err) {
		return fmt.Errorf("behind QUIT: %w", err)
	}
	return nil
}

// errAway is a 421 where it may be said.
var errAway = errors.New("sent away")

func isAway(err error) bool {
	var reply *textproto.Error
	return errors.As(err, &reply) && reply.Code == 421
}

// sent is how many mails were taken so far.
func (l *load) sent() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.told)
}

// end stops the clients, and holds what they were told against what came.
func (l *load) end(t *testing.T, server *mta.Server) {
	t.Helper()
	close(l.stop)
	l.wait.Wait()
	for _, err := range l.faults {
		t.Errorf("a client: %v", err)
	}
	came := map[string]int{}
	for _, m := range server.Messages() {
		subject, _, _ := strings.Cut(strings.TrimPrefix(string(m.Body), "Subject: "), "\r\n")
		came[subject]++
	}
	for id := range l.told {
		if came[id] != 1 {
			t.Errorf("%s was answered with 250 and came %d times", id, came[id])
		}
	}
	if len(came) != len(l.told) {
		t.Errorf("%d mails were taken, %d came", len(l.told), len(came))
	}
	t.Logf("%d mails, %d clients sent away to come again, %d faults", len(l.told), l.away, len(l.faults))
}
