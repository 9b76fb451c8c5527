package e2e

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"smtpseal/test/mta"
)

// A mailing is clients that send mail for as long as it lasts. Each mail has an
// id in its body, so that afterwards what the clients were told can be held
// against what the mail servers have.
type mailing struct {
	addrs map[string]string // of submissions and submission
	tls   *tls.Config
	stop  chan struct{}
	wait  sync.WaitGroup

	mu       sync.Mutex
	next     int
	told     map[string]bool // ids that were answered with 250
	sessions int
	away     int // sessions that heard 421 between two mails
	faults   []error
}

// errAway is a 421 where it may be said: the client comes again.
var errAway = errors.New("sent away")

func newMailing(addrs map[string]string, config *tls.Config) *mailing {
	return &mailing{addrs: addrs, tls: config, stop: make(chan struct{}), told: map[string]bool{}}
}

// newcomers come one after the other, each with one mail or two; regulars stay
// as long as they may.
func (m *mailing) newcomers(n int) { m.begin(n, func(i int) int { return 1 + i%2 }) }
func (m *mailing) regulars(n int)  { m.begin(n, func(int) int { return 1 << 30 }) }

func (m *mailing) begin(n int, mails func(int) int) {
	for i := range n {
		m.wait.Go(func() {
			for round := i; !m.ended(); round++ {
				m.session([]string{submissions, submission}[i%2], mails(round))
			}
		})
	}
}

func (m *mailing) ended() bool {
	select {
	case <-m.stop:
		return true
	default:
		return false
	}
}

// end returns when the last client has gone.
func (m *mailing) end() {
	close(m.stop)
	m.wait.Wait()
}

// between is how long a client rests between two mails, and before it comes
// again: the machine is shared.
const between = 100 * time.Millisecond

func (m *mailing) rest() {
	select {
	case <-m.stop:
	case <-time.After(between):
	}
}

// session is a client's whole stay.
func (m *mailing) session(listener string, mails int) {
	err := m.stay(listener, mails)
	m.mu.Lock()
	m.sessions++
	switch {
	case errors.Is(err, errAway):
		m.away++
	case err != nil:
		m.faults = append(m.faults, fmt.Errorf("%s %s: %w", time.Now().Format(time.TimeOnly), listener, err))
	}
	m.mu.Unlock()
	m.rest()
}

func (m *mailing) stay(listener string, mails int) error {
	raw, err := net.DialTimeout("tcp", m.addrs[listener], stayLimit)
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	defer raw.Close()
	c := newStayer(raw)
	if listener == submission {
		if err := c.ask("", "220", "EHLO client.example\r\n", "250", "STARTTLS\r\n", "220"); err != nil {
			return err
		}
	}
	raw.SetDeadline(time.Now().Add(stayLimit))
	sealed := tls.Client(raw, m.tls)
	if err := sealed.Handshake(); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	c = newStayer(sealed)
	if listener == submissions {
		if err := c.ask("", "220"); err != nil {
			return err
		}
	}
	if err := c.ask("EHLO client.example\r\n", "250"); err != nil {
		return err
	}
	for i := 0; i < mails && !m.ended(); i++ {
		if i > 0 {
			m.rest()
		}
		if err := m.send(c); err != nil {
			return err
		}
	}
	return c.ask("QUIT\r\n", "221")
}

// send sends one mail. A drain lets it come to its end.
func (m *mailing) send(c stayer) error {
	m.mu.Lock()
	m.next++
	id := fmt.Sprintf("mail-%06d", m.next)
	m.mu.Unlock()
	if err := c.ask("MAIL FROM:<sender@example.org>\r\n", "250"); err != nil {
		return err
	}
	err := c.ask("RCPT TO:<"+id+"@example.test>\r\n", "250", "DATA\r\n", "354",
		"Subject: "+id+"\r\n\r\n"+strings.Repeat("An ordinary line of an ordinary mail.\r\n", 50)+".\r\n", "250")
	if err != nil {
		return fmt.Errorf("in the transaction of %s: %w", id, deny(err))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.told[id] = true
	return nil
}

// deny makes a 421 the fault that it is within a transaction.
func deny(err error) error {
	if errors.Is(err, errAway) {
		return errors.New(err.Error())
	}
	return err
}

// A stayer asks and hears.
type stayer struct {
	net.Conn
	in *bufio.Reader
}

func newStayer(conn net.Conn) stayer { return stayer{conn, bufio.NewReader(conn)} }

// stayLimit bounds each step: on a machine that many tests share it is there
// only to end a test that hangs.
const stayLimit = 30 * time.Second

// ask plays pairs of what is said and the code of the answer.
func (c stayer) ask(pairs ...string) error {
	for i := 0; i < len(pairs); i += 2 {
		c.SetDeadline(time.Now().Add(stayLimit))
		verb, _, _ := strings.Cut(strings.TrimSpace(pairs[i]), "\r\n")
		_, wrote := io.WriteString(c, pairs[i])
		heard, err := c.hear()
		switch {
		case err == nil && strings.HasPrefix(heard, pairs[i+1]):
		case err == nil && strings.HasPrefix(heard, "421"):
			return fmt.Errorf("behind %.40q: %w: %q", verb, errAway, heard)
		default:
			return fmt.Errorf("behind %.40q heard %q, want %s: %w", verb, heard, pairs[i+1], errors.Join(wrote, err))
		}
	}
	return nil
}

// hear reads one reply, and nothing behind it: a 421 may follow at once.
func (c stayer) hear() (heard string, err error) {
	for {
		line, err := c.in.ReadString('\n')
		heard += line
		if err != nil || len(line) < 4 || line[3] != '-' {
			return heard, err
		}
	}
}

// check holds what clients were told against what the servers have. Nobody may
// have been refused or cut, no mail lost or doubled.
func (m *mailing) check(t *testing.T, servers ...*mta.Server) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, err := range m.faults {
		if i == 10 {
			t.Errorf("… and %d faults more", len(m.faults)-i)
			break
		}
		t.Errorf("a client: %v", err)
	}
	came := map[string]int{}
	for _, server := range servers {
		for _, one := range server.Messages() {
			subject, _, _ := strings.Cut(strings.TrimPrefix(string(one.Body), "Subject: "), "\r\n")
			came[subject]++
		}
	}
	for id := range m.told {
		if came[id] != 1 {
			t.Errorf("%s was answered with 250 and came %d times", id, came[id])
		}
	}
	for id, n := range came {
		if n != 1 || !m.told[id] {
			t.Errorf("%s came %d times, answered with 250: %v", id, n, m.told[id])
		}
	}
	t.Logf("%d sessions, %d mails, %d sessions sent away with 421, %d faults", m.sessions, len(m.told), m.away, len(m.faults))
	if len(m.told) == 0 {
		t.Error("no mail was sent")
	}
}
