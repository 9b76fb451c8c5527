package certs

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/crypto/ocsp"
)

// A talker is a CA's OCSP responder.
type talker struct {
	*pki
	server *httptest.Server
	asked  atomic.Int32
	answer func(w http.ResponseWriter, serial *big.Int)

	signer    *x509.Certificate // nil: the CA itself
	signerKey crypto.Signer
}

func newTalker(t *testing.T) *talker {
	t.Helper()
	o := &talker{pki: newPKI(t)}
	o.answer = o.says(ocsp.Response{Status: ocsp.Good})
	o.server = httptest.NewServer(o)
	t.Cleanup(o.server.Close)
	return o
}

func (o *talker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.asked.Add(1)
	body, _ := io.ReadAll(r.Body)
	question, err := ocsp.ParseRequest(body)
	if err != nil || r.Header.Get("Content-Type") != "application/ocsp-request" {
		http.Error(w, "not a question", http.StatusBadRequest)
		return
	}
	o.answer(w, question.SerialNumber)
}

// says answers as the template has it; what it leaves out is of an answer that
// was made an hour ago and holds for a day.
func (o *talker) says(template ocsp.Response) func(http.ResponseWriter, *big.Int) {
	return func(w http.ResponseWriter, serial *big.Int) {
		_, _ = w.Write(o.sign(template, serial))
	}
}

func (o *talker) sign(template ocsp.Response, serial *big.Int) []byte {
	if template.SerialNumber == nil {
		template.SerialNumber = serial
	}
	if template.ThisUpdate.IsZero() {
		template.ThisUpdate, template.NextUpdate = time.Now().Add(-time.Hour), time.Now().Add(23*time.Hour)
	}
	signer, key := o.cert, o.key
	if o.signer != nil {
		signer, key, template.Certificate = o.signer, o.signerKey, o.signer
	}
	der, err := ocsp.CreateResponse(o.cert, signer, template, key)
	if err != nil {
		panic(err)
	}
	return der
}

// leaf makes a certificate that names the responder, chain and all.
func (o *talker) leaf(life time.Duration, usages ...x509.ExtKeyUsage) *tls.Certificate {
	o.t.Helper()
	key := newKey(o.t, false)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serials.Add(1)), Subject: pkix.Name{CommonName: "mail.example.org"}, DNSNames: []string{"mail.example.org"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life - time.Hour),
		ExtKeyUsage: append(usages, x509.ExtKeyUsageServerAuth), OCSPServer: []string{"ldap://example.org/", o.server.URL},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, o.cert, key.Public(), o.key)
	must(o.t, err)
	parsed, err := x509.ParseCertificate(der)
	must(o.t, err)
	return &tls.Certificate{Certificate: [][]byte{der, o.cert.Raw}, PrivateKey: key, Leaf: parsed}
}

func aStapler(storage certmagic.Storage) (*stapler, *observer.ObservedLogs) {
	core, logs := observer.New(zap.DebugLevel)
	return newStapler(storage, zap.New(core)), logs
}

func TestStapleIsFetchedOnceAndKept(t *testing.T) {
	o, storage := newTalker(t), disk(t.TempDir())
	leaf := o.leaf(90 * day)
	s, _ := aStapler(storage)
	for range 2 { // the second time as after a restart
		got, next, revoked, err := s.staple(t.Context(), leaf)
		if err != nil || revoked || got == leaf || leaf.OCSPStaple != nil || len(got.OCSPStaple) == 0 {
			t.Fatalf("%v, revoked %v, staple %d octets", err, revoked, len(got.OCSPStaple))
		}
		if in := time.Until(next); in < 10*time.Hour || in > 12*time.Hour {
			t.Errorf("next in %v, want half of a day less the hour that is over", in)
		}
		if again, _, _, err := s.staple(t.Context(), got); err != nil || again != got {
			t.Errorf("changed although nothing is new: %v", err)
		}
	}
	if n := o.asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// OpenSSL asks for a staple, verifies it, and takes it for good.
func TestStapleIsAcceptedByOpenSSL(t *testing.T) {
	o := newTalker(t)
	s, _ := aStapler(nil)
	got, _, _, err := s.staple(t.Context(), o.leaf(90*day))
	must(t, err)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*got}})
	must(t, err)
	defer listener.Close()
	go shakeHands(listener)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, ca, o.pem)
	out, err := sclient(t, listener.Addr().String(), "-status", "-CAfile", ca)
	if err != nil || !strings.Contains(out, "Cert Status: good") || !strings.Contains(out, "OCSP Response Status: successful") {
		t.Errorf("%v\n%s", err, out)
	}
}

