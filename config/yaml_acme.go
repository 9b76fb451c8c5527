package config

import (
	"reflect"

	"gopkg.in/yaml.v3"
)

// acmeForm is in the order of config.example.yaml.
type acmeForm struct {
	Email         string          `yaml:"email,omitempty"`
	Directory     string          `yaml:"directory"`
	TrustedRoots  string          `yaml:"trusted_roots,omitempty"`
	Profile       string          `yaml:"profile,omitempty"`
	EAB           eabForm         `yaml:"eab,omitempty"`
	Challenges    []string        `yaml:"challenges,flow"`
	HTTPListen    []string        `yaml:"http_listen,flow"`
	TLSALPNListen []string        `yaml:"tls_alpn_listen,flow"`
	DNS           *yaml.Node      `yaml:"dns,omitempty"`
	Fallback      []directoryForm `yaml:"fallback,omitempty"`
	AlertDays     int             `yaml:"alert_days"`
	ReuseKeys     bool            `yaml:"reuse_keys"`
	OnEvent       *yaml.Node      `yaml:"on_event,omitempty"`
}

type eabForm struct {
	KeyID   string `yaml:"key_id"`
	HMACKey Secret `yaml:"hmac_key"`
}

type directoryForm struct {
	URL          string  `yaml:"directory"`
	TrustedRoots string  `yaml:"trusted_roots,omitempty"`
	Profile      string  `yaml:"profile,omitempty"`
	EAB          eabForm `yaml:"eab,omitempty"`
}

// acmeNode is nil where ACME has no part and nothing was written about it: the
// ports of its challenges would look as if they were open.
func (c *Config) acmeNode() (*yaml.Node, error) {
	if !c.ByACME() && reflect.DeepEqual(c.ACME, defaultACME()) {
		return nil, nil
	}
	a := c.ACME
	form := acmeForm{
		Email: a.Email, Directory: a.Directory, TrustedRoots: a.TrustedRoots, Profile: a.Profile, EAB: eabForm(a.EAB),
		Challenges: a.Challenges, HTTPListen: spellAll(a.HTTPListen), TLSALPNListen: spellAll(a.TLSALPNListen),
		AlertDays: a.AlertDays, ReuseKeys: a.ReuseKeys, OnEvent: hookNode(a.OnEvent),
	}
	for _, d := range a.Fallback {
		form.Fallback = append(form.Fallback, directoryForm{d.URL, d.TrustedRoots, d.Profile, eabForm(d.EAB)})
	}
	var err error
	if form.DNS, err = dnsNode(a.DNS); err != nil {
		return nil, err
	}
	node := new(yaml.Node)
	return node, node.Encode(form)
}

type dnsForm struct {
	Resolvers          []string `yaml:"resolvers,flow"`
	PropagationTimeout timeForm `yaml:"propagation_timeout"`
	PropagationDelay   timeForm `yaml:"propagation_delay"`
	TTL                timeForm `yaml:"ttl"`
}

// dnsNode puts the provider's own keys behind its name, in their usual order.
func dnsNode(d DNS) (*yaml.Node, error) {
	if d.Provider == "" {
		return nil, nil
	}
	rest := new(yaml.Node)
	if err := rest.Encode(dnsForm{d.Resolvers, timeForm(d.PropagationTimeout), timeForm(d.PropagationDelay), timeForm(d.TTL)}); err != nil {
		return nil, err
	}
	all := &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{textNode("provider"), textNode(d.Provider)}}
	p, _ := findProvider(d.Provider)
	for _, k := range p.settings {
		switch {
		case k.list:
			all.Content = append(all.Content, textNode(k.name), commandNode(d.Command))
		case !d.Settings[k.name].IsZero():
			all.Content = append(all.Content, textNode(k.name), textNode(d.Settings[k.name].String()))
		}
	}
	all.Content = append(all.Content, rest.Content...)
	return all, nil
}

func hookNode(h Hook) *yaml.Node {
	switch {
	case h.URL != "":
		return textNode(h.URL)
	case len(h.Command) > 0:
		return commandNode(h.Command)
	}
	return nil
}

func commandNode(command []string) *yaml.Node {
	list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, word := range command {
		list.Content = append(list.Content, textNode(word))
	}
	return list
}

// textNode lets the library decide whether a text needs quotes.
func textNode(text string) *yaml.Node {
	n := new(yaml.Node)
	n.SetString(text)
	return n
}
