package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"smtpseal/test/mta"
	"smtpseal/test/pebble"
	"smtpseal/test/talk"
)

// A failure is staged by a function that starts a scene and comes back when
// there is something to see.
type failure struct {
	name  string
	stage func(*scene)
}

// toBackend is a failure that one session meets at its backend.
func toBackend(config mta.Config, backend, script string) func(*scene) {
	return func(s *scene) {
		s.Server, s.Backend = mta.Start(s.t, config).Addr(), backend
		s.Timeouts = "greeting: 10s, reply: 1s, body: 1s"
		s.begin()
		s.comes(submissions, script)
	}
}

func failing(f mta.Fault) mta.Config { return mta.Config{Proxy: mta.V2, Faults: []mta.Fault{f}} }

const letter = "<< 220\n> EHLO x\n<< 250\n> MAIL FROM:<a@example.org>\n<< 250\n> RCPT TO:<b@example.test>\n<< 250\n"

// byClient is a failure that a client brings along.
func byClient(play func(*scene)) func(*scene) {
	return func(s *scene) {
		s.Server = mta.Start(s.t, mta.Config{Proxy: mta.V2}).Addr()
		s.begin()
		play(s)
	}
}

// inHandshake is a failure that the log has at debug only.
func inHandshake(play func(*scene)) func(*scene) {
	return func(s *scene) {
		s.Level = "debug"
		byClient(play)(s)
	}
}

// onReload is a change of the configuration that is refused.
func onReload(change func(s *scene, text string) string) func(*scene) {
	return func(s *scene) {
		s.Server = mta.Start(s.t, mta.Config{Proxy: mta.V2}).Addr()
		s.begin()
		s.reloadWith(func(text string) string { return change(s, text) })
	}
}