// shakeHands ends with its listener.
func shakeHands(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		_ = conn.(*tls.Conn).Handshake()
		conn.Close()
	}
}

func TestNothingToStaple(t *testing.T) {
	o := newTalker(t)
	plain := o.certificate(spec{names: []string{"mail.example.org"}})
	short, expired := o.leaf(6*day), o.leaf(90*day)
	copied := *expired.Leaf
	copied.NotAfter = time.Now().Add(-time.Minute)
	expired.Leaf = &copied
	for name, cert := range map[string]*tls.Certificate{"no responder": plain, "short-lived": short, "expired": expired, "empty": {}} {
		s, _ := aStapler(failing{})
		got, next, revoked, err := s.staple(t.Context(), cert)
		if got != cert || !next.IsZero() || revoked || err != nil {
			t.Errorf("%s: next %v, revoked %v, %v", name, next, revoked, err)
		}
	}
	if o.asked.Load() != 0 {
		t.Error("asked")
	}
}

// failing is a storage that is away.
type failing struct{ certmagic.Storage }

func (failing) Load(context.Context, string) ([]byte, error) { return nil, errors.New("away") }
func (failing) Store(context.Context, string, []byte) error  { return errors.New("away") }

func TestStapleNeedsNoStorage(t *testing.T) {
	o := newTalker(t)
	s, _ := aStapler(failing{})
	if got, _, _, err := s.staple(t.Context(), o.leaf(90*day)); err != nil || len(got.OCSPStaple) == 0 {
		t.Errorf("%v", err)
	}
}

// In certmagic a responder that accepts and says nothing blocks the loading of
// the certificate without end.
func TestTrapOCSPFetchingHasNoTimeOut(t *testing.T) {
	for name, answer := range map[string]string{
		"silent":      "",
		"header only": "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			must(t, err)
			held := make(chan net.Conn, 8)
			go hold(listener, held, answer)
			defer func() {
				listener.Close()
				for conn := range held {
					conn.Close()
				}
			}()
			o := newTalker(t)
			leaf := o.leaf(90 * day)
			copied := *leaf.Leaf
			copied.OCSPServer = []string{"http://" + listener.Addr().String()}
			leaf.Leaf = &copied
			s, _ := aStapler(nil)
			s.client.Timeout = 0 // staple's own bound has to do
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			start := time.Now()
			got, next, _, err := s.staple(ctx, leaf)
			if took := time.Since(start); err == nil || took > 5*time.Second {
				t.Errorf("%v after %v", err, took)
			}
			if got != leaf || time.Until(next) > stapleRetry || time.Until(next) < stapleRetry/2 {
				t.Errorf("next in %v", time.Until(next))
			}
		})
	}
}

// hold accepts, writes and never closes.
func hold(listener net.Listener, held chan<- net.Conn, answer string) {
	defer close(held)
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		_, _ = conn.Read(make([]byte, 1024))
		_, _ = io.WriteString(conn, answer)
		held <- conn
	}
}

