package certs

import (
	"fmt"
	"strings"

	"github.com/caddyserver/certmagic"
)

// A keyType is a type of key that CAs sign. The first of the table is the
// default: the handshake with it costs a small part of RSA's.
type keyType struct {
	name      string
	generator certmagic.StandardKeyGenerator
}

var keyTypes = []keyType{
	{"p256", certmagic.StandardKeyGenerator{KeyType: certmagic.P256}},
	{"p384", certmagic.StandardKeyGenerator{KeyType: certmagic.P384}},
	{"rsa2048", certmagic.StandardKeyGenerator{KeyType: certmagic.RSA2048}},
	{"rsa4096", certmagic.StandardKeyGenerator{KeyType: certmagic.RSA4096}},
}

func keyTypeOf(name string) (keyType, error) {
	var names []string
	for _, k := range keyTypes {
		if k.name == name {
			return k, nil
		}
		names = append(names, k.name)
	}
	return keyType{}, fmt.Errorf("unknown key type %q: use %s", name, strings.Join(names, ", "))
}

// keyTypesOf returns those with these names, without any the default.
func keyTypesOf(names []string) (kinds []keyType, err error) {
	if len(names) == 0 {
		return keyTypes[:1], nil
	}
	for _, name := range names {
		kind, err := keyTypeOf(name)
		if err != nil {
			return nil, err
		}
		kinds = append(kinds, kind)
	}
	return kinds, nil
}

// hides reports whether a certificate with this type of key keeps one of the
// other from ever being served. A client tells which curves it verifies, but not
// which sizes of RSA.
func (k keyType) hides(other keyType) bool {
	return k != other && strings.HasPrefix(k.name, "rsa") && strings.HasPrefix(other.name, "rsa")
}

// has reports whether a folder may be of certificates with this type of key.
func (k keyType) has(folder string) bool {
	for _, other := range keyTypes[1:] {
		if strings.HasSuffix(folder, "-"+other.name) {
			return k == other
		}
	}
	return k == keyTypes[0]
}

// folder is where a CA's certificates with this type of key lie in the storage.
// The default's is certmagic's own, so that what it has left there is found.
func (k keyType) folder(issuer string) string {
	if k == keyTypes[0] {
		return issuer
	}
	return issuer + "-" + k.name
}
