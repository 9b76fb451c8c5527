package certs

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"time"

	"github.com/caddyserver/certmagic"
)

const (
	rootFile     = "internal/root.crt" // keys of the storage
	rootKeyFile  = "internal/root.key"
	rootLock     = "internal_root"
	rootLifetime = 10 * 365 * day
)

// An authority is the internal CA: a root that signs leaves. To certmagic it
// is an issuer like any other, so its leaves live as ACME's will.
type authority struct {
	root     *x509.Certificate
	key      crypto.Signer
	lifetime time.Duration // of leaves
}

// openAuthority loads the root, or makes it on first use. Of two processes that
// start at once on one storage the second waits and takes the first one's.
func openAuthority(ctx context.Context, storage certmagic.Storage) (*authority, error) {
	a, err := loadAuthority(ctx, storage)
	if !errors.Is(err, fs.ErrNotExist) {
		return a, err
	}
	if err := storage.Lock(ctx, rootLock); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	defer storage.Unlock(context.WithoutCancel(ctx), rootLock)
	a, err = loadAuthority(ctx, storage)
	if !errors.Is(err, fs.ErrNotExist) {
		return a, err
	}
	return makeAuthority(ctx, storage)
}

// loadAuthority returns fs.ErrNotExist only if there never was a root: the key
// is written first, so a certificate without one has lost it.
func loadAuthority(ctx context.Context, storage certmagic.Storage) (*authority, error) {
	rootPEM, err := storage.Load(ctx, rootFile)
	if err != nil {
		return nil, fmt.Errorf("load root: %w", err)
	}
	key, err := loadRootKey(ctx, storage)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is missing: restore it, or remove %s for a new root, which every client must be told to trust", rootKeyFile, rootFile)
	}
	if err != nil {
		return nil, err
	}
	root, err := parseRoot(rootPEM, key)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: restore it, or remove it for a new one, which every client must be told to trust", rootFile, err)
	}
	return &authority{root: root, key: key}, nil
}

func parseRoot(rootPEM []byte, key crypto.Signer) (*x509.Certificate, error) {
	block, _ := pem.Decode(rootPEM)
	if block == nil {
		return nil, errors.New("no PEM")
	}
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	public, ok := root.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	switch {
	case !ok || !public.Equal(key.Public()):
		return nil, fmt.Errorf("does not belong to %s", rootKeyFile)
	case !root.IsCA:
		return nil, errors.New("not a CA certificate")
	case time.Now().After(root.NotAfter):
		return nil, fmt.Errorf("expired on %s", date(root.NotAfter))
	}
	return root, nil
}

func loadRootKey(ctx context.Context, storage certmagic.Storage) (crypto.Signer, error) {
	keyPEM, err := storage.Load(ctx, rootKeyFile)
	if err != nil {
		return nil, fmt.Errorf("load root key: %w", err)
	}
	key, err := certmagic.PEMDecodePrivateKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: restore it", rootKeyFile, err)
	}
	return key, nil
}

// makeAuthority makes the root. A key that is there without a certificate, the
// rest of a crash or of a deletion, is used: whoever trusts it still can.
//
// The root carries no name constraints. They could only list the names that
// are configured today; a name added tomorrow would need a new root, and every
// client would have to be told. What can be limited for ever is: it signs no
// other CA, and nothing but servers.
func makeAuthority(ctx context.Context, storage certmagic.Storage) (*authority, error) {
	key, err := loadRootKey(ctx, storage)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = makeRootKey(ctx, storage)
	}
	if err != nil {
		return nil, err
	}
	root, err := template(time.Now(), rootLifetime)
	if err != nil {
		return nil, err
	}
	root.Subject = pkix.Name{Organization: []string{"smtpseal"}, CommonName: "smtpseal internal CA " + keyID(key.Public())}
	root.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	root.IsCA, root.MaxPathLenZero = true, true
	der, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign root: %w", err)
	}
	if err := storage.Store(ctx, rootFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})); err != nil {
		return nil, fmt.Errorf("store root: %w", err)
	}
	return loadAuthority(ctx, storage)
}

func makeRootKey(ctx context.Context, storage certmagic.Storage) (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make root key: %w", err)
	}
	keyPEM, err := certmagic.PEMEncodePrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode root key: %w", err)
	}
	if err := storage.Store(ctx, rootKeyFile, keyPEM); err != nil {
		return nil, fmt.Errorf("store root key: %w", err)
	}
	return key, nil
}

// IssuerKey is the folder of the leaves in the storage. It depends on the
// root's key, so that the leaves of a root that is gone are not served.
func (a *authority) IssuerKey() string { return internalFolder + keyID(a.key.Public()) }

// internalFolder is how the folders of all internal CAs begin.
const internalFolder = "internal-"

// Issue signs a leaf for the names of the request. The root is not sent with
// it: a client either has it or gains nothing by seeing it.
func (a *authority) Issue(_ context.Context, csr *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	leaf, err := template(time.Now(), a.lifetime)
	if err != nil {
		return nil, err
	}
	if leaf.NotAfter.After(a.root.NotAfter) {
		leaf.NotAfter = a.root.NotAfter
	}
	leaf.KeyUsage = x509.KeyUsageDigitalSignature
	leaf.DNSNames, leaf.IPAddresses = csr.DNSNames, csr.IPAddresses
	leaf.Subject.CommonName = commonName(csr)
	der, err := x509.CreateCertificate(rand.Reader, leaf, a.root, csr.PublicKey, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return &certmagic.IssuedCertificate{Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}, nil
}

// commonName is for printers that know no alternative names. It is at most 64
// characters long (RFC 5280 appendix A.1).
func commonName(csr *x509.CertificateRequest) string {
	switch {
	case len(csr.DNSNames) > 0 && len(csr.DNSNames[0]) <= 64:
		return csr.DNSNames[0]
	case len(csr.DNSNames) == 0 && len(csr.IPAddresses) > 0:
		return csr.IPAddresses[0].String()
	}
	return ""
}

// template has what root and leaf share. They begin a little in the past, for
// clients whose clocks are slow.
func template(now time.Time, lifetime time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("serial number: %w", err)
	}
	return &x509.Certificate{
		SerialNumber:          serial,
		NotBefore:             now.Add(-min(time.Hour, lifetime/24)),
		NotAfter:              now.Add(lifetime),
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}, nil
}

func keyID(public crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		panic(err) // only for key types that PEMDecodePrivateKey never returns
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:4])
}