// The bound is staple's own, whatever the caller's context.
func TestStapleIsBoundedByItself(t *testing.T) {
	s, _ := aStapler(nil)
	var bound time.Duration
	s.client.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
		end, _ := r.Context().Deadline()
		bound = time.Until(end)
		return nil, errors.New("enough")
	})
	_, _, _, err := s.staple(t.Context(), newTalker(t).leaf(90*day))
	if err == nil || bound <= 0 || bound > stapleTime {
		t.Errorf("%v, bound %v", err, bound)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Whatever a responder says that is not a valid answer: no staple, and later
// again.
func TestStapleRefuses(t *testing.T) {
	o := newTalker(t)
	now := time.Now()
	for _, c := range []struct {
		name   string
		answer func(http.ResponseWriter, *big.Int)
		says   string
	}{
		{"5xx", func(w http.ResponseWriter, _ *big.Int) { w.WriteHeader(503) }, "503"},
		{"garbage", func(w http.ResponseWriter, _ *big.Int) { _, _ = io.WriteString(w, "<html>hello") }, "asn1"},
		{"nothing", func(http.ResponseWriter, *big.Int) {}, "asn1"},
		{"try later", func(w http.ResponseWriter, _ *big.Int) { _, _ = w.Write(ocsp.TryLaterErrorResponse) }, "try later"},
		{"flood", func(w http.ResponseWriter, _ *big.Int) { _, _ = w.Write(make([]byte, 1<<20)) }, "more than"},
		{"wrong serial", o.says(ocsp.Response{Status: ocsp.Good, SerialNumber: big.NewInt(4711)}), "no response matching"},
		{"unknown", o.says(ocsp.Response{Status: ocsp.Unknown}), "does not know"},
		{"expired", o.says(ocsp.Response{Status: ocsp.Good, ThisUpdate: now.Add(-2 * day), NextUpdate: now.Add(-day)}), "expired"},
		{"from the future", o.says(ocsp.Response{Status: ocsp.Good, ThisUpdate: now.Add(day), NextUpdate: now.Add(2 * day)}), "from"},
		{"without an end", o.says(ocsp.Response{Status: ocsp.Good, ThisUpdate: now.Add(-day)}), "no end"},
		{"another CA's", newTalker(t).says(ocsp.Response{Status: ocsp.Good}), "signature"},
		{"a bit flipped", func(w http.ResponseWriter, serial *big.Int) {
			der := o.sign(ocsp.Response{Status: ocsp.Good}, serial)
			der[len(der)-1] ^= 1
			_, _ = w.Write(der)
		}, "signature"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o.answer = c.answer
			storage := disk(t.TempDir())
			s, _ := aStapler(storage)
			leaf := o.leaf(90 * day)
			got, next, revoked, err := s.staple(t.Context(), leaf)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("said %v, want %q", err, c.says)
			}
			if got.OCSPStaple != nil || revoked || time.Until(next) <= 0 || time.Until(next) > stapleRetry {
				t.Errorf("staple %d, revoked %v, next in %v", len(got.OCSPStaple), revoked, time.Until(next))
			}
			if kept, err := storage.List(t.Context(), "ocsp", true); err == nil && len(kept) > 0 {
				t.Errorf("kept %v", kept)
			}
		})
	}
}

// The responder's own certificate has to be for that: else the holder of any
// certificate of the CA could say that it is good.
func TestStapleOfADelegatedResponder(t *testing.T) {
	for usage, good := range map[x509.ExtKeyUsage]bool{x509.ExtKeyUsageOCSPSigning: true, x509.ExtKeyUsageClientAuth: false} {
		o := newTalker(t)
		signer := o.leaf(12*time.Hour, usage)
		o.signer, o.signerKey = signer.Leaf, signer.PrivateKey.(crypto.Signer)
		s, _ := aStapler(nil)
		got, next, _, err := s.staple(t.Context(), o.leaf(90*day))
		if (err == nil) != good || (got.OCSPStaple != nil) != good {
			t.Errorf("usage %v: %v", usage, err)
		}
		if good && time.Until(next) > 6*time.Hour {
			t.Errorf("next in %v, after the responder's certificate is half over", time.Until(next))
		}
	}
}

