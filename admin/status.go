package admin

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// A Status is all there is to say at one moment. Times are RFC 3339 in JSON,
// and left out where there is none; totals count from the start of the process.
//
// Headline, Mail and the days that certificates have left are filled in by this
// package.
type Status struct {
	Headline string `json:"headline"` // one sentence: does mail flow, and if not, why
	Mail     Mail   `json:"mail"`     // the same in one word

	State    State     `json:"state"`
	Ready    bool      `json:"ready"`
	Reasons  []string  `json:"reasons"` // why it is not ready
	Build    Build     `json:"build"`
	Hostname string    `json:"hostname"`
	Config   string    `json:"config,omitempty"` // path of the configuration file; "" without one
	Started  time.Time `json:"started"`
	Now      time.Time `json:"now"`
	PID      int       `json:"pid"`

	Listeners    []Listener    `json:"listeners"`
	Backends     []Backend     `json:"backends"`
	Certificates []Certificate `json:"certificates"`

	Reloads          Reloads          `json:"reloads"`
	Upgrade          Upgrade          `json:"upgrade"`
	Violations       map[string]int64 `json:"violations"`     // by kind
	ProxyLeftOut     int64            `json:"proxy_left_out"` // facts that did not fit into a PROXY header
	Failures         []Failure        `json:"failures"`       // the last ten kinds, newest first
	HandshakeSeconds Histogram        `json:"handshake_seconds"`
	DialSeconds      Histogram        `json:"dial_seconds"`
}

// A State is where in its life a process is.
type State string

// The states.
const (
	Starting State = "starting"
	Ready    State = "ready" // it serves; Status.Ready says whether well enough to be sent clients
	Draining State = "draining"
)

// A Build says which program this is.
type Build struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Go      string `json:"go"`
}

// A Listener is one of the configuration, with its sessions. What a map lacks
// is zero; a caller that has every phase and outcome in there gets every series
// from the start, so that rates know what came before the first event.
type Listener struct {
	Name       string           `json:"name"`
	Addresses  []string         `json:"addresses"`
	Mode       string           `json:"mode"` // implicit, starttls or starttls-optional
	Backend    string           `json:"backend"`
	TLSReady   bool             `json:"tls_ready"` // there is a certificate
	Sessions   map[string]int   `json:"sessions"`  // under way, by phase
	Ended      map[string]int64 `json:"ended"`     // by outcome
	Handshakes []Handshakes     `json:"handshakes"`
	Messages   int64            `json:"messages"`
	BytesIn    int64            `json:"bytes_in"`  // from clients, without TLS
	BytesOut   int64            `json:"bytes_out"` // to clients, without TLS

	// A reload has taken it out of the configuration. Its sessions live on, and
	// what was counted stays true; the rest is empty.
	Removed bool `json:"removed,omitempty"`
}

// Handshakes are those of one TLS version, such as "TLS 1.3", or "" where none
// was agreed on; the result is ok or failed.
type Handshakes struct {
	Version string `json:"version"`
	Result  string `json:"result"`
	Count   int64  `json:"count"`
}

// A Backend is where listeners send mail.
type Backend struct {
	Name          string          `json:"name"`
	ProxyProtocol string          `json:"proxy_protocol"` // v2, v1 or off
	Servers       []BackendServer `json:"servers"`
	Warning       string          `json:"warning,omitempty"` // it may be an open relay
}

// A BackendServer is one server. It counts as up until something else is known.
type BackendServer struct {
	Address string    `json:"address"`
	Up      bool      `json:"up"`
	Known   bool      `json:"known"`          // it was asked, or a session has been there
	Since   time.Time `json:"since,omitzero"` // of being up or down
	Checked time.Time `json:"checked,omitzero"`
	Error   string    `json:"error,omitempty"` // why it is down
	Hint    string    `json:"hint,omitempty"`  // what to do
}

// A Certificate is one that is in use, or that is asked for.
type Certificate struct {
	Names       []string  `json:"names"`
	Source      string    `json:"source"` // a file, internal, or acme
	KeyType     string    `json:"key_type"`
	Issuer      string    `json:"issuer"`
	Serial      string    `json:"serial"` // hexadecimal
	NotBefore   time.Time `json:"not_before,omitzero"`
	NotAfter    time.Time `json:"not_after,omitzero"` // zero: there is no certificate yet
	DaysLeft    int       `json:"days_left"`          // whole ones; negative: so long past its end
	NextRenewal time.Time `json:"next_renewal,omitzero"`
	NextTry     time.Time `json:"next_try,omitzero"` // after a failure
	LastError   string    `json:"last_error,omitempty"`
	Problem     string    `json:"problem,omitempty"` // why somebody should look at it now
	Hint        string    `json:"hint,omitempty"`    // what to do about Problem, LastError or a near end
	Renewals    Results   `json:"renewals"`
}

