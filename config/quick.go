package config

import (
	"strings"

	"gopkg.in/yaml.v3"
)

// Quick is the configuration of `run --domain NAME --backend HOST:PORT`: 465
// and 587 on every address. An empty proxyProtocol is off. Its error is
// Mistakes, whose paths are the flags.
func Quick(domain, backend, proxyProtocol string) (*Config, error) {
	r := &reader{}
	d := &document{Config: defaults()}
	b := Backend{Name: "backend", Preset: "plain", Balance: "first", ProxyProtocol: "off"}
	server, _ := r.flag("--backend", backend).address("127.0.0.1:25", dial)
	b.Servers = []Address{server}
	if proxyProtocol != "" {
		r.flag("--proxy-protocol", proxyProtocol).choose(&b.ProxyProtocol, proxyVersions)
	}
	if b.ProxyProtocol == "v2" {
		b.ProxyTLVs = defaultTLVs()
	}
	d.Listeners = []Listener{
		{Name: "submissions", Listen: []Address{{"tcp", ":465"}}, Mode: "implicit", Backend: b.Name, ClientAuth: "off"},
		{Name: "submission", Listen: []Address{{"tcp", ":587"}}, Mode: "starttls", Backend: b.Name, ClientAuth: "off"},
	}
	d.Backends = []Backend{b}
	ours := newBound()
	for _, l := range d.Listeners {
		ours.add(l.Listen[0], l.Name)
	}
	if _, ok := ours.reaches(server); ok {
		r.flag("--backend", backend).wrong(quote(server.String())+ourselves, whereItListens)
	}
	r.flag("--domain", domain).domain(d)
	if len(r.mistakes) > 0 {
		return nil, r.mistakes
	}
	return &d.Config, nil
}

// flag is a value from the command line: always text, on no line.
func (r *reader) flag(name, text string) value {
	return value{r, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}, name}
}

func (v value) domain(d *document) {
	name, ok := v.text("a host name such as mail.example.org, or localhost")
	switch {
	case !ok:
	case strings.EqualFold(name, "localhost"):
		d.Certificates = []Certificate{{Names: []string{"localhost", "127.0.0.1", "::1"}, Internal: true}}
	case isHostname(name):
		v.later("a certificate by ACME", "write a file with cert_file and key_file and name it with -c, or try --domain localhost")
	default:
		v.wrong(quote(name)+" is no host name", nameRemedy(name))
	}
}
