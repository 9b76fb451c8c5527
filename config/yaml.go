package config

import (
	"bytes"
	"time"

	"gopkg.in/yaml.v3"
)

// YAML is the effective configuration as a file: what was written, the presets
// and the defaults, secrets as String shows them. Parse makes an equal Config
// of it, but for secrets that were written as themselves: those are masked, and
// must be written anew before anything can use them.
func (c *Config) YAML() ([]byte, error) {
	form := fileForm{
		Hostname: c.Hostname,
		Storage:  storageForm(c.Storage),
		TLS:      tlsForm(c.TLS),
		Limits:   limitsForm(c.Limits),
		Admin:    newAdminForm(c.Admin),
		Log:      logForm(c.Log),
		Timeouts: timeoutsForm{
			timeForm(c.Timeouts.Cleartext), timeForm(c.Timeouts.Handshake), timeForm(c.Timeouts.Dial),
			timeForm(c.Timeouts.Greeting), timeForm(c.Timeouts.Command), timeForm(c.Timeouts.Body),
			timeForm(c.Timeouts.Reply), timeForm(c.Timeouts.Session), timeForm(c.Timeouts.Shutdown),
		},
	}
	for _, l := range c.Listeners {
		form.Listeners = append(form.Listeners, newListenerForm(l))
	}
	for _, cert := range c.Certificates {
		form.Certificates = append(form.Certificates, certificateForm(cert))
	}
	var err error
	if form.Backends, err = backendsNode(c.Backends); err != nil {
		return nil, err
	}
	if form.ACME, err = c.acmeNode(); err != nil {
		return nil, err
	}
	root := new(yaml.Node)
	if err := root.Encode(form); err != nil {
		return nil, err
	}
	quoteMergeKeys(root)
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(root); err != nil {
		return nil, err
	}
	return b.Bytes(), e.Close()
}

// quoteMergeKeys puts quotes around the text <<, which the library writes bare
// and then reads as a merge key.
func quoteMergeKeys(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.Value == "<<" {
		n.Tag = "!!str"
		n.Style = yaml.DoubleQuotedStyle
	}
	for _, child := range n.Content {
		quoteMergeKeys(child)
	}
}

// The forms are the file's shape, in the order of config.example.yaml. Some have
// a Config type's fields to the letter, so that converting fails to compile when
// a field is added on one side only.
type fileForm struct {
	Hostname     string            `yaml:"hostname,omitempty"`
	Listeners    []listenerForm    `yaml:"listeners"`
	Backends     *yaml.Node        `yaml:"backends"`
	Certificates []certificateForm `yaml:"certificates"`
	ACME         *yaml.Node        `yaml:"acme,omitempty"`
	Storage      storageForm       `yaml:"storage"`
	TLS          tlsForm           `yaml:"tls"`
	Limits       limitsForm        `yaml:"limits"`
	Timeouts     timeoutsForm      `yaml:"timeouts"`
	Admin        adminForm         `yaml:"admin"`
	Log          logForm           `yaml:"log"`
}

type listenerForm struct {
	Name         string   `yaml:"name"`
	Listen       []string `yaml:"listen,flow"`
	Mode         string   `yaml:"tls"`
	Backend      string   `yaml:"backend"`
	AcceptProxy  []string `yaml:"accept_proxy,flow"`
	TLSPolicy    string   `yaml:"tls_policy,omitempty"`
	ClientAuth   string   `yaml:"client_auth"`
	ClientCAFile string   `yaml:"client_ca_file,omitempty"`
}

func newListenerForm(l Listener) listenerForm {
	form := listenerForm{
		Name: l.Name, Listen: spellAll(l.Listen), Mode: l.Mode, Backend: l.Backend,
		TLSPolicy: l.TLSPolicy, ClientAuth: l.ClientAuth, ClientCAFile: l.ClientCAFile,
	}
	for _, p := range l.AcceptProxy {
		form.AcceptProxy = append(form.AcceptProxy, p.String())
	}
	if l.AcceptUnix {
		form.AcceptProxy = append(form.AcceptProxy, "unix")
	}
	return form
}