// Results count tries.
type Results struct {
	OK     int64 `json:"ok"`
	Failed int64 `json:"failed"`
}

// Reloads are those of the configuration.
type Reloads struct {
	Results
	Last Reload `json:"last,omitzero"`
}

// A Reload is how one went. One that failed has changed nothing.
type Reload struct {
	Time   time.Time `json:"time"`
	Result string    `json:"result"` // ok or failed
	Error  string    `json:"error,omitempty"`
}

// An Upgrade is how the tries to hand over to a new process went. One that
// succeeded is the end of this process, so only the others are known here.
type Upgrade struct {
	Failed int64         `json:"failed"`
	Last   UpgradeFailed `json:"last,omitzero"`
}

// An UpgradeFailed is a try after which this process went on.
type UpgradeFailed struct {
	Time  time.Time `json:"time"`
	Error string    `json:"error"`
}

// A Failure is a kind of failure, and the last session that ended so.
type Failure struct {
	Time      time.Time `json:"time"`
	Count     int64     `json:"count"`
	Session   string    `json:"session"` // as in the log
	Listener  string    `json:"listener"`
	Client    string    `json:"client,omitempty"`
	Backend   string    `json:"backend,omitempty"`
	Phase     string    `json:"phase"`
	Outcome   string    `json:"outcome"`
	Violation string    `json:"violation,omitempty"`
	Error     string    `json:"error"`
	Hint      string    `json:"hint,omitempty"` // what to do
}

// A Histogram is one as Prometheus has it: Counts has one number a bound, of
// all observations up to it. Bounds are seconds, ascending.
type Histogram struct {
	Bounds []float64 `json:"bounds"`
	Counts []uint64  `json:"counts"`
	Count  uint64    `json:"count"`
	Sum    float64   `json:"sum"`
}

// complete fills in what follows from the rest. Lists are never null in JSON,
// which is one case less for whoever reads it. The caller's lists stay as they
// are.
func (s Status) complete() Status {
	s.Reasons = orEmpty(s.Reasons)
	s.Listeners = orEmpty(slices.Clone(s.Listeners))
	s.Backends = orEmpty(slices.Clone(s.Backends))
	s.Certificates = orEmpty(slices.Clone(s.Certificates))
	s.Failures = orEmpty(s.Failures)
	for i := range s.Listeners {
		l := &s.Listeners[i]
		l.Addresses, l.Handshakes = orEmpty(l.Addresses), orEmpty(slices.Clone(l.Handshakes))
		slices.SortFunc(l.Handshakes, newestTLS) // or the page would shuffle its rows
		l.Sessions, l.Ended = orNone(l.Sessions), orNone(l.Ended)
	}
	for i := range s.Backends {
		s.Backends[i].Servers = orEmpty(s.Backends[i].Servers)
	}
	for i := range s.Certificates {
		c := &s.Certificates[i]
		c.Names = orEmpty(c.Names)
		if c.DaysLeft = 0; !c.NotAfter.IsZero() {
			c.DaysLeft = int(math.Floor(c.NotAfter.Sub(s.Now).Hours() / 24))
		}
	}
	s.Violations = orNone(s.Violations)
	for _, h := range []*Histogram{&s.HandshakeSeconds, &s.DialSeconds} {
		h.Bounds, h.Counts = orEmpty(h.Bounds), orEmpty(h.Counts)
	}
	s.Mail, s.Headline = s.headline()
	return s
}

func newestTLS(a, b Handshakes) int {
	return cmp.Or(-cmp.Compare(a.Version, b.Version), -cmp.Compare(a.Result, b.Result))
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func orNone[V any](m map[string]V) map[string]V {
	if m == nil {
		return map[string]V{}
	}
	return m
}

// sessions are those under way on all listeners.
func (s *Status) sessions() (n int) {
	for _, l := range s.Listeners {
		for _, count := range l.Sessions {
			n += count
		}
	}
	return n
}
