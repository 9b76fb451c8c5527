package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"smtpseal/proxy/backend"
)

// constants returns the values of the string constants of a file that have a
// type of that name, or none and stand in the order of the list of violations.
func constants(t *testing.T, file, typeName string) (values []string) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, decl := range parsed.Decls {
		block, ok := decl.(*ast.GenDecl)
		if !ok || block.Tok != token.CONST {
			continue
		}
		for _, spec := range block.Specs {
			spec := spec.(*ast.ValueSpec)
			name := ""
			if id, ok := spec.Type.(*ast.Ident); ok {
				name = id.Name
			}
			literal, ok := spec.Values[0].(*ast.BasicLit)
			if name != typeName || !ok || literal.Kind != token.STRING {
				continue
			}
			value, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Fatal(err)
			}
			values = append(values, value)
		}
	}
	if len(values) < 10 {
		t.Fatalf("%s: only %q", file, values)
	}
	return values
}

// Whatever goes wrong, something is said of it.
func TestEveryFailureHasAHint(t *testing.T) {
	outcomes, kinds := constants(t, "record.go", "Outcome"), constants(t, "end.go", "")
	for _, o := range outcomes {
		for _, phase := range Phases {
			r := Record{Outcome: Outcome(o), Phase: phase, Err: io.EOF}
			if Outcome(o) == Violation {
				r.Violation = junk
			}
			if (r.Hint() == "") != slices.Contains(fine, r.Outcome) || r.failed() != (r.Hint() != "") {
				t.Errorf("%s in %s: %q", o, phase, r.Hint())
			}
		}
	}
	for _, o := range Outcomes {
		outcomes = slices.DeleteFunc(outcomes, func(have string) bool { return have == string(o) })
	}
	if len(outcomes) > 0 || !slices.Equal(slices.Sorted(slices.Values(kinds)), slices.Sorted(slices.Values(ViolationKinds))) {
		t.Errorf("the lists are not whole: %q are missing; %q are to be counted of %q", outcomes, ViolationKinds, kinds)
	}
	said := map[string]string{}
	for _, kind := range kinds {
		hint := (&Record{Outcome: Violation, Violation: kind}).Hint()
		if other, twice := said[hint]; hint == "" || twice {
			t.Errorf("%s: %q, as %q", kind, hint, other)
		}
		said[hint] = kind
	}
	for _, o := range []Outcome{Completed, ClientClosed, Shutdown} {
		if !slices.Contains(fine, o) {
			t.Errorf("%s is no failure", o)
		}
	}
}

// A hint is one sentence, and no other hint says the same.
func TestHintsAreSentences(t *testing.T) {
	const longest = 300 // what can be read at a glance
	seen := map[string]bool{}
	for _, a := range advices {
		if a.hint == "" || len(a.hint) > longest || strings.ContainsAny(a.hint, "\n\"") || strings.HasSuffix(a.hint, ".") || seen[a.hint] {
			t.Errorf("%q", a.hint)
		}
		seen[a.hint] = true
	}
}

// A staged failure is a session that must go wrong in one way.
type staged struct {
	name   string
	mode   Mode
	mta    func(*stage, net.Conn)
	set    func(*stage)
	client func(*stage, net.Conn)
	sealed bool // the client makes its handshake first
	hint   string
}

func dialFails(err error) func(*stage) {
	return func(s *stage) { s.dial = func(context.Context) (net.Conn, error) { return nil, err } }
}

func refusedWith(errno syscall.Errno) func(*stage) {
	return dialFails(&net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", errno)})
}

// handshakes lets the client try TLS as config says.
func handshakes(config *tls.Config) func(*stage, net.Conn) {
	return func(_ *stage, c net.Conn) { tls.Client(c, config).Handshake() }
}

func hello10(versions ...uint16) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, MinVersion: versions[0], MaxVersion: versions[len(versions)-1]}
}

// alert plays a client that answers our hello with an alert in clear, as one
// does in TLS 1.2.
func alert(code tls.AlertError) func(*stage, net.Conn) { return alertIn(tls.VersionTLS12, code) }

func alertIn(version uint16, code tls.AlertError) func(*stage, net.Conn) {
	return func(s *stage, c net.Conn) {
		go func() {
			time.Sleep(time.Second) // the hello has been answered
			c.Write([]byte{21, 3, 3, 0, 2, 2, byte(code)})
		}()
		tls.Client(deaf{c}, hello10(version)).Handshake()
	}
}

// deaf is a connection that is written to, but from which nothing is heard.
type deaf struct{ net.Conn }

func (d deaf) Read([]byte) (int, error) {
	io.Copy(io.Discard, d.Conn)
	return 0, io.EOF
}