func TestStapleIsKeptWhileTheResponderFails(t *testing.T) {
	o, storage := newTalker(t), disk(t.TempDir())
	leaf := o.leaf(90 * day)
	now := time.Now()
	// Past its half, so that a newer one is wanted at once.
	o.answer = o.says(ocsp.Response{Status: ocsp.Good, ThisUpdate: now.Add(-3 * time.Hour), NextUpdate: now.Add(time.Hour)})
	s, _ := aStapler(storage)
	first, next, _, err := s.staple(t.Context(), leaf)
	if in := time.Until(next); err != nil || first.OCSPStaple == nil || in < 20*time.Minute || in > 30*time.Minute {
		t.Fatalf("%v, next in %v", err, in)
	}
	o.answer = func(w http.ResponseWriter, _ *big.Int) { w.WriteHeader(500) }
	for name, cert := range map[string]*tls.Certificate{"carried": first, "after a restart": leaf} {
		got, next, revoked, err := s.staple(t.Context(), cert)
		if err == nil || revoked || string(got.OCSPStaple) != string(first.OCSPStaple) || time.Until(next) > 30*time.Minute {
			t.Errorf("%s: %v, staple %d octets, next in %v", name, err, len(got.OCSPStaple), time.Until(next))
		}
	}
	o.answer = o.says(ocsp.Response{Status: ocsp.Good})
	if got, _, _, err := s.staple(t.Context(), first); err != nil || string(got.OCSPStaple) == string(first.OCSPStaple) {
		t.Errorf("not refreshed: %v", err)
	}
}

// A staple that has expired is worse than none: clients refuse it.
func TestStapleThatHasExpiredIsTakenOff(t *testing.T) {
	o := newTalker(t)
	leaf := o.leaf(90 * day)
	now := time.Now()
	leaf.OCSPStaple = o.sign(ocsp.Response{Status: ocsp.Good, ThisUpdate: now.Add(-2 * day), NextUpdate: now.Add(-time.Second)}, leaf.Leaf.SerialNumber)
	o.answer = func(w http.ResponseWriter, _ *big.Int) { w.WriteHeader(500) }
	s, _ := aStapler(nil)
	if got, _, _, err := s.staple(t.Context(), leaf); err == nil || got.OCSPStaple != nil || leaf.OCSPStaple == nil {
		t.Errorf("%v, staple %d octets", err, len(got.OCSPStaple))
	}
}

// What others write into the storage is checked as the wire is.
func TestStapleInTheStorageIsChecked(t *testing.T) {
	o, storage := newTalker(t), disk(t.TempDir())
	leaf := o.leaf(90 * day)
	foreign := newTalker(t)
	for _, planted := range [][]byte{[]byte("garbage"), foreign.sign(ocsp.Response{Status: ocsp.Good}, leaf.Leaf.SerialNumber)} {
		must(t, storage.Store(t.Context(), proof{leaf: leaf.Leaf}.file(), planted))
		s, _ := aStapler(storage)
		got, _, _, err := s.staple(t.Context(), leaf)
		if err != nil || string(got.OCSPStaple) == string(planted) || len(got.OCSPStaple) == 0 {
			t.Errorf("%v", err)
		}
	}
	if n := o.asked.Load(); n != 2 {
		t.Errorf("asked %d times", n)
	}
}

