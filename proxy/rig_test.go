package proxy

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"
	"go.uber.org/zap"
	"smtpseal/proxy/backend"
)

// A rig is a proxy between a client and a backend that the test plays.
type rig struct {
	t         testing.TB
	config    rigConfig
	server    *Server
	addr      string
	backends  chan net.Conn // connections that the proxy made
	records   chan Record
	clientTLS *tls.Config
}

type rigConfig struct {
	mode     Mode
	version  backend.Version
	hide     []string
	noCert   bool
	trust    bool   // accept_proxy has 127.0.0.0/8
	claimed  string // the client that an inbound header names
	down     bool   // the backend refuses connections
	limits   Limits
	timeouts Timeouts
	log      *zap.Logger
	auth     bool // client certificates are verified if given
	cn       string
}

// set takes one line of settings of a dialogue; false: it is none.
func (c *rigConfig) set(line string) bool {
	name, value, _ := strings.Cut(line, " ")
	switch name {
	case "mode":
		c.mode = map[string]Mode{"implicit": Implicit, "starttls": StartTLS, "optional": Opportunistic}[value]
	case "proxy":
		c.version = map[string]backend.Version{"off": backend.Off, "v1": backend.V1, "v2": backend.V2}[value]
	case "hide":
		c.hide = strings.Fields(value)
	case "certificate":
		c.noCert = value == "none"
	case "whole":
	case "trust":
		c.trust, c.claimed = true, value
	case "backend":
		c.down = value == "down"
	case "client":
		c.auth, c.cn = true, value
	default:
		return line == "" || line[0] == '#'
	}
	return true
}

var rigTimeouts = Timeouts{Cleartext: 30 * time.Second, Handshake: 10 * time.Second, Dial: 10 * time.Second, Greeting: 30 * time.Second,
	Command: 5 * time.Minute, Body: 3 * time.Minute, Reply: 10 * time.Minute, Session: 24 * time.Hour}

func newRig(t testing.TB, cfg rigConfig) *rig {
	t.Helper()
	r := &rig{t: t, config: cfg, backends: make(chan net.Conn, 64), records: make(chan Record, 4096)}
	pair := testPair()
	r.clientTLS = &tls.Config{RootCAs: pair.pool, ServerName: "mail.example.org"}
	if cfg.cn != "" {
		r.clientTLS.Certificates = []tls.Certificate{pair.issue(cfg.cn)}
	}
	mta := r.listen()
	target := &backend.Backend{Name: "mta", Servers: []backend.Server{{Network: "tcp", Addr: mta.Addr().String()}},
		Proxy: cfg.version, TLVs: backend.TLVSSL | backend.TLVAuthority | backend.TLVUniqueID, Hide: cfg.hide}
	if cfg.down {
		mta.Close()
	} else {
		go func() {
			for {
				c, err := mta.Accept()
				if err != nil {
					return
				}
				r.backends <- c
			}
		}()
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair.cert}, NextProtos: []string{"smtp"}}
	if cfg.auth {
		config.ClientAuth, config.ClientCAs = tls.VerifyClientCertIfGiven, pair.pool
	}
	if cfg.timeouts == (Timeouts{}) {
		cfg.timeouts = rigTimeouts
	}
	r.server = &Server{Observer: r, Log: cfg.log}
	front := r.listen()
	r.addr = front.Addr().String()
	l := Listener{Name: "test", Mode: cfg.mode, Net: front, Backend: target, TLS: func() *tls.Config {
		if cfg.noCert {
			return nil
		}
		return config
	}}
	if cfg.trust {
		l.AcceptProxy = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	}
	if err := r.server.Apply(Settings{Hostname: "mail.example.org", Limits: cfg.limits, Timeouts: cfg.timeouts, Listeners: []Listener{l}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		mta.Close()
		for len(r.backends) > 0 {
			(<-r.backends).Close()
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		r.server.Shutdown(ctx)
	})
	return r
}

func (r *rig) listen() net.Listener {
	r.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	return l
}

func (r *rig) dial() net.Conn {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c
}

// SessionEnded makes a rig its server's Observer.
func (r *rig) SessionEnded(rec *Record) {
	select {
	case r.records <- *rec:
	default:
	}
}

// sslFacts sums up what a header says of TLS.
func sslFacts(h *proxyproto.Header) string {
	tlvs, err := h.TLVs()
	if err != nil {
		return err.Error()
	}
	ssl, ok := tlvparse.FindSSL(tlvs)
	if !ok {
		return "clear"
	}
	if cn, ok := ssl.ClientCN(); ok && ssl.Verified() {
		return "tls cn=" + cn
	}
	return "tls"
}

// An identity is a CA and a server certificate that it has issued.
type identity struct {
	cert tls.Certificate
	pool *x509.CertPool
	ca   *x509.Certificate
	key  *ecdsa.PrivateKey
}

var testPair = sync.OnceValue(func() *identity {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"}, IsCA: true,
		BasicConstraintsValid: true, NotBefore: time.Unix(0, 0), NotAfter: farFuture}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	id := &identity{pool: x509.NewCertPool(), key: key}
	id.ca, _ = x509.ParseCertificate(der)
	id.pool.AddCert(id.ca)
	id.cert = id.issue("mail.example.org")
	return id
})

// issue makes a certificate for servers and clients.
func (id *identity) issue(name string) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Unix(0, 0), NotAfter: farFuture,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, id.ca, &key.PublicKey, id.key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// farFuture is fixed: the first test to ask may live in a bubble of synctest,
// whose clock stands at 2000.
var farFuture = time.Date(2090, 1, 1, 0, 0, 0, 0, time.UTC)