func limited(limits Limits) func(*stage) {
	return func(s *stage) {
		s.apply(func(now *Settings) { now.Limits = limits })
		c := s.connect()
		s.hear(c)
		synctest.Wait()
		s.playing.Go(func() { time.Sleep(time.Minute); c.Close(); <-s.records })
	}
}

func tlsDemands(change func(*tls.Config)) func(*stage) {
	return func(s *stage) {
		config := s.config().Clone()
		change(config)
		s.config = func() *tls.Config { return config }
	}
}

func withProxy(version backend.Version) func(*stage) {
	return func(s *stage) { s.settings.Listeners[0].Backend.Proxy = version }
}

// stagedFailures are what an operator must be able to tell apart.
var stagedFailures = []staged{
	{name: "too many sessions", mode: StartTLS, set: limited(Limits{Sessions: 1}), hint: "limits.max_sessions: raise"},
	{name: "too many of a client", mode: StartTLS, set: limited(Limits{PerClient: 1}), hint: "limits.max_sessions_per_client: raise"},
	{name: "no PROXY header", mode: StartTLS, set: trust, client: say("EHLO client.example\r\n"), hint: "without a PROXY header: turn"},
	{name: "PROXY header awaited", mode: StartTLS, set: trust, hint: "no PROXY header in time"},
	{name: "PROXY header without a client", mode: StartTLS, set: trust, client: say("\r\n\r\n\x00\r\nQUIT\n\x21\x00\x00\x00"), hint: "cannot be used"},
	{name: "unnamed load balancer on 587", mode: StartTLS, client: say("PROXY TCP4 203.0.113.7 198.51.100.1 5000 587\r\n"), hint: "add its network to accept_proxy"},
	{name: "HTTP", mode: StartTLS, client: say("GET / HTTP/1.1\r\n"), hint: "a web client"},
	{name: "TLS on 587", mode: StartTLS, client: say("\x16\x03\x01\x02\x00\x01"), hint: "TLS from the first octet where STARTTLS is expected"},
	{name: "SMTP on 465", mode: Implicit, client: say("EHLO client.example\r\n"), hint: "no TLS from the first octet"},
	{name: "no STARTTLS", mode: StartTLS, client: say("EHLO c\r\nQUIT\r\n"), hint: "left a port that demands TLS"},
	{name: "silent before STARTTLS", mode: StartTLS, hint: "timeouts.cleartext"},
	{name: "commands without end", mode: StartTLS, client: say(strings.Repeat("NOOP\r\n", 30)), hint: "many commands"},
	{name: "injection", mode: StartTLS, client: say("STARTTLS\r\nMAIL FROM:<>\r\n"), hint: "injects"},
	{name: "no certificate", mode: Implicit, set: func(s *stage) { s.config = func() *tls.Config { return nil } }, hint: "no certificate can be served"},
	{name: "handshake without end", mode: Implicit, hint: "timeouts.handshake"},
	{name: "left in the handshake", mode: Implicit, client: func(_ *stage, c net.Conn) { c.Write([]byte{22, 3, 1}); c.Close() }, hint: "left in the handshake"},
	{name: "unknown CA", mode: Implicit, client: alert(unknownCA), hint: "does not know the CA"},
	{name: "certificate expired", mode: Implicit, client: alert(certificateExpired), hint: "for expired"},
	{name: "wrong name", mode: Implicit, client: alert(badCertificate), hint: "does not accept our certificate"},
	{name: "old TLS", mode: Implicit, client: handshakes(hello10(tls.VersionTLS10, tls.VersionTLS11)), hint: "too old"},
	{name: "no common cipher", mode: Implicit, client: handshakes(&tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}), hint: "no cipher or key in common"},
	{name: "a browser", mode: Implicit, set: tlsDemands(func(c *tls.Config) { c.NextProtos = []string{"smtp"} }), client: handshakes(&tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}), hint: "ALPN"},
	{name: "no client certificate", mode: Implicit, set: tlsDemands(func(c *tls.Config) { c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, testPair().pool }),
		client: func(s *stage, c net.Conn) { io.Copy(io.Discard, tls.Client(c, &tls.Config{InsecureSkipVerify: true})) }, hint: "client_auth of this listener demands"},
	{name: "foreign client certificate", mode: Implicit, set: tlsDemands(func(c *tls.Config) { c.ClientAuth = tls.RequireAndVerifyClientCert }),
		client: func(s *stage, c net.Conn) {
			io.Copy(io.Discard, tls.Client(c, &tls.Config{InsecureSkipVerify: true, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &testPair().cert, nil }}))
		}, hint: "client_ca_file"},
	{name: "another TLS fault", mode: Implicit, client: say("\x16\x03\x01\x00\x04\x01\x00\x00\x00"), hint: "compare what it can do"},

	{name: "dial refused", mode: Opportunistic, set: refusedWith(syscall.ECONNREFUSED), hint: "nothing listens"},
	{name: "no such name", mode: Opportunistic, set: dialFails(&net.DNSError{Err: "no such host", Name: "mta", IsNotFound: true}), hint: "name cannot be resolved"},
	{name: "no socket", mode: Opportunistic, set: refusedWith(syscall.ENOENT), hint: "unix socket does not exist"},
	{name: "no right", mode: Opportunistic, set: refusedWith(syscall.EACCES), hint: "may not connect"},
	{name: "no route", mode: Opportunistic, set: refusedWith(syscall.EHOSTUNREACH), hint: "no route"},
	{name: "no descriptors", mode: Opportunistic, set: refusedWith(syscall.EMFILE), hint: "LimitNOFILE"},
	{name: "dial in vain", mode: Opportunistic, set: blackHole, hint: "firewall swallows packets"},
	{name: "another dial error", mode: Opportunistic, set: refusing, hint: "cannot be reached"},

	{name: "greeting, silent", mode: Opportunistic, mta: func(_ *stage, c net.Conn) { io.Copy(io.Discard, c) }, hint: "timeouts.greeting"},
	{name: "greeting, closed", mode: Opportunistic, mta: func(*stage, net.Conn) {}, hint: "closed in place of a greeting"},
	{name: "greeting, 421", mode: Opportunistic, mta: say("421 4.7.0 too busy\r\n"), hint: "for now"},
	{name: "greeting, 554", mode: Opportunistic, mta: say("554 5.7.1 not you\r\n"), hint: "turned the client away"},
	{name: "greeting, after a wait for a PROXY header", mode: Opportunistic, mta: func(_ *stage, c net.Conn) { time.Sleep(5 * time.Second); io.WriteString(c, "421 4.3.0 no\r\n") }, hint: "waits for a PROXY header"},
	{name: "PROXY header taken for a command", mode: Opportunistic, mta: say("220 mta\r\n500 5.5.2 what?\r\n"), hint: "takes the PROXY header for a command"},
	{name: "no SMTP", mode: Opportunistic, mta: say("* OK IMAP ready\r\n"), hint: "no SMTP"},

	{name: "backend stuck", mode: Opportunistic, mta: script(), client: say("NOOP\r\n"), hint: "timeouts.reply"},
	{name: "backend stuck in a message", mode: Opportunistic, mta: deafAfterDATA, client: say("DATA\r\ntext\r\n.\r\n"), hint: "no more of a message"},
	{name: "backend crashed", mode: Opportunistic, mta: func(_ *stage, c net.Conn) { io.WriteString(c, "220 mta\r\n"); io.ReadFull(c, make([]byte, 4)) }, client: say("NOOP\r\n"), hint: "crashed"},
	{name: "backend said 421", mode: Opportunistic, mta: script(answers{0, "421 4.3.0 bye\r\n"}), client: say("NOOP\r\n"), hint: "in the words in error"},
	{name: "backend left with 221", mode: Opportunistic, mta: script(answers{0, "221 2.7.0 I can break rules, too\r\n"}), client: say("NOOP\r\n"), hint: "a command that it forbids"},
	{name: "a reply too many", mode: Opportunistic, mta: script(answers{0, "250 ok\r\n250 ok\r\n"}), client: say("NOOP\r\n"), hint: "a reply too many"},

	{name: "client idle", mode: Opportunistic, mta: agreeable, hint: "timeouts.command: a client"},
	{name: "client stuck in AUTH", mode: Implicit, mta: agreeable, client: say("AUTH LOGIN\r\n"), sealed: true, hint: "in the middle of AUTH"},
	{name: "client stuck in a message", mode: Opportunistic, mta: agreeable, client: say("DATA\r\ntext\r\n"), hint: "timeouts.body: the path"},
	{name: "session without end", mode: Opportunistic, mta: agreeable, client: noops, hint: "timeouts.session"},
	{name: "smuggling", mode: Opportunistic, mta: agreeable, client: say("DATA\r\ntext\n.\r\nMAIL"), hint: "SMTP smuggling"},
	{name: "bad BDAT", mode: Opportunistic, mta: agreeable, client: say("BDAT 007\r\n"), hint: "BDAT size"},
	{name: "forbidden commands", mode: Opportunistic, mta: agreeable, client: say(strings.Repeat("XCLIENT\r\n", 30)), hint: "not allowed here"},
	{name: "bad command line", mode: Opportunistic, mta: agreeable, client: say("NO\x00OP\r\n"), hint: "NUL or a bare CR"},
	{name: "a defect", mode: Opportunistic, set: func(s *stage) { s.dial = func(context.Context) (net.Conn, error) { panic("staged") } }, hint: "a defect of smtpseal"},
}

