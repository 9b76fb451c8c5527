package config

import (
	"net/netip"
	"strings"

	"gopkg.in/yaml.v3"
)

// Quick is the configuration of `run --domain NAME --backend HOST:PORT`: 465
// and 587 on every address, and for a domain other than localhost ACME with all
// its defaults. An empty proxyProtocol is off, an empty email none. Its error
// is Mistakes, whose paths are the flags.
func Quick(domain, backend, proxyProtocol, email string) (*Config, error) {
	r := &reader{}
	d := &document{Config: defaults()}
	b := newBackend("backend")
	b.Preset, b.ProxyProtocol = "plain", "off"
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
	readEmail(r.flag("--email", email), &d.ACME)
	if len(r.mistakes) > 0 {
		return nil, r.mistakes
	}
	return &d.Config, nil
}

// flag is a value from the command line: always text, on no line.
func (r *reader) flag(name, text string) value {
	return value{r, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}, name}
}

func isAddress(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil
}

func (v value) domain(d *document) {
	name, ok := v.text("a host name such as mail.example.org, or localhost")
	switch {
	case !ok:
	case strings.EqualFold(name, "localhost"):
		d.Certificates = []Certificate{{Names: []string{"localhost", "127.0.0.1", "::1"}, Internal: true}}
	case isHostname(name):
		d.Certificates = []Certificate{{Names: []string{strings.ToLower(name)}, KeyTypes: []string{"p256"}}}
	case isHostname(strings.TrimPrefix(name, "*.")):
		v.wrong(quote(name)+" is a wildcard, which takes dns-01", "write a file with acme.challenges: [dns-01] and acme.dns, and name it with -c")
	case isAddress(name):
		v.wrong(quote(name)+" is an address, for which a CA has rules of its own", "write a host name, or a file with acme.profile, and name it with -c")
	default:
		v.wrong(quote(name)+" is no host name", nameRemedy(name))
	}
}
