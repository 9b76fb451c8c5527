package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"html"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"smtpseal/admin"
	"smtpseal/test/faulty"
	"smtpseal/test/talk"
)

// A scene is a process to which something is done that an operator will have to
// understand. What is empty has a sensible value.
type scene struct {
	*process
	t    *testing.T
	dir  string
	file string

	Server       string // the backend's address
	Backend      string // "key: value, …" beside servers; default: preset postfix
	Listener     string // "key: value, …" of each listener
	Timeouts     string
	Limits       string
	Certificates string // a list; default: from the internal CA
	ACME         string
	Storage      string
	Level        string // of the log; default: info
}

// text is the configuration.
func (s *scene) text() string {
	or := func(value, otherwise string) string {
		if value == "" {
			return otherwise
		}
		return value
	}
	if !strings.Contains(s.Backend, "preset") && !strings.Contains(s.Backend, "proxy_protocol") {
		s.Backend = "preset: postfix" + more(s.Backend)
	}
	for _, key := range []string{"health: {interval: off}", "relay_check: off"} {
		if name, _, _ := strings.Cut(key, " "); !strings.Contains(s.Backend, name) {
			s.Backend += ", " + key
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "hostname: %s\nlisteners:\n", hostname)
	for _, l := range []struct{ name, mode string }{{submissions, "implicit"}, {submission, "starttls"}, {mx, "starttls-optional"}} {
		fmt.Fprintf(&b, "  - {name: %s, listen: %q, tls: %s, backend: mta%s}\n", l.name, s.addrs[l.name], l.mode, more(s.Listener))
	}
	fmt.Fprintf(&b, "backends: {mta: {servers: [%q], %s}}\n", or(s.Server, "127.0.0.1:1"), s.Backend)
	fmt.Fprintf(&b, "admin: {listen: %q}\n", s.admin)
	fmt.Fprintf(&b, "certificates: [%s]\n", or(s.Certificates, "{names: ["+hostname+"], internal: true}"))
	fmt.Fprintf(&b, "storage: {%s}\n", or(s.Storage, fmt.Sprintf("type: file, path: %q", filepath.Join(s.dir, "storage"))))
	if s.ACME != "" {
		fmt.Fprintf(&b, "acme: {%s}\n", s.ACME)
	}
	fmt.Fprintf(&b, "timeouts: {shutdown: 5s%s}\n", more(s.Timeouts))
	fmt.Fprintf(&b, "limits: {%s}\n", or(s.Limits, "max_sessions: 200"))
	fmt.Fprintf(&b, "log: {level: %s, format: json}\n", or(s.Level, "info"))
	return b.String()
}

// begin writes the configuration and starts the process.
func (s *scene) begin() {
	s.t.Helper()
	admin, addrs := s.place()
	s.process = serveFile(s.t, s.file)
	s.admin, s.addrs = admin, addrs
	if root := filepath.Join(s.dir, "storage", "internal", "root.crt"); s.Certificates == "" && s.Storage == "" {
		s.trust(root)
	}
}

// place chooses addresses and writes the configuration.
func (s *scene) place() (admin string, addrs map[string]string) {
	s.t.Helper()
	admin, addrs = freeAddr(s.t), map[string]string{}
	for _, name := range []string{submissions, submission, mx} {
		addrs[name] = freeAddr(s.t)
	}
	s.process = &process{addrs: addrs, admin: admin}
	s.file = filepath.Join(s.dir, "smtpseal.yaml")
	s.write(s.file, s.text())
	return admin, addrs
}

func (s *scene) write(file, text string) {
	s.t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// reloadWith writes another configuration, and asks for it. It is refused.
func (s *scene) reloadWith(change func(text string) string) {
	s.t.Helper()
	s.write(s.file, change(s.text()))
	code, body := s.request(s.t, http.MethodPost, "/reload", map[string]string{"Smtpseal-Request": "1"})
	if code != http.StatusConflict {
		s.t.Errorf("reload: %d %s", code, body)
	}
}

// pair writes a certificate into files that the configuration names.
func (s *scene) pair(change func(*x509.Certificate)) {
	s.t.Helper()
	leaf := faulty.NewAuthority(s.t).Leaf(s.t, func(c *x509.Certificate) {
		c.DNSNames = []string{hostname}
		change(c)
	})
	var chain strings.Builder
	for _, der := range leaf.Certificate {
		pem.Encode(&chain, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	key, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		s.t.Fatal(err)
	}
	s.write(filepath.Join(s.dir, "tls.crt"), chain.String())
	s.write(filepath.Join(s.dir, "tls.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	s.Certificates = fmt.Sprintf("{cert_file: %q, key_file: %q}", filepath.Join(s.dir, "tls.crt"), filepath.Join(s.dir, "tls.key"))
}

// comes is a client that says something once TLS is up, and goes when it has
// heard all, or when the other side has had enough.
func (s *scene) comes(listener string, script string) {
	s.t.Helper()
	c := s.seal(s.t, listener, "")
	c.Play(script)
	c.Drain()
	c.tls.Close()
	s.session(c.tcp.LocalAddr())
}

// sends is a client that sends octets as they are.
func (s *scene) sends(listener, octets string) {
	s.t.Helper()
	conn := s.dial(s.t, listener, "")
	client := talk.With(s.t, conn)
	client.Send(octets)
	client.Drain()
	conn.Close()
	s.session(conn.LocalAddr())
}

// shakes is a client whose handshake fails.
func (s *scene) shakes(config *tls.Config) {
	s.t.Helper()
	conn := s.dial(s.t, submissions, "")
	conn.SetDeadline(time.Now().Add(patience))
	sealed := tls.Client(conn, config)
	err := sealed.Handshake()
	if err == nil { // in TLS 1.3 the client is done before the server has refused
		_, err = sealed.Read(make([]byte, 1))
	}
	if err == nil {
		s.t.Error("the handshake went well")
	}
	conn.Close()
	s.session(conn.LocalAddr())
}

// What an operator can see of a scene, as texts.
type sight struct {
	name    string
	log     []entry // of level info and above
	debug   []entry
	page    string // without its tags, one blank between words
	status  string // all texts of /status
	advised bool   // /status says what to do
	metrics series
	zeros   []string // series that are 0
}

// moved reports whether a series with that name and these labels is not zero,
// or is, where the row says so: name{label="value"}, or name 0.
func (v *sight) moved(metric string) bool {
	if name, zero := strings.CutSuffix(metric, " 0"); zero {
		return slices.ContainsFunc(v.zeros, func(s string) bool { return strings.HasPrefix(s, name+"{") })
	}
	name, labels, _ := strings.Cut(strings.TrimSuffix(metric, "}"), "{")
	for s := range v.metrics {
		if strings.HasPrefix(s, name+"{") && strings.Contains(s, labels) {
			return true
		}
	}
	return false
}

var tags = regexp.MustCompile(`(?s)<style.*?</style>|<script.*?</script>|<[^>]*>`)

// look takes everything down.
func (s *scene) look(name string) sight {
	s.t.Helper()
	v := sight{name: name, metrics: s.scraped(s.t)}
	s.mu.Lock()
	for _, e := range s.lines {
		if e.text("level") == "debug" {
			v.debug = append(v.debug, e)
		} else {
			v.log = append(v.log, e)
		}
	}
	s.mu.Unlock()
	_, page := s.visit(s.t, "/")
	v.page = strings.Join(strings.Fields(html.UnescapeString(tags.ReplaceAllString(page, " "))), " ")
	_, text := s.visit(s.t, "/status")
	var status any
	if err := json.Unmarshal([]byte(text), &status); err != nil {
		s.t.Fatal(err)
	}
	v.advised = advised(s.statusNow(s.t))
	v.status = strings.Join(texts(status), "\n")
	_, metrics := s.visit(s.t, "/metrics")
	for line := range strings.Lines(metrics) {
		if name, zero := strings.CutSuffix(line, " 0\n"); zero {
			v.zeros = append(v.zeros, name)
		}
	}
	return v
}

// advised reports whether a status says what to do about anything.
func advised(status admin.Status) bool {
	said := status.Reloads.Last.Error
	for _, b := range status.Backends {
		said += b.Warning
		for _, server := range b.Servers {
			said += server.Hint
		}
	}
	for _, c := range status.Certificates {
		said += c.Hint
	}
	for _, f := range status.Failures {
		said += f.Hint
	}
	return said != ""
}

// texts are all strings of a JSON value.
func texts(value any) (all []string) {
	switch v := value.(type) {
	case string:
		return []string{strings.Join(strings.Fields(v), " ")}
	case []any:
		for _, item := range v {
			all = append(all, texts(item)...)
		}
	case map[string]any:
		for _, item := range v {
			all = append(all, texts(item)...)
		}
	}
	return all
}

// having returns the lines that have a text in one of their fields.
func having(lines []entry, text string) (found []entry) {
	for _, e := range lines {
		for _, part := range texts(map[string]any(e)) {
			if strings.Contains(part, text) {
				found = append(found, e)
				break
			}
		}
	}
	return found
}