// Who reads only the hints can tell the failures from each other.
func TestHintsTellFailuresApart(t *testing.T) {
	seen := map[string]string{}
	for _, c := range stagedFailures {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := c.run(t)
				if hint := r.Hint(); !strings.Contains(hint, c.hint) {
					t.Errorf("%s %s in %s, %v: %q, want %q in it", r.Outcome, r.Violation, r.Phase, r.Err, hint, c.hint)
				}
				if other, twice := seen[r.Hint()]; twice {
					t.Errorf("the same is said of %s", other)
				}
				seen[r.Hint()] = c.name
			})
		})
	}
	if len(seen) < len(stagedFailures) {
		t.Errorf("%d hints of %d failures", len(seen), len(stagedFailures))
	}
}

func (c *staged) run(t *testing.T) Record {
	s := newStage(t, c.mode, c.mta)
	if c.set != nil {
		c.set(s)
	}
	conn := s.connect()
	defer func() { conn.Close(); time.Sleep(2 * time.Minute); s.close() }()
	talk := conn
	if c.sealed {
		talk = s.seal(conn)
	}
	if c.mode != Implicit || c.sealed || c.client == nil {
		s.hear(talk)
	}
	if c.client != nil {
		s.playing.Go(func() { c.client(s, talk) })
	}
	return <-s.records
}

