package main

import (
	"maps"
	"os"
	"slices"
	"strings"
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

// Root must not leave files that the service cannot read: it would serve
// nothing after its next start.
func TestRootLeavesTheServicesStorageAlone(t *testing.T) {
	if os.Geteuid() != 0 {
		if _, others := othersDirectory("/"); others {
			t.Error("refused, though this is not root")
		}
		return
	}
	dir := t.TempDir()
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	file := write(t, "smtpseal.yaml", `listeners: [{listen: "127.0.0.1:465", tls: implicit, backend: mta}]
backends: {mta: {preset: postfix, servers: ["127.0.0.1:25"]}}
certificates: [{names: [mail.internal], internal: true}]
storage: {path: `+dir+"}\n")
	for _, line := range []string{"renew mail.internal", "roll mail.internal", "export --root", "encrypt"} {
		code, _, stderr := command(append(append([]string{"certs"}, strings.Fields(line)...), "-c", file)...)
		if left, _ := os.ReadDir(dir); code != 1 || !strings.Contains(stderr, "sudo -u") || len(left) > 0 {
			t.Errorf("%s: exit %d, said %q, left %v", line, code, stderr, left)
		}
	}
	code, stdout, _ := command("certs", "list", "-c", file) // it may look, since that leaves nothing
	if left, _ := os.ReadDir(dir); code != 1 || !strings.Contains(stdout, "mail.internal: ") || len(left) > 0 {
		t.Errorf("list: exit %d, said %q, left %v", code, stdout, left)
	}
}
