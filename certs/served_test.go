package certs

import (
	"strings"
	"testing"
)

func TestServedWithATypeOfKey(t *testing.T) {
	ca := newPKI(t)
	s, err := Open(t.Context(), Options{Entries: pairs(
		ca.files(spec{names: []string{"mail.example.org"}}),
		ca.files(spec{names: []string{"mail.example.org"}, rsa: true}),
		ca.files(spec{names: []string{"*.example.org"}}))})
	must(t, err)
	defer s.Close()
	for _, c := range []struct{ name, keyType, want string }{
		{"mail.example.org", "", "p256"},
		{"mail.example.org", "p256", "p256"},
		{"Mail.Example.ORG", "rsa2048", "rsa2048"},
		{"mail.example.org", "rsa4096", "there is: p256, rsa2048"},
		{"mail.example.org", "dsa", `unknown key type "dsa"`},
		{"mx.example.org", "p256", "p256"},
		{"mx.example.org", "rsa2048", "there is: p256"},
		{"example.net", "p256", "no certificate for example.net"},
	} {
		got, err := s.ServedWith(c.name, c.keyType)
		if err != nil {
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v: %v", c, err)
			}
		} else if kind := keyTypeIn(got.Leaf.PublicKey); kind != c.want {
			t.Errorf("%v: %s", c, kind)
		}
	}
}