// OpenSSL sends its alerts in clear in TLS 1.3, too, as long as it has not sent
// its Finished, and crypto/tls cannot read them there.
func TestAlertInClear(t *testing.T) {
	for code, hint := range map[tls.AlertError]string{unknownCA: "does not know the CA", certificateExpired: "for expired", badCertificate: "does not accept our certificate"} {
		synctest.Test(t, func(t *testing.T) {
			r := (&staged{mode: Implicit, client: alertIn(tls.VersionTLS13, code)}).run(t)
			if r.Version != tls.VersionTLS13 || !strings.Contains(r.Hint(), hint) || r.Err.Error() != "remote error: "+code.Error() {
				t.Errorf("%s, %v: %q", tls.VersionName(r.Version), r.Err, r.Hint())
			}
		})
	}
}

// An alert of a client that speaks TLS 1.3 is encrypted, and comes while the
// server still writes, which pipes cannot play.
func TestHintOfARealClient(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for name, config := range map[string]*tls.Config{
			"the name":  {RootCAs: testPair().pool, ServerName: "other.example.org", MaxVersion: version},
			"the chain": {ServerName: "mail.example.org", MaxVersion: version},
		} {
			r := newRig(t, rigConfig{mode: Implicit, down: true})
			if err := tls.Client(r.dial(), config).Handshake(); err == nil {
				t.Fatal("the client does not mind")
			}
			rec := <-r.records
			if hint := rec.Hint(); rec.Version != version || !strings.Contains(hint, "does not accept our certificate") {
				t.Errorf("%s, %s: %s, %v: %q", tls.VersionName(version), name, rec.Outcome, rec.Err, hint)
			}
		}
	}
}

// A unix socket's peer has no address. That is said at once, before anything is
// dialled, and loudly only where nobody can get through.
func TestNoAddressForTheBackend(t *testing.T) {
	testPair()
	const local = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
	for _, c := range []struct {
		name    string
		trusted bool
		version backend.Version
		want    error
	}{
		{"nothing is known", false, backend.V2, errNoAddress},
		{"a check by the program in front", true, backend.V1, errLocalPeer},
		{"nothing needs to be known", false, backend.Off, nil},
		{"nor of the program in front", true, backend.Off, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t, Opportunistic, agreeable)
			defer s.close()
			s.apply(func(now *Settings) { now.Listeners[0].AcceptUnix = c.trusted })
			withProxy(c.version)(s)
			ours, theirs := net.Pipe()
			s.listener.conns <- pipe{theirs, &net.UnixAddr{}, &net.UnixAddr{}}
			heard := s.hear(ours)
			if c.trusted {
				io.WriteString(ours, local)
			}
			synctest.Wait()
			if c.want == nil {
				io.WriteString(ours, "QUIT\r\n")
			}
			r := <-s.records
			ours.Close()
			if said := <-heard; !errors.Is(r.Err, c.want) || c.want != nil && (said != downReply || r.Phase != PhaseAccept || r.Hint() == "") {
				t.Errorf("%s: %s, %v in %s, heard %q", c.name, r.Outcome, r.Err, r.Phase, said)
			}
			if loud := level(&r) == "warn"; loud != (c.want == errNoAddress) {
				t.Errorf("%s: at %s", c.name, level(&r))
			}
		})
	}
}
