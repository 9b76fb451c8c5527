package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"smtpseal/admin"
	"smtpseal/test/mta"
	"smtpseal/test/talk"
)

// serveFile runs smtpseal with a configuration that is all the test's own, as start
// does with one that it makes.
func serveFile(t *testing.T, path string) *process {
	t.Helper()
	p := &process{t: t, addrs: map[string]string{}, changed: make(chan struct{}), read: make(chan struct{})}
	p.run(path)
	return p
}

// trust reads the root of the internal CA.
func (p *process) trust(file string) {
	p.t.Helper()
	p.rootFile = file
	pem, err := os.ReadFile(file)
	if err != nil {
		p.t.Fatal(err)
	}
	p.roots = x509.NewCertPool()
	if !p.roots.AppendCertsFromPEM(pem) {
		p.t.Fatalf("%s has no certificate", file)
	}
}

// statusNow is what /status says.
func (p *process) statusNow(t *testing.T) admin.Status {
	t.Helper()
	status, err := (&admin.Client{Network: "tcp", Addr: p.admin}).Status(context.Background())
	if err != nil {
		t.Fatalf("status: %v", err)
	}
	return status
}

// visit gets a page of the admin listener.
func (p *process) visit(t *testing.T, path string) (code int, body string) {
	t.Helper()
	return p.request(t, http.MethodGet, path, nil)
}