// taken is an address that somebody else listens on.
func taken(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// The failures that the mail server is the place of.
var backendFailures = []failure{
	{"the mail server is down", func(s *scene) {
		s.Server, s.Backend = mta.Refusing(s.t), "health: {interval: 30s}"
		s.begin()
		s.comes(submissions, "<< 421")
	}},
	{"its host swallows packets", func(s *scene) {
		s.Server, s.Timeouts, s.Backend = mta.Deaf(s.t), "dial: 1s", "health: {interval: 30s, timeout: 500ms}"
		s.begin()
		s.comes(submissions, "<< 421")
	}},
	{"its socket is not there", func(s *scene) {
		s.Server, s.Backend = "unix:"+filepath.Join(s.dir, "none.sock"), "health: {interval: 30s}"
		s.begin()
		s.comes(submissions, "<< 421")
	}},
	{"it is silent", func(s *scene) {
		s.Server, s.Timeouts = mta.Start(s.t, failing(mta.Fault{At: mta.Greeting, Then: mta.Stall})).Addr(), "greeting: 1s"
		s.begin()
		s.comes(submissions, "<< 421")
	}},
	{"it waits for a PROXY header and gets none", toBackend(mta.Config{Proxy: mta.V2, HeaderTimeout: 3 * time.Second, BadHeader: mta.Say421}, "proxy_protocol: 'off'", "<< 421")},
	{"it closes at a PROXY header", toBackend(mta.Config{Proxy: mta.V1}, "proxy_protocol: v2", "<< 421")},
	{"it takes the PROXY header for a command", func(s *scene) {
		s.Server, s.Backend = mta.Start(s.t, mta.Config{}).Addr(), "proxy_protocol: v1"
		s.begin()
		c := s.seal(s.t, submissions, "")
		c.Maybe("220") // the greeting may have been passed on before the rest came
		c.Send("EHLO x\r\n")
		c.Drain()
		c.tls.Close()
		s.session(c.tcp.LocalAddr())
	}},
	{"it refuses with 554", toBackend(mta.Config{Proxy: mta.V2, Greeting: "554 5.7.1 not you\r\n"}, "", "<< 554")},
	{"it is too busy", toBackend(mta.Config{Proxy: mta.V2, Greeting: "421 4.7.0 too many connections\r\n"}, "", "<< 421")},
	{"it is no mail server", toBackend(mta.Config{Proxy: mta.V2, Greeting: "* OK IMAP4rev1 ready\r\n"}, "", "<< 421")},
	{"it dies in mid-message", toBackend(failing(mta.Fault{At: mta.Body, Octets: 3, Then: mta.Reset}), "", letter+"> DATA\n<< 354\n> body\n> .\n<< 421")},
	{"it ends a session with 421", toBackend(failing(mta.Fault{At: "MAIL", Say: "421 4.3.2 stopping\r\n", Then: mta.Close}), "", "<< 220\n> EHLO x\n<< 250\n> MAIL FROM:<a@example.org>\n<< 421")},
	{"it forbids a command", toBackend(failing(mta.Fault{At: "NOOP", Say: "221 2.7.0 I can break rules, too\r\n", Then: mta.Close}), "", "<< 220\n> EHLO x\n<< 250\n> NOOP\n<< 221")},
	{"it does not answer", toBackend(failing(mta.Fault{At: "RCPT", Then: mta.Stall}), "", "<< 220\n> EHLO x\n<< 250\n> MAIL FROM:<a@example.org>\n<< 250\n> RCPT TO:<b@example.test>\n<< 421")},
	{"it takes no more of a message", func(s *scene) {
		s.Server, s.Timeouts = mta.Start(s.t, failing(mta.Fault{At: mta.Body, Octets: 1, Then: mta.Stall})).Addr(), "body: 1s, reply: 30s"
		s.begin()
		c := s.open(s.t, submissions, "")
		c.greet()
		c.envelope("b@example.test")
		c.Play("> DATA\n<< 354")
		go io.Copy(c.tls, strings.NewReader(strings.Repeat(strings.Repeat("x", 70)+"\r\n", 500_000))) // fills what is on the way
		s.session(c.tcp.LocalAddr())
		c.tls.Close()
	}},
	{"it answers twice", toBackend(failing(mta.Fault{At: "NOOP", Twice: true}), "", "<< 220\n> EHLO x\n<< 250\n> NOOP\n<< 250\n> NOOP\n<< 421")},
	{"it is an open relay", func(s *scene) {
		s.Server, s.Backend = mta.Start(s.t, mta.Config{Proxy: mta.V2}).Addr(), "relay_check: warn"
		s.begin()
		s.wait("the warning", func() bool { return s.find("open relay", nil) != nil })
	}},
	{"health checks fail", func(s *scene) {
		s.Server, s.Backend = mta.Start(s.t, failing(mta.Fault{At: "EHLO", Say: "451 4.3.0 queue file\r\n"})).Addr(), "health: {interval: 100ms, fall: 1}"
		s.begin()
		s.wait("a check", func() bool { return s.find("backend is down", nil) != nil })
	}},
}

// withACME lets certificates come from a CA.
func (s *scene) withACME(ca *pebble.CA, more string) {
	s.Certificates = "{names: [" + hostname + "], key_types: [p256]}"
	s.ACME = fmt.Sprintf("email: ops@example.org, directory: %q, trusted_roots: %q, challenges: [http-01], http_listen: %q%s",
		ca.DirectoryURL(), ca.RootsFile(), ca.HTTPAddr(), more)
}

// unobtained waits for the first attempt to fail.
func (s *scene) unobtained() {
	s.begin()
	s.wait("a failure", func() bool { return s.find(notObtained, nil) != nil })
}

// problem lets a CA answer every order with a refusal.
func problem(kind string) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.Contains(r.URL.Path, "order") {
				next.ServeHTTP(w, r)
				return
			}
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, `{"type":"urn:ietf:params:acme:error:%s","detail":"policy","status":403}`, kind)
		})
	}
}

// The failures of certificates.
var certificateFailures = []failure{
	{"the certificate has expired", func(s *scene) {
		s.pair(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })
		s.begin()
	}},
	{"the certificate expires soon", func(s *scene) {
		s.pair(func(c *x509.Certificate) { c.NotAfter = time.Now().AddDate(0, 0, 5) })
		s.begin()
	}},
	{"the new files are broken", func(s *scene) {
		s.pair(func(*x509.Certificate) {})
		s.begin()
		s.write(filepath.Join(s.dir, "tls.crt"), "no certificate\n")
		s.hup()
		s.wait("word of it", func() bool { return s.find("certificate not replaced: the one in use stays", nil) != nil })
	}},
	{"renewal fails and the end is near", func(s *scene) {
		ca := pebble.Start(s.t, pebble.Options{Validity: 24 * time.Second})
		s.withACME(ca, "")
		s.begin()
		s.obtained(hostname)
		if err := ca.Down(); err != nil {
			s.t.Fatal(err)
		}
		until(s.t, "an alarm", time.Minute, func() bool {
			s.hup()
			time.Sleep(300 * time.Millisecond)
			return slices.ContainsFunc(s.statusNow(s.t).Reasons, func(r string) bool { return strings.Contains(r, "not renewed") })
		})
	}},
	{"the CA is down", func(s *scene) {
		ca := pebble.Start(s.t, pebble.Options{})
		if err := ca.Down(); err != nil {
			s.t.Fatal(err)
		}
		s.withACME(ca, "")
		s.unobtained()
	}},
	{"the CA refuses the name", func(s *scene) {
		ca := pebble.Start(s.t, pebble.Options{})
		ca.Hook(problem("rejectedIdentifier"))
		s.withACME(ca, "")
		s.unobtained()
	}},
	{"the CA has had enough", func(s *scene) {
		ca := pebble.Start(s.t, pebble.Options{})
		ca.Hook(problem("rateLimited"))
		s.withACME(ca, "")
		s.unobtained()
	}},
	{"the CA cannot reach us", func(s *scene) {
		ca := pebble.Start(s.t, pebble.Options{})
		s.withACME(ca, "")
		s.ACME = strings.Replace(s.ACME, ca.HTTPAddr(), freeAddr(s.t), 1)
		s.unobtained()
	}},
	{"the storage is gone", func(s *scene) {
		store := openStore(s.t, "redis")
		s.Storage = store.settings
		s.begin()
		if err := store.stop(); err != nil {
			s.t.Fatal(err)
		}
		s.hup()
		s.wait("word of the outage", func() bool {
			return having(s.all("storage cannot be read: the certificate that is held is served"), "") != nil
		})
	}},
}

