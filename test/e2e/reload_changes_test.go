package e2e

import (
	"crypto/tls"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// A change is one edit of the configuration: paths and what is there now, nil
// for nothing.
type change struct {
	set    []any
	newTLS bool   // tickets of before are of no use
	hup    bool   // by the signal: there is no admin listener to ask, before or behind it
	look   func() // whether it is in effect, beside what the status says
}

func to(set ...any) change { return change{set: set} }

// changes are one behind the other, from base on, such that in the end each key
// that has two values has had two.
func (r *storm) changes(t *testing.T) []change {
	return slices.Concat(r.simple(), r.backends(t), r.doors(t), r.certificates(t), r.acme(), r.storages(t), r.tlsPolicies(t), r.administration(t), r.logs())
}

func (r *storm) simple() []change {
	return []change{
		to("hostname", "mx.example.test"),
		to("limits.max_sessions", 3000, "limits.max_handshakes", 16),
		to("limits.max_sessions_per_client", 2500),
		to("timeouts.cleartext", "40s", "timeouts.handshake", "15s", "timeouts.dial", "9s"),
		to("timeouts.greeting", "31s", "timeouts.command", "4m", "timeouts.body", "2m"),
		to("timeouts.reply", "5m", "timeouts.session", "12h", "timeouts.shutdown", "20s"),
	}
}

func (r *storm) backends(t *testing.T) []change {
	v2, second, v1, plain := r.servers[0].Addr(), r.servers[1].Addr(), r.servers[2].Addr(), r.servers[3].Addr()
	hidden := to("backends.mta.hide_extensions", list{"CHUNKING"})
	hidden.look = func() {
		c := r.open(t, submissions, "")
		if keywords := strings.Join(c.greet(), " "); strings.Contains(keywords, "CHUNKING") || !strings.Contains(keywords, "PIPELINING") {
			t.Errorf("with CHUNKING hidden a client hears %q", keywords)
		}
		c.quit()
	}
	return []change{
		to("backends.mta.servers", list{second, v2}),
		to("backends.mta.servers", list{v2}, "backends.mta.preset", "exim"),
		to("backends.mta.proxy_tlvs", list{"ssl", "cn"}),
		hidden,
		to("backends.mta.proxy_tlvs", nil, "backends.mta.proxy_protocol", "v1", "backends.mta.servers", list{v1}),
		to("backends.mta.proxy_protocol", "off", "backends.mta.servers", list{plain}),
		to("backends.mta.proxy_protocol", nil, "backends.mta.preset", "haraka", "backends.mta.servers", list{v1}),
		to("backends.mta.preset", "postfix", "backends.mta.servers", list{v2}, "backends.mta.hide_extensions", nil),
		to("backends.mta.health", tree{"interval": "100ms"}),
		to("backends.mta.health", tree{"interval": "200ms", "timeout": "2s", "fall": 2, "rise": 1}),
		to("backends.mta.relay_check", "warn"),
		to("backends.mta.relay_check", "off", "backends.mta.health", tree{"interval": "off"}),
		to("listeners.0.backend", "other"),
		to("listeners.1.backend", "other", "backends.mta", nil),
		to("backends.mta", tree{"preset": "postfix", "servers": list{v2}, "health": tree{"interval": "off"}, "relay_check": "off"}),
		to("listeners.0.backend", "mta", "listeners.1.backend", "mta"),
	}
}

// doors are a third listener's: it comes, is of every mode, moves, and goes.
func (r *storm) doors(t *testing.T) []change {
	here, there, path := freeAddr(t), freeAddr(t), r.dir+"/extra.sock"
	cert, key := r.root.pair(t, "client.example.test")
	mine, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	base := []any{r.base["listeners"].(list)[0], r.base["listeners"].(list)[1]}
	extra := func(more tree) []any {
		l := tree{"name": "extra", "listen": here, "tls": "implicit", "backend": "mta"}
		for key, value := range more {
			l[key] = value
		}
		return []any{"listeners", append(slices.Clone(base), l)}
	}
	one := func(look func() error, set ...any) change {
		return change{set: set, look: func() {
			t.Helper()
			if err := look(); err != nil {
				t.Errorf("behind %v: %v", set, err)
			}
		}}
	}
	implicit := func(addr string) func() error {
		return func() error { return r.knock("tcp", addr, false, "", nil) }
	}
	startTLS := func() error { return r.knock("tcp", here, true, "", nil) }
	anonymous := func() error {
		if r.knock("tcp", here, false, "", nil) == nil {
			t.Error("a client without a certificate is served")
		}
		return r.knock("tcp", here, false, "", &mine)
	}
	closed := func(addr string) func() error {
		return func() error {
			if conn, err := net.Dial("tcp", addr); err == nil {
				conn.Close()
				t.Errorf("%s is still open", addr)
			}
			return nil
		}
	}
	const header = "PROXY TCP4 192.0.2.7 198.51.100.1 5000 465\r\n"
	return []change{
		one(implicit(here), extra(nil)...),
		one(startTLS, extra(tree{"tls": "starttls"})...),
		one(startTLS, extra(tree{"tls": "starttls-optional"})...),
		one(implicit(there), extra(tree{"listen": list{here, there}})...),
		one(closed(here), extra(tree{"listen": there, "name": "elsewhere"})...),
		one(func() error { return r.knock("unix", path, false, header, nil) }, extra(tree{"listen": list{here, "unix:" + path}, "accept_proxy": list{"unix"}})...),
		one(func() error { return r.knock("tcp", here, false, header, nil) }, extra(tree{"accept_proxy": list{"127.0.0.0/8"}})...),
		one(implicit(here), extra(tree{"tls_policy": "modern", "backend": "other"})...),
		one(anonymous, extra(tree{"client_auth": "require", "client_ca_file": r.root.file()})...),
		one(implicit(here), extra(tree{"client_auth": "request", "client_ca_file": r.root.file()})...),
		// The address goes to the admin listener, and comes back.
		one(func() error { _, err := clientOf(here).Status(t.Context()); return err }, "listeners", base, "admin.listen", list{r.admin, here}),
		one(implicit(here), append(extra(nil), "admin.listen", r.admin)...),
		one(closed(here), "listeners", base),
	}
}

func (r *storm) certificates(t *testing.T) []change {
	first := r.base["certificates"].(list)[0]
	cert, key := r.root.pair(t, hostname, "second.example.test")
	serves := func(name string, issuer string) func() {
		return func() {
			t.Helper()
			leaf, err := r.leaf(submissions, name)
			if err != nil || !strings.Contains(leaf.Issuer.CommonName, issuer) {
				t.Errorf("for %s: %v by %q, want by %q", name, err, leaf.Issuer, issuer)
			}
		}
	}
	return []change{
		{set: []any{"certificates.1.names", list{"internal.example.test", "another.example.test"}}, look: serves("another.example.test", "smtpseal")},
		to("certificates.1.names", list{"internal.example.test"}),
		{set: []any{"certificates.0", tree{"names": list{hostname}, "internal": true}}, look: serves(hostname, "smtpseal")},
		{set: []any{"certificates.0", tree{"cert_file": cert, "key_file": key}}, look: serves("second.example.test", "root of a test")},
		{set: []any{"certificates.0", first}, look: serves(hostname, "root of a test")},
		to("certificates.2.key_types", list{"p256", "rsa2048"}),
		to("certificates.2.key_types", nil),
	}
}

func (r *storm) acme() []change {
	return []change{
		to("acme.email", "someone.else@example.org"),
		to("acme.directory", r.ca2.DirectoryURL(), "acme.trusted_roots", r.ca2.RootsFile()),
		to("acme.directory", r.ca.DirectoryURL(), "acme.trusted_roots", r.ca.RootsFile()),
		to("acme.profile", "default"),
		to("acme.eab", tree{"key_id": "some", "hmac_key": "c29tZXRoaW5nIHNlY3JldCBvZiAzMiBvY3RldHMhIQ"}),
		to("acme.eab", nil),
		to("acme.challenges", list{"tls-alpn-01"}),
		to("acme.tls_alpn_listen", freeAddr(r.t)),
		to("acme.challenges", list{"http-01", "tls-alpn-01"}, "acme.http_listen", freeAddr(r.t)),
		to("acme.challenges", list{"dns-01"}, "acme.http_listen", nil, "acme.tls_alpn_listen", nil, "acme.dns", tree{"provider": "exec", "command": "/bin/true"}),
		to("acme.dns.resolvers", list{"127.0.0.1:5353"}, "acme.dns.ttl", "120s"),
		to("acme.dns.propagation_timeout", "1m", "acme.dns.propagation_delay", "1s"),
		to("acme.dns", nil, "acme.challenges", list{"http-01"}, "acme.http_listen", r.ca.HTTPAddr()),
		to("acme.fallback", list{tree{"directory": r.ca2.DirectoryURL(), "trusted_roots": r.ca2.RootsFile()}}),
		to("acme.fallback", nil, "acme.alert_days", 20),
		to("acme.reuse_keys", false),
		to("acme.on_event", "/bin/true"),
		to("acme.on_event", nil),
	}
}

func (r *storm) storages(t *testing.T) []change {
	key := strings.Repeat("0123456789abcdef", 4)
	copied := to("storage.path", r.dir+"/copy")
	copied.look = func() {
		if _, err := r.leaf(submissions, "internal.example.test"); err != nil {
			t.Errorf("on the storage's copy: %v", err)
		}
	}
	shared := to("tls.session_tickets", "shared")
	shared.newTLS = true
	own := to("tls.session_tickets", "per_process")
	own.newTLS = true
	return []change{
		copied,
		to("storage", tree{"type": "redis", "url": r.redis.URL()}),
		to("storage.prefix", "another"),
		to("storage", tree{"type": "redis", "url": strings.TrimSuffix(r.redis.URL(), "/0") + "/1", "encryption_key": key}),
		shared, own,
		to("storage", r.base["storage"]),
	}
}

func (r *storm) tlsPolicies(t *testing.T) []change {
	var all []change
	for _, set := range [][]any{
		{"tls.policy", "modern"}, {"tls.policy", "legacy"}, {"tls.policy", nil}, {"tls.min_version", "1.3"},
		{"tls.min_version", "1.2", "tls.cipher_suites", list{"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"}},
		{"tls.min_version", nil, "tls.cipher_suites", nil, "tls.curves", list{"P-256"}},
		{"tls.curves", nil, "tls.session_tickets", "off"}, {"tls.session_tickets", nil},
		{"listeners.0.tls_policy", "modern"}, {"listeners.0.tls_policy", nil},
	} {
		all = append(all, change{set: set, newTLS: true})
	}
	all[3].look = func() {
		config := r.tls()
		config.MaxVersion = tls.VersionTLS12
		if conn, err := r.shake(submissions, config); err == nil {
			conn.Close()
			t.Error("TLS 1.2 is spoken where 1.3 was demanded")
		}
	}
	return all
}

func (r *storm) administration(t *testing.T) []change {
	first, second, path := r.admin, freeAddr(t), r.dir+"/admin.sock"
	get := func(url, host string) int {
		t.Helper()
		request, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host, request.Close = host, true
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			return 0
		}
		answer.Body.Close()
		return answer.StatusCode
	}
	expect := func(url, host string, want int) func() {
		return func() {
			t.Helper()
			if got := get(url, host); got != want {
				t.Errorf("%s as %q: %d, want %d", url, host, got, want)
			}
		}
	}
	return []change{
		{set: []any{"admin.hosts", list{"status.example.org"}}, look: expect("http://"+first+"/status", "status.example.org", 200)},
		{set: []any{"admin.hosts", nil}, look: expect("http://"+first+"/status", "status.example.org", 403)},
		{set: []any{"admin.pprof", true}, look: expect("http://"+first+"/debug/pprof/cmdline", "", 200)},
		{set: []any{"admin.pprof", nil}, look: expect("http://"+first+"/debug/pprof/cmdline", "", 404)},
		to("admin.listen", second), // asked for through the first
		to("admin.listen", list{"unix:" + path, first}),
		{set: []any{"admin.listen", "off"}, hup: true},
		{set: []any{"admin.listen", first}, hup: true},
	}
}

func (r *storm) logs() []change {
	return []change{
		to("log.level", "error"), to("log.format", "console", "log.level", "debug"),
		to("log.format", "json"), to("log.level", "info"),
	}
}
