package config

import (
	"net/netip"
	"testing"
)

func listening(name, mode string, addresses ...string) Listener {
	l := Listener{Name: name, Mode: mode, Backend: "mta"}
	for _, a := range addresses {
		l.Listen = append(l.Listen, Address{"tcp", a})
	}
	return l
}

var toldBackend = Backend{Name: "mta", Preset: "postfix", ProxyProtocol: "v2"}

// TestWarnings pins who is named, what is wrong and what to do, in their order.
func TestWarnings(t *testing.T) {
	trusting := listening("mx", "starttls-optional", ":25")
	trusting.AcceptProxy = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::/0")}
	for _, c := range []struct {
		name string
		c    Config
		want [][]string // in each warning, these
	}{
		{"as it should be", Config{
			Listeners: []Listener{
				listening("a", "implicit", ":465", "[::1]:2465"), listening("b", "starttls", ":587"),
				listening("c", "starttls-optional", ":25"), listening("d", "implicit", ":2525"),
				{Name: "e", Mode: "implicit", Backend: "mta", Listen: []Address{{"unix", "/run/mta:25"}}},
			},
			Backends: []Backend{toldBackend},
		}, nil},
		{"no PROXY header", Config{
			Listeners: []Listener{listening("a", "implicit", ":465")},
			Backends:  []Backend{{Name: "mta", Preset: "plain", ProxyProtocol: "off"}},
		}, [][]string{{"backend mta: proxy_protocol is off", "relays mail for the whole Internet", "Write proxy_protocol: v2", "mynetworks"}}},
		{"Exchange reads none", Config{
			Listeners: []Listener{listening("a", "implicit", ":465")},
			Backends:  []Backend{{Name: "mta", Preset: "exchange", ProxyProtocol: "off"}},
		}, [][]string{{"backend mta: proxy_protocol is off", "receive connector"}}},
		{"Sendmail reads none", Config{
			Listeners: []Listener{listening("a", "implicit", ":465")},
			Backends:  []Backend{{Name: "mta", Preset: "sendmail", ProxyProtocol: "off"}},
		}, [][]string{{"backend mta: proxy_protocol is off", "access map", "another address than 127.0.0.1"}}},
		{"modes that clients do not expect", Config{
			Listeners: []Listener{
				listening("a", "starttls", "127.0.0.1:2525", ":465"), listening("b", "implicit", "[::1]:587"),
				listening("c", "implicit", ":25"), listening("d", "starttls", ":25"), listening("e", "starttls-optional", ":587"),
			},
			Backends: []Backend{toldBackend},
		}, [][]string{
			{"listener a: tls is starttls on port 465", "Write tls: implicit"},
			{"listener b: tls is implicit on port 587", "Write tls: starttls,"},
			{"listener c: tls is implicit on port 25", "Write tls: starttls-optional"},
			{"listener d: tls is starttls on port 25", "cannot deliver", "write tls: starttls-optional"},
			{"listener e: tls is starttls-optional on port 587", "without TLS", "Write tls: starttls"},
		}},
		{"everyone may claim an address", Config{
			Listeners: []Listener{trusting}, Backends: []Backend{toldBackend},
		}, [][]string{{"listener mx: accept_proxy ::/0", "every client", "load balancers"}}},
		{"a backend for nobody", Config{
			Listeners: []Listener{listening("a", "implicit", ":465")},
			Backends:  []Backend{toldBackend, {Name: "spare", ProxyProtocol: "v1"}},
		}, [][]string{{"backend spare: no listener uses it", "remove it"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			mustWarn(t, c.c.Warnings(), c.want)
		})
	}
}
