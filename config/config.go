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
	Storage      Storage
	TLS          TLS // for listeners without a policy of their own
	Limits       Limits
	Timeouts     Timeouts
	Log          Log
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
	Network string // tcp or unix
	Addr    string // host:port, or a path
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
}

// A Certificate is one entry of certificates: a pair of files, or names for
// the internal CA.
type Certificate struct {
	Names    []string
	CertFile string
	KeyFile  string
	Internal bool
}

// Storage is where the internal CA keeps its keys.
type Storage struct {
	Type string // file
	Path string
}

// TLS is a policy, or the explicit settings that replace parts of it.
type TLS struct {
	Policy         string // modern, intermediate or legacy
	MinVersion     string // 1.0, 1.1, 1.2, 1.3, or empty: the policy's
	CipherSuites   []string
	Curves         []string
	SessionTickets string // per_process or off
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

// Log says how much to log, and in which form.
type Log struct {
	Level  string // debug, info, warn or error
	Format string // auto, console or json
}
