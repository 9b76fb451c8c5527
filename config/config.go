// Package config turns one YAML file into one immutable, validated value.
//
// It is strict: an unknown key, a wrong type, a name used twice or not
// defined is a mistake, and all mistakes are reported at once, each with its
// file, line, key path and what to write instead. Keys of parts that are not
// built yet are refused, never ignored. Nothing here opens a socket, or any
// file but the configuration itself: whether a certificate's file is there and
// good is for those who read it.
package config

import (
	"net/netip"
	"time"
)

// A Config is the whole configuration, defaults filled in. It is not changed
// after Load has returned it.
type Config struct {
	Hostname     string // empty: the first certificate's first name
	Listeners    []Listener
	Backends     []Backend // in the order of the file
	Certificates []Certificate
	ACME         ACME // for the certificates that are ByACME
	Storage      Storage
	TLS          TLS // for listeners without a policy of their own
	Limits       Limits
	Timeouts     Timeouts
	Admin        Admin
	Log          Log

	exposed bool // there are secrets in the file, and other users can read it
}

// A Listener is one entry of listeners.
type Listener struct {
	Name         string
	Listen       []Address
	Mode         string // implicit, starttls or starttls-optional
	Backend      string // the name of one of Config.Backends
	AcceptProxy  []netip.Prefix
	AcceptUnix   bool   // accept_proxy has "unix": trust every peer of a unix socket
	TLSPolicy    string // empty: Config.TLS
	ClientAuth   string // off, request or require
	ClientCAFile string
}

// An Address is where to listen or whom to dial.
type Address struct {
	Network string // tcp, unix, or to listen systemd
	Addr    string // host:port, a path, or the name of a socket (FileDescriptorName=)
}

// A Backend is one entry of backends, its preset applied.
type Backend struct {
	Name           string
	Preset         string
	Servers        []Address
	Balance        string   // first
	ProxyProtocol  string   // off, v1 or v2
	ProxyTLVs      []string // of ssl, authority, unique_id, alpn, cn
	HideExtensions []string // the preset's own, then the file's; a trailing * matches any ending
	Health         Health
	RelayCheck     string // warn, refuse or off
}

// Health is how a backend's servers are asked whether they serve.
type Health struct {
	Interval time.Duration // 0: they are not asked
	Timeout  time.Duration // for one check as a whole
	Fall     int           // so many failures in a row take a server down
	Rise     int           // … and successes bring it up
}

// A Certificate is one entry of certificates: a pair of files, or names for
// the internal CA, or names for a CA that speaks ACME.
type Certificate struct {
	Names    []string
	CertFile string
	KeyFile  string
	Internal bool
	KeyTypes []string // by ACME alone: p256, p384, rsa2048, rsa4096; several live beside each other
}

// ByACME reports whether the certificate is obtained by ACME.
func (c Certificate) ByACME() bool { return len(c.Names) > 0 && !c.Internal }

// ACME is where certificates come from and how a CA sees that the names are
// ours (RFC 8555).
type ACME struct {
	Email         string // optional
	Directory     string
	TrustedRoots  string // PEM file, in place of the system's; empty: the system's
	Profile       string // empty: the CA's choice
	EAB           EAB
	Challenges    []string // of http-01 and tls-alpn-01, or dns-01 alone
	HTTPListen    []Address
	TLSALPNListen []Address
	DNS           DNS         // for dns-01
	Fallback      []Directory // tried in order when Directory issues nothing
	AlertDays     int         // before a certificate's end; 1 to 90
	ReuseKeys     bool
	OnEvent       Hook
}

// An EAB ties an ACME account to one that the CA already has (RFC 8555 section
// 7.3.4): both or neither.
type EAB struct {
	KeyID   string
	HMACKey Secret // base64url without padding
}

// A Directory is a CA to fall back to. It has an account of its own.
type Directory struct {
	URL, TrustedRoots, Profile string
	EAB                        EAB
}

// DNS is who publishes the records of dns-01, and how long to wait for them.
type DNS struct {
	Provider string // empty: nobody
	// Settings are the provider's own keys, as written; some have defaults. Those
	// that are no secrets are of this type too, since they may be kept elsewhere
	// alike.
	Settings           map[string]Secret
	Command            []string      // of the provider exec: an absolute path and arguments
	Resolvers          []string      // host:port; empty: the system's, and each zone's own
	PropagationTimeout time.Duration // negative: do not look whether a record is there
	PropagationDelay   time.Duration // may be 0
	TTL                time.Duration
}

// A Hook is told of a certificate's events: a program, or a URL, or neither.
type Hook struct {
	Command []string // an absolute path and arguments
	URL     string   // http or https
}

// Storage is where accounts, certificates, keys, locks and the internal CA are
// kept.
type Storage struct {
	Type          string // file, redis, postgres or kubernetes
	Path          string // of file
	URL           Secret // of redis and postgres
	Prefix        string // of keys, the schema's name, or of the names of Secrets
	Namespace     string // of kubernetes; empty: the pod's own
	Kubeconfig    string // of kubernetes; empty: the pod's own account
	EncryptionKey Secret // not given: values are stored as they are
}

// TLS is a policy, or the explicit settings that replace parts of it.
type TLS struct {
	Policy         string // modern, intermediate or legacy
	MinVersion     string // 1.0, 1.1, 1.2, 1.3, or empty: the policy's
	CipherSuites   []string
	Curves         []string
	SessionTickets string // per_process, shared or off
}

// Limits bound what all clients together, and one client, may take.
type Limits struct {
	MaxSessions          int
	MaxSessionsPerClient int // per IPv4 address or IPv6 /64
	MaxHandshakes        int // computing at once; 0: four per processor
}

// Timeouts bound every stage of a session (RFC 5321 section 4.5.3.2).
type Timeouts struct {
	Cleartext, Handshake, Dial, Greeting, Command, Body, Reply, Session, Shutdown time.Duration
}

// Admin is where the status page, the metrics and the commands to a running
// process are.
type Admin struct {
	Listen []Address // empty: nowhere
	Hosts  []string  // by which names it may be called, beside its own and addresses
	Pprof  bool      // Go's profiles below /debug/pprof/
}

// Log says how much to log, and in which form.
type Log struct {
	Level  string // debug, info, warn or error
	Format string // auto, console or json
}
