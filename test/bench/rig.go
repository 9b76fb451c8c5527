package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"smtpseal/test/loopback"
)

// serverName is whom the certificate is for and every client asks for.
const serverName = "bench.test"

// A rig is what all measurements share: a directory, one certificate, one
// mail server, the peers' programs and the amounts of work.
type rig struct {
	dir       string // temporary; removed by close
	root      string // of the module
	self      string // this program, for its roles
	cert, key string // PEM files
	pair      string // both in one file, as HAProxy wants them
	pool      *x509.CertPool
	sink      *process
	plain     string // the mail server's address for connections without a PROXY header
	proxied   string // … and for those with one
	peers     []peer
	size      size
	clients   int // busy at once: with one a peer sleeps between any two packets
	logs      io.Writer
	started   int // processes so far: each has a log of its own
}

func newRig(ctx context.Context, o options) (_ *rig, err error) {
	b := &rig{logs: o.Logs, size: fullSize, clients: o.Clients}
	if o.Quick {
		b.size = quickSize
	}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if b.dir, err = os.MkdirTemp("", "smtpseal-bench-"); err != nil {
		return nil, fmt.Errorf("directory: %w", err)
	}
	if b.self, err = os.Executable(); err != nil {
		return nil, fmt.Errorf("own program: %w", err)
	}
	if b.root, err = moduleRoot(ctx); err != nil {
		return nil, err
	}
	if err := b.certify(); err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	if err := b.startSink(); err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	for _, name := range o.Peers {
		p, err := findPeer(ctx, b, o, name)
		if err != nil {
			return nil, fmt.Errorf("peer %s: %w", name, err)
		}
		b.peers = append(b.peers, p)
	}
	return b, nil
}

// close ends what the rig started. Peers are ended by who measures them.
func (b *rig) close() {
	if b.sink != nil {
		b.sink.stop()
	}
	os.RemoveAll(b.dir)
}

func (b *rig) path(name string) string { return filepath.Join(b.dir, name) }

// logFile is a new file for a process's output.
func (b *rig) logFile(name string) string {
	b.started++
	return b.path(fmt.Sprintf("%s-%d.log", name, b.started))
}

func (b *rig) startSink() (err error) {
	if b.plain, err = loopback.Free("127.0.0.1"); err != nil {
		return err
	}
	if b.proxied, err = loopback.Free("127.0.0.1"); err != nil {
		return err
	}
	b.sink, err = start(b.logFile("sink"), nil, b.self, "sink", "-plain", b.plain, "-proxied", b.proxied)
	if err != nil {
		return err
	}
	return awaitListener(b.sink, b.proxied)
}

// certify writes a self-signed ECDSA P-256 certificate: one record of a few
// hundred bytes, the same for every peer.
func (b *rig) certify() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: serverName},
		DNSNames:     []string{serverName},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(30 * 24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	b.pool = x509.NewCertPool()
	b.pool.AppendCertsFromPEM(certPEM)
	b.cert, b.key, b.pair = b.path("cert.pem"), b.path("key.pem"), b.path("pair.pem")
	for file, content := range map[string][]byte{b.cert: certPEM, b.key: keyPEM, b.pair: append(certPEM, keyPEM...)} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// moduleRoot is where go.mod lies: what is built, and where the cache is.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	file := strings.TrimSpace(string(out))
	if err != nil || file == "" || file == os.DevNull {
		return "", fmt.Errorf("no module here: run from the source tree (%v)", err)
	}
	return filepath.Dir(file), nil
}