// The failures of a new configuration.
var reloadFailures = []failure{
	{"the file has a mistake", onReload(func(_ *scene, text string) string { return strings.Replace(text, "hostname:", "hostnam:", 1) })},
	{"the file is gone", func(s *scene) {
		s.Server = mta.Start(s.t, mta.Config{Proxy: mta.V2}).Addr()
		s.begin()
		if err := os.Remove(s.file); err != nil {
			s.t.Fatal(err)
		}
		if code, body := s.request(s.t, http.MethodPost, "/reload", map[string]string{"Smtpseal-Request": "1"}); code != http.StatusConflict {
			s.t.Errorf("reload: %d %s", code, body)
		}
	}},
	{"an address is taken", onReload(func(s *scene, text string) string { return strings.Replace(text, s.addrs[mx], taken(s.t), 1) })},
	{"the admin address is taken", onReload(func(s *scene, text string) string { return strings.Replace(text, s.admin, taken(s.t), 1) })},
	{"the file of client CAs is broken", onReload(func(s *scene, text string) string {
		file := filepath.Join(s.dir, "clients.pem")
		s.write(file, "no certificate\n")
		return strings.Replace(text, "tls: implicit", fmt.Sprintf("tls: implicit, client_auth: require, client_ca_file: %q", file), 1)
	})},
}

// The failures that are limits.
var limitFailures = []failure{
	{"too many sessions", func(s *scene) {
		s.Server, s.Limits = mta.Start(s.t, mta.Config{Proxy: mta.V2}).Addr(), "max_sessions: 1"
		s.begin()
		first := talk.With(s.t, s.dial(s.t, submission, ""))
		first.Play("<< 220")
		second := s.dial(s.t, submission, "")
		talk.With(s.t, second).Play("<< 421\n< END")
		s.session(second.LocalAddr())
	}},
	{"too many sessions of one client", func(s *scene) {
		s.Server, s.Limits = mta.Start(s.t, mta.Config{Proxy: mta.V2}).Addr(), "max_sessions: 200, max_sessions_per_client: 1"
		s.begin()
		first := talk.With(s.t, s.dial(s.t, submission, ""))
		first.Play("<< 220")
		second := s.dial(s.t, submission, "")
		talk.With(s.t, second).Play("<< 421\n< END")
		s.session(second.LocalAddr())
	}},
	{"no descriptors are left", func(s *scene) {
		s.Server = mta.Start(s.t, mta.Config{Proxy: mta.V2}).Addr()
		s.begin()
		conn := s.dial(s.t, submission, "")
		client := talk.With(s.t, conn)
		client.Play("<< 220\n> EHLO x\n<< 250\n> STARTTLS\n<< 220")
		give := s.takeDescriptors() // it dials as soon as it has shaken hands
		client.StartTLS(s.tls())
		client.Play("> EHLO x\n<< 421")
		s.session(conn.LocalAddr())
		give()
	}},
	{"too few descriptors", func(s *scene) {
		s.Limits = "max_sessions: 100000"
		s.begin()
	}},
}

// numbers are those of the descriptors that the process has.
func (s *scene) numbers() map[int]bool {
	s.t.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.command.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	used := map[int]bool{}
	for _, fd := range open {
		n, _ := strconv.Atoi(fd.Name())
		used[n] = true
	}
	return used
}

