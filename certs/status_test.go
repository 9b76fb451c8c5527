package certs

import (
	"crypto/x509"
	"math/big"
	"testing"
)

// Who compares with what openssl says finds the same digits.
func TestSerialHasWholeOctets(t *testing.T) {
	t.Parallel()
	for want, number := range map[string]int64{"00": 0, "07": 7, "0abc": 0xabc, "1abc": 0x1abc} {
		leaf := &x509.Certificate{SerialNumber: big.NewInt(number)}
		if got := serialOf(leaf); got != want || describe(leaf).Serial != want {
			t.Errorf("%x: %q, %q", number, got, describe(leaf).Serial)
		}
	}
}
