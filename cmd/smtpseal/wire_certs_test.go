package main

import (
	"maps"
	"slices"
	"testing"

	"smtpseal/certs/dns"
	"smtpseal/config"
)

// What the configuration lets through, the provider must know, and the other
// way round: neither package knows of the other.
func TestConfigAndProvidersHaveTheSameKeys(t *testing.T) {
	written := config.DNSProviders()
	if got, want := slices.Sorted(maps.Keys(written)), slices.Sorted(maps.Keys(dns.Providers)); !slices.Equal(got, want) {
		t.Fatalf("config has %q, certs/dns %q", got, want)
	}
	for name, kind := range dns.Providers {
		var keys []string
		for _, k := range kind.Keys {
			keys = append(keys, k.Name)
		}
		slices.Sort(keys)
		if got := slices.Sorted(slices.Values(written[name])); !slices.Equal(got, keys) {
			t.Errorf("%s: config has %q, certs/dns %q", name, got, keys)
		}
	}
}

// The records are for the ports that clients know: one from 1024 on is taken
// for the end of a forward.
func TestPublicPorts(t *testing.T) {
	at := func(mode, addr string) config.Listener {
		return config.Listener{Mode: mode, Listen: []config.Address{{Network: "tcp", Addr: addr}}}
	}
	got := publicPorts([]config.Listener{at("implicit", ":1465"), at("starttls", ":587"), at("starttls-optional", "[::1]:26"), at("implicit", ":465")})
	if want := []int{26, 465, 587}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
