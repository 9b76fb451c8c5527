package e2e

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sealed fails the test if a secret is in a text. A private key of any kind is
// one, and so is what a log would make of one.
func sealed(t *testing.T, text string, secrets []string) {
	t.Helper()
	for _, secret := range append(secrets, "PRIVATE KEY", "token=hunter2") {
		if i := strings.Index(text, secret); i >= 0 {
			t.Errorf("a secret (%.8s…) is in the log: %s", secret, text[max(0, i-300):min(len(text), i+100)])
		}
	}
}

// storedKeys are the private keys in a file storage, of certificates and
// accounts, in the forms in which a log might have them.
func storedKeys(t *testing.T, dir string) (forms []string) {
	t.Helper()
	filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".key" {
			return nil // another kind of storage, or none was made
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
			return nil
		}
		block, _ := pem.Decode(text)
		if block == nil {
			t.Errorf("%s has no key", path)
			return nil
		}
		secret, err := exponent(block)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			return nil
		}
		forms = append(forms, secret.Text(10), secret.Text(16), base64.StdEncoding.EncodeToString(secret.Bytes()),
			base64.RawURLEncoding.EncodeToString(secret.Bytes()), strings.Split(string(text), "\n")[1])
		return nil
	})
	return forms
}

// exponent is the number that is secret in a private key.
func exponent(block *pem.Block) (*big.Int, error) {
	if block.Type == "RSA PRIVATE KEY" {
		key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		return key.D, nil
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	octets, err := key.Bytes()
	return new(big.Int).SetBytes(octets), err
}