func spellAll(addresses []Address) []string {
	var all []string
	for _, a := range addresses {
		all = append(all, a.String())
	}
	return all
}

type backendForm struct {
	Preset         string     `yaml:"preset"`
	Servers        []string   `yaml:"servers,flow"`
	Balance        string     `yaml:"balance"`
	ProxyProtocol  string     `yaml:"proxy_protocol"`
	ProxyTLVs      []string   `yaml:"proxy_tlvs,flow"`
	HideExtensions []string   `yaml:"hide_extensions,flow"`
	Health         healthForm `yaml:"health"`
	RelayCheck     string     `yaml:"relay_check"`
}

type healthForm struct {
	Interval any      `yaml:"interval"`
	Timeout  timeForm `yaml:"timeout"`
	Fall     int      `yaml:"fall"`
	Rise     int      `yaml:"rise"`
}

func newHealthForm(h Health) healthForm {
	form := healthForm{"off", timeForm(h.Timeout), h.Fall, h.Rise}
	if h.Interval > 0 {
		form.Interval = timeForm(h.Interval)
	}
	return form
}

// backendsNode keeps the order of the file, which a Go map would lose.
func backendsNode(backends []Backend) (*yaml.Node, error) {
	all := &yaml.Node{Kind: yaml.MappingNode}
	for _, b := range backends {
		key, form := new(yaml.Node), new(yaml.Node)
		key.SetString(b.Name)
		if err := form.Encode(backendForm{b.Preset, spellAll(b.Servers), b.Balance, b.ProxyProtocol, b.ProxyTLVs, b.HideExtensions, newHealthForm(b.Health), b.RelayCheck}); err != nil {
			return nil, err
		}
		all.Content = append(all.Content, key, form)
	}
	return all, nil
}

type certificateForm struct {
	Names    []string `yaml:"names,flow,omitempty"`
	CertFile string   `yaml:"cert_file,omitempty"`
	KeyFile  string   `yaml:"key_file,omitempty"`
	Internal bool     `yaml:"internal,omitempty"`
	KeyTypes []string `yaml:"key_types,flow,omitempty"`
}

type storageForm struct {
	Type          string `yaml:"type"`
	Path          string `yaml:"path,omitempty"`
	URL           Secret `yaml:"url,omitempty"`
	Prefix        string `yaml:"prefix"`
	Namespace     string `yaml:"namespace,omitempty"`
	Kubeconfig    string `yaml:"kubeconfig,omitempty"`
	EncryptionKey Secret `yaml:"encryption_key,omitempty"`
}

type tlsForm struct {
	Policy         string   `yaml:"policy"`
	MinVersion     string   `yaml:"min_version,omitempty"`
	CipherSuites   []string `yaml:"cipher_suites,omitempty"`
	Curves         []string `yaml:"curves,flow,omitempty"`
	SessionTickets string   `yaml:"session_tickets"`
}

type limitsForm struct {
	MaxSessions          int `yaml:"max_sessions"`
	MaxSessionsPerClient int `yaml:"max_sessions_per_client"`
	MaxHandshakes        int `yaml:"max_handshakes"`
}

type timeoutsForm struct {
	Cleartext timeForm `yaml:"cleartext"`
	Handshake timeForm `yaml:"handshake"`
	Dial      timeForm `yaml:"dial"`
	Greeting  timeForm `yaml:"greeting"`
	Command   timeForm `yaml:"command"`
	Body      timeForm `yaml:"body"`
	Reply     timeForm `yaml:"reply"`
	Session   timeForm `yaml:"session"`
	Shutdown  timeForm `yaml:"shutdown"`
}

type timeForm time.Duration

func (t timeForm) MarshalYAML() (any, error) { return spell(time.Duration(t)), nil }

type adminForm struct {
	Listen any      `yaml:"listen,flow"`
	Hosts  []string `yaml:"hosts,flow"`
	Pprof  bool     `yaml:"pprof"`
}

func newAdminForm(a Admin) adminForm {
	form := adminForm{"off", a.Hosts, a.Pprof}
	if len(a.Listen) > 0 {
		form.Listen = spellAll(a.Listen)
	}
	return form
}

type logForm struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}