// takeDescriptors leaves the process none, until the returned function is called.
func (s *scene) takeDescriptors() (give func()) {
	s.t.Helper()
	pid := s.command.Process.Pid
	used := s.numbers()
	until(s.t, "nothing to be opened or closed any more", 20*time.Second, func() bool {
		before := used
		time.Sleep(200 * time.Millisecond) // one that is closed behind our back would be one to spare
		used = s.numbers()
		return maps.Equal(before, used)
	})
	free := 0
	for used[free] {
		free++
	}
	var before unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &before); err != nil {
		s.t.Fatal(err)
	}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(free), Max: before.Max}, nil); err != nil {
		s.t.Fatal(err)
	}
	return func() { unix.Prlimit(pid, unix.RLIMIT_NOFILE, &before, nil) }
}

// The failures that a client is the cause of, or suffers alone.
var clientFailures = []failure{
	{"TLS at once on 587", byClient(func(s *scene) { s.sends(submission, clientHello(s.t)) })},
	{"plain SMTP on 465", inHandshake(func(s *scene) { s.sends(submissions, "EHLO x\r\n") })},
	{"TLS 1.0", inHandshake(func(s *scene) {
		s.shakes(&tls.Config{ServerName: hostname, RootCAs: s.roots, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10})
	})},
	{"the client does not know our CA", inHandshake(func(s *scene) {
		// Go's own client does not tell this from other troubles.
		c := exec.Command("openssl", "s_client", "-connect", s.addrs[submissions], "-servername", hostname, "-verify_return_error", "-no-CAfile", "-no-CApath")
		if out, err := c.CombinedOutput(); err == nil {
			s.t.Errorf("openssl is content:\n%s", out)
		}
		s.wait("the line of the session", func() bool { return s.find("session closed", nil) != nil })
	})},
	{"the client expects another name", inHandshake(func(s *scene) { s.shakes(&tls.Config{ServerName: "smtp.example.test", RootCAs: s.roots}) })},
	{"the client has no certificate", func(s *scene) {
		file := filepath.Join(s.dir, "clients.pem")
		s.pair(func(*x509.Certificate) {})
		text, err := os.ReadFile(filepath.Join(s.dir, "tls.crt"))
		if err != nil {
			s.t.Fatal(err)
		}
		s.write(file, string(text))
		s.Certificates, s.Level = "", "debug"
		s.Server, s.Listener = mta.Start(s.t, mta.Config{Proxy: mta.V2}).Addr(), fmt.Sprintf("client_auth: require, client_ca_file: %q", file)
		s.begin()
		s.shakes(s.tls())
	}},
	{"a browser", byClient(func(s *scene) { s.sends(submission, "GET / HTTP/1.1\r\nHost: x\r\n\r\n") })},
	{"a PROXY header from a stranger", byClient(func(s *scene) { s.sends(submission, "PROXY TCP4 198.51.100.70 192.0.2.1 4711 587\r\n") })},
	{"a load balancer without a PROXY header", func(s *scene) {
		s.Server, s.Listener = mta.Start(s.t, mta.Config{Proxy: mta.V2}).Addr(), "accept_proxy: [127.0.0.0/8]"
		s.begin()
		s.sends(submission, "EHLO x\r\n")
	}},
	{"a load balancer that waits", func(s *scene) {
		s.Server, s.Listener = mta.Start(s.t, mta.Config{Proxy: mta.V2}).Addr(), "accept_proxy: [127.0.0.0/8]"
		s.begin()
		s.sends(submission, "")
	}},
	{"no STARTTLS", byClient(func(s *scene) {
		conn := s.dial(s.t, submission, "")
		talk.With(s.t, conn).Play("<< 220\n> EHLO x\n<< 250\n> MAIL FROM:<a@example.org>\n<< 530\n> QUIT\n<< 221\n< END")
		s.session(conn.LocalAddr())
	})},
	{"commands behind STARTTLS", byClient(func(s *scene) {
		conn := s.dial(s.t, submission, "")
		client := talk.With(s.t, conn)
		client.Play("<< 220\n> EHLO x\n<< 250\n>> STARTTLS\\r\\nRSET\\r\\n\n")
		client.Drain()
		s.session(conn.LocalAddr())
	})},
	{"smuggling", byClient(func(s *scene) {
		s.comes(submissions, letter+"> DATA\n<< 354\n>> body\\n.\\r\\nMAIL FROM:<evil@example.org>\\r\\n\n<< 554")
	})},
	{"a message that stops coming", func(s *scene) {
		s.Server, s.Timeouts = mta.Start(s.t, mta.Config{Proxy: mta.V2}).Addr(), "body: 1s"
		s.begin()
		s.comes(submissions, letter+"> DATA\n<< 354\n> half\n<< 421")
	}},
}
