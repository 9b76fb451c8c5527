package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"fmt"
	"strings"
)

// ServedWith is Served for a name that has certificates with several types of
// key: p256, p384, rsa2048 or rsa4096. Empty: that of most clients.
func (s *Source) ServedWith(name, keyType string) (*tls.Certificate, error) {
	first, err := s.Served(name)
	if err != nil || keyType == "" {
		return first, err
	}
	if _, err := keyTypeOf(keyType); err != nil {
		return nil, err
	}
	var others []string
	for _, c := range s.index.Load().find(name, nil) {
		kind := keyTypeIn(c.Leaf.PublicKey)
		if kind == keyType {
			return c, nil
		}
		others = append(others, kind)
	}
	return nil, fmt.Errorf("no certificate for %s has a key of type %s; there is: %s", name, keyType, strings.Join(others, ", "))
}

// keyTypeIn is the type of a key as a configuration names it; that of a file's
// may be one that it cannot name.
func keyTypeIn(public crypto.PublicKey) string {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		return fmt.Sprintf("p%d", key.Curve.Params().BitSize)
	case *rsa.PublicKey:
		return fmt.Sprintf("rsa%d", key.N.BitLen())
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", public), "*")
}
