package probe_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ocsp"

	"smtpseal/probe"
	"smtpseal/test/faulty"
	"smtpseal/test/talk"
)

// Relay is polite, and never comes to DATA.
func TestRelaySaysWhatDecided(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		server   string
		accepted bool
		decisive string
		err      string
	}{
		"refused": {server: `> 220 mta
			< EHLO probe.example
			> 250 mta
			< MAIL FROM:<a@example.org>
			> 250 ok
			< RCPT TO:<b@example.net>
			> 554 5.7.1 relay access denied
			< RSET
			> 250 ok
			< QUIT
			> 221 bye`, decisive: "554 5.7.1 relay access denied"},
		"accepted": {server: `> 220 mta
			< EHLO probe.example
			> 250-mta
			> 250 PIPELINING
			< MAIL FROM:<a@example.org>
			> 250 ok
			< RCPT TO:<b@example.net>
			> 251 will forward
			< RSET
			> 250 ok
			< QUIT
			> 221 bye`, accepted: true, decisive: "251 will forward"},
		"sender refused": {server: `> 220 mta
			< EHLO probe.example
			> 250 mta
			< MAIL FROM:<a@example.org>
			> 530 5.7.0 log in
			< QUIT
			> 221 bye`, decisive: "530 5.7.0 log in"},
		"too busy": {server: "> 421 mta busy", err: `greeted with "421 mta busy"`},
		"no SMTP":  {server: "> SSH-2.0-x", err: "greeting: said"},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := tcpPair(t)
			played := make(chan struct{})
			go func() {
				defer close(played)
				talk.With(t, server).Play(c.server)
				server.Close()
			}()
			accepted, decisive, err := probe.Relay(t.Context(), client, "probe.example", "<a@example.org>", "b@example.net")
			client.Close()
			<-played
			if accepted != c.accepted || decisive != c.decisive || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%v, %q, %v", accepted, decisive, err)
			}
		})
	}
}

func tcpPair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if client, err = net.Dial("tcp", listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// Without a staple the CA is asked, but only one that is trusted.
func TestOCSPIsAskedWhereThereIsNoStaple(t *testing.T) {
	t.Parallel()
	const url = "http://ocsp.example.test/"
	for name, c := range map[string]struct {
		fault  faulty.Fault
		answer func(r *rig) []byte
		want   probe.Status
		says   string
		asked  int
	}{
		"good":           {answer: ocspSays(ocsp.Response{}), want: probe.OK, says: "the CA says so", asked: 1},
		"revoked":        {answer: ocspSays(ocsp.Response{Status: ocsp.Revoked}), want: probe.Fail, says: "revoked", asked: 1},
		"unknown":        {answer: ocspSays(ocsp.Response{Status: ocsp.Unknown}), want: probe.Warn, says: "does not know", asked: 1},
		"nonsense":       {answer: func(*rig) []byte { return []byte("<html>") }, want: probe.Note, says: "could not be asked", asked: 1},
		"endless":        {answer: func(*rig) []byte { return make([]byte, 1<<20) }, want: probe.Note, says: "more than 65536", asked: 1},
		"unknown issuer": {fault: faulty.UnknownIssuer, want: probe.Note, says: "not trusted"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := build(t, faulty.Config{Mode: "implicit", OCSP: url, Fault: c.fault})
			var asked []string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				asked = append(asked, q.Method+" "+q.URL.Path)
				w.Write(c.answer(r))
			}))
			r.where["ocsp.example.test:80"] = server.Listener.Addr().String()
			e, _, _ := r.run(t)
			server.Close()
			if got := find(t, e, "ocsp"); got.Status != c.want || !strings.Contains(got.Detail, c.says) {
				t.Errorf("%+v", got)
			}
			if len(asked) != c.asked || c.asked > 0 && !slices.Contains(asked, "POST /") {
				t.Errorf("asked %q", asked)
			}
		})
	}
}

func ocspSays(answer ocsp.Response) func(*rig) []byte {
	return func(r *rig) []byte {
		der, err := r.server.Authority.Sign(r.server.Certificate(), answer)
		if err != nil {
			panic(err)
		}
		return der
	}
}