func TestRevokedIsSaidAndNeverStapled(t *testing.T) {
	o, storage := newTalker(t), disk(t.TempDir())
	leaf := o.leaf(90 * day)
	now := time.Now()
	leaf.OCSPStaple = o.sign(ocsp.Response{Status: ocsp.Good, ThisUpdate: now.Add(-10 * time.Hour), NextUpdate: now.Add(time.Hour)}, leaf.Leaf.SerialNumber)
	o.answer = o.says(ocsp.Response{Status: ocsp.Revoked, RevokedAt: now.Add(-time.Hour), RevocationReason: ocsp.KeyCompromise})
	s, logs := aStapler(storage)
	got, next, revoked, err := s.staple(t.Context(), leaf)
	if err != nil || !revoked || got.OCSPStaple != nil || time.Until(next) <= 0 {
		t.Errorf("%v, revoked %v, staple %d octets, next %v", err, revoked, len(got.OCSPStaple), next)
	}
	if said := logs.FilterMessageSnippet("revoked").FilterLevelExact(zap.ErrorLevel); said.Len() != 1 {
		t.Errorf("said %v", logs.All())
	}
	// After a restart, with the responder away, it is still known.
	o.answer = func(w http.ResponseWriter, _ *big.Int) { w.WriteHeader(500) }
	s, _ = aStapler(storage)
	if got, _, revoked, _ := s.staple(t.Context(), got); !revoked || got.OCSPStaple != nil {
		t.Error("forgotten")
	}
}

// OpenSSL is the responder here: ours is not the only reading of the format.
func TestStapleFromOpenSSLsResponder(t *testing.T) {
	o := newTalker(t)
	leaf := o.leaf(90 * day)
	dir := t.TempDir()
	keyDER, err := x509.MarshalPKCS8PrivateKey(o.key)
	must(t, err)
	writeFile(t, dir+"/ca.pem", o.pem)
	writeFile(t, dir+"/ca.key", encode("PRIVATE KEY", keyDER))
	serial := strings.ToUpper(leaf.Leaf.SerialNumber.Text(16))
	if len(serial)%2 == 1 {
		serial = "0" + serial
	}
	writeFile(t, dir+"/index.txt", []byte("V\t"+leaf.Leaf.NotAfter.UTC().Format("060102150405Z")+"\t\t"+serial+"\tunknown\t/CN=mail.example.org\n"))
	o.answer = func(w http.ResponseWriter, serial *big.Int) {
		question, err := ocsp.CreateRequest(leaf.Leaf, o.cert, nil)
		if err != nil || os.WriteFile(dir+"/question", question, 0o600) != nil {
			w.WriteHeader(500)
			return
		}
		out, err := exec.Command("openssl", "ocsp", "-index", dir+"/index.txt", "-CA", dir+"/ca.pem", "-rsigner", dir+"/ca.pem", "-rkey", dir+"/ca.key",
			"-reqin", dir+"/question", "-respout", dir+"/answer", "-ndays", "2", "-resp_no_certs").CombinedOutput()
		answer, readErr := os.ReadFile(dir + "/answer")
		if err != nil || readErr != nil {
			http.Error(w, string(out), http.StatusInternalServerError)
			t.Logf("openssl: %v %s", err, out)
			return
		}
		_, _ = w.Write(answer)
	}
	s, _ := aStapler(nil)
	got, _, revoked, err := s.staple(t.Context(), leaf)
	if err != nil || revoked || len(got.OCSPStaple) == 0 {
		t.Errorf("%v", err)
	}
}

func TestStapleOfAChainThatIsWrong(t *testing.T) {
	o := newTalker(t)
	alone, swapped := o.leaf(90*day), o.leaf(90*day)
	alone.Certificate = alone.Certificate[:1]
	swapped.Certificate[1] = newPKI(t).cert.Raw
	for want, cert := range map[string]*tls.Certificate{"leaf alone": alone, "in order": swapped} {
		s, _ := aStapler(nil)
		got, next, _, err := s.staple(t.Context(), cert)
		if err == nil || !strings.Contains(err.Error(), want) || got != cert || next.IsZero() {
			t.Errorf("%q: %v", want, err)
		}
	}
	if o.asked.Load() != 0 {
		t.Error("asked")
	}
}