func (p *process) request(t *testing.T, method, path string, headers map[string]string) (code int, body string) {
	t.Helper()
	request, err := http.NewRequest(method, "http://"+p.admin+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	request.Host = headers["Host"] // "": the address
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// A dock is a process whose sessions stand still wherever a test wants them to.
type dock struct {
	*process
	file string
	hand net.Listener // the backend whose part the test plays
}

// The listeners of a dock beside those of every process.
const (
	behindProxy = "behind-proxy" // starttls; demands a PROXY header
	toDeaf      = "to-deaf"      // implicit; its backend does not answer a dial
	toHand      = "to-hand"      // implicit; its backend is the test
)

func newDock(t *testing.T, timeouts string) *dock {
	t.Helper()
	srv := mta.Start(t, mta.Config{Proxy: mta.V2, Users: map[string]string{user: password}})
	hand, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hand.Close() })
	dir := t.TempDir()
	d := &dock{file: filepath.Join(dir, "smtpseal.yaml"), hand: hand}
	addrs := map[string]string{}
	var text strings.Builder
	fmt.Fprintf(&text, "hostname: %s\nlisteners:\n", hostname)
	for _, l := range []struct{ name, mode, backend string }{
		{submissions, "implicit", "mta"}, {submission, "starttls", "mta"}, {mx, "starttls-optional", "mta"},
		{behindProxy, "starttls", "mta, accept_proxy: [127.0.0.0/8]"}, {toDeaf, "implicit", "deaf"}, {toHand, "implicit", "hand"},
	} {
		addrs[l.name] = freeAddr(t)
		fmt.Fprintf(&text, "  - {name: %s, listen: %q, tls: %s, backend: %s}\n", l.name, addrs[l.name], l.mode, l.backend)
	}
	text.WriteString("backends:\n")
	for name, b := range map[string]string{"mta": srv.Addr() + "'], proxy_protocol: v2", "deaf": mta.Deaf(t) + "'], proxy_protocol: v2", "hand": hand.Addr().String() + "'], proxy_protocol: 'off'"} {
		fmt.Fprintf(&text, "  %s: {servers: ['%s, health: {interval: off}, relay_check: off}\n", name, b)
	}
	at := freeAddr(t)
	fmt.Fprintf(&text, `admin: {listen: %q}
certificates: [{names: [%s], internal: true}]
storage: {type: file, path: %q}
timeouts: {%s}
limits: {max_sessions: 1000}
log: {level: info, format: json}
`, at, hostname, filepath.Join(dir, "storage"), timeouts)
	if err := os.WriteFile(d.file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	d.process = serveFile(t, d.file)
	d.addrs, d.admin = addrs, at
	d.trust(filepath.Join(dir, "storage", "internal", "root.crt"))
	return d
}

// A berth is a session that stands still.
type berth struct {
	name string
	*talk.Talker
	conn *net.TCPConn
	// goOn plays what the client, and its backend, had left to do.
	goOn func()
	// idle: it is in nobody's way, and sent off at once.
	idle bool
}

// phases is how many sessions of a dock are in each phase once all berths are
// taken.
var phases = map[string]int{
	"accept": 1, "cleartext": 1, "handshake": 2, "dial": 1, "greeting": 1, "command": 3, "reply": 1, "auth": 1, "body": 2,
}

// occupy opens a session in every phase, and comes back when /status has them.
func (d *dock) occupy(t *testing.T) (all []*berth) {
	t.Helper()
	add := func(name string, conn *net.TCPConn, talker *talk.Talker) *berth {
		b := &berth{name: name, conn: conn, Talker: talker, goOn: func() {}}
		all = append(all, b)
		return b
	}
	opened := func(name, listener string) *berth {
		c := d.open(t, listener, "")
		c.greet()
		return add(name, c.tcp, c.Talker)
	}
	plain := func(name, listener string) *berth {
		conn := d.dial(t, listener, "")
		return add(name, conn, talk.With(t, conn))
	}

	b := plain("PROXY header awaited", behindProxy)
	b.goOn = func() { b.Play("> PROXY TCP4 198.51.100.7 192.0.2.1 4711 587\n<< 220") }

	b2 := plain("before STARTTLS", submission)
	b2.Play("<< 220\n> EHLO x\n<< 250")
	b2.idle = true

	b3 := plain("port 25, in clear", mx)
	b3.Play("<< 220\n> EHLO x\n<< 250")
	b3.idle = true

	d.shaking(t, add)

	c := d.sealedAt(t, toDeaf)
	add("dial", c.tcp, c.Talker)

	c = d.sealedAt(t, toHand)
	fromUs := d.accept(t)
	b5 := add("greeting", c.tcp, c.Talker)
	b5.goOn = func() { fromUs.Play("> 220 hand.example.test"); b5.Play("<< 220") }

	b6 := opened("at rest", submissions)
	b6.idle = true

	b7 := opened("in a transaction", submission)
	b7.Play("> MAIL FROM:<a@example.org>\n<< 250")
	b7.goOn = func() { b7.Play("> RCPT TO:<b@example.test>\n<< 250\n> DATA\n<< 354\n> body\n> .\n<< 250") }

	c = d.sealedAt(t, toHand)
	theirs := d.accept(t)
	theirs.Play("> 220 hand.example.test")
	c.Play("<< 220\n> NOOP")
	theirs.Play("< NOOP")
	b8 := add("reply awaited", c.tcp, c.Talker)
	b8.goOn = func() { theirs.Play("> 250 done"); b8.Play("<< 250 done") }

	b9 := opened("auth", submissions)
	b9.Play("> AUTH LOGIN\n<< 334")
	b9.goOn = func() {
		for n, word := range []string{user, password} {
			b9.Play("> " + base64.StdEncoding.EncodeToString([]byte(word)) + "\n<< " + []string{"334", "235"}[n])
		}
	}

	b10 := opened("body", submission)
	b10.Play("> MAIL FROM:<a@example.org>\n<< 250\n> RCPT TO:<b@example.test>\n<< 250\n> DATA\n<< 354\n> the first half")
	b10.goOn = func() { b10.Play("> the second\n> .\n<< 250") }

	b11 := opened("chunk", submissions)
	b11.Play("> MAIL FROM:<a@example.org>\n<< 250\n> RCPT TO:<b@example.test>\n<< 250\n>> BDAT 10\\r\\n12345")
	b11.goOn = func() { b11.Play(">> 678\\r\\n\n<< 250\n> BDAT 0 LAST\n<< 250") }

	d.settledIn(t)
	return all
}

// shaking opens two sessions whose handshake is not done: one that has begun it,
// and one that has not.
func (d *dock) shaking(t *testing.T, add func(string, *net.TCPConn, *talk.Talker) *berth) {
	t.Helper()
	half := &halting{Conn: d.dial(t, submissions, ""), goOn: make(chan struct{})}
	shaken := tls.Client(half, d.tls())
	go shaken.Handshake()
	b := add("handshake begun", half.Conn.(*net.TCPConn), talk.With(t, shaken))
	b.goOn = func() { half.release() }
	t.Cleanup(half.release)

	conn := d.dial(t, submission, "")
	talker := talk.With(t, conn)
	talker.Play("<< 220\n> EHLO x\n<< 250\n> STARTTLS\n<< 220")
	c := add("handshake awaited", conn, talker)
	c.goOn = func() { c.StartTLS(d.tls()) }
}

// settledIn waits until every berth is taken.
func (d *dock) settledIn(t *testing.T) {
	t.Helper()
	until(t, "sessions in all phases", 10*time.Second, func() bool {
		have := map[string]int{}
		for _, l := range d.statusNow(t).Listeners {
			for phase, n := range l.Sessions {
				have[phase] += n
			}
		}
		for phase, n := range phases {
			if have[phase] != n {
				return false
			}
		}
		return true
	})
}

// sealedAt connects to an implicit listener.
func (d *dock) sealedAt(t *testing.T, listener string) *client {
	t.Helper()
	conn := d.dial(t, listener, "")
	c := &client{Talker: talk.With(t, conn), t: t, tcp: conn}
	c.tls = c.StartTLS(d.tls())
	return c
}

// accept takes the next connection to the backend that is the test.
func (d *dock) accept(t *testing.T) *talk.Talker {
	t.Helper()
	conn, err := d.hand.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return talk.With(t, conn)
}

// halting lets half of the first write through, and the rest when it is told to.
type halting struct {
	net.Conn
	goOn chan struct{}
	once sync.Once
	half bool
}

func (h *halting) release() { h.once.Do(func() { close(h.goOn) }) }

func (h *halting) Write(b []byte) (int, error) {
	if h.half {
		return h.Conn.Write(b)
	}
	h.half = true
	n, err := h.Conn.Write(b[:len(b)/2])
	if err != nil {
		return n, err
	}
	<-h.goOn
	m, err := h.Conn.Write(b[n:])
	return n + m, err
}
