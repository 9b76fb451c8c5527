// Package recipe writes the mail server's side of a configuration: what to
// write where, so that the server and smtpseal agree on the address, on the
// PROXY header, and on whom not to trust.
//
// A recipe is a text that can be pasted as a whole: what is no configuration is
// a comment of that server's syntax. Where a server cannot be set up safely for
// what the configuration says, there is no recipe but an Error with the remedy.
// Nothing here knows what a server has in its files already: that is said in
// the comments, and for the operator to look at.
package recipe

import (
	"net/netip"
	"slices"
	"strings"
)

// Facts are what a recipe is filled in with.
type Facts struct {
	Config        string // the configuration's file as it is to be printed; empty: "FILE"
	About         string // where the facts are from, for the first line
	Hostname      string // what clients connect to; empty: not known
	Internal      bool   // its certificate is by the internal CA, which no client knows yet
	Backend       string // its name in the configuration
	Preset        string
	ProxyProtocol string   // off, v1 or v2
	ProxyTLVs     []string // as in the configuration
	Servers       []Server // at least one
	Listeners     []Listener
	Source        string // the address from which smtpseal connects to the servers
}

// A Server is where the mail server is to listen.
type Server struct{ Host, Port string }

// Address is the host with its port, an IPv6 address in brackets.
func (s Server) Address() string { return s.Bracketed() + ":" + s.Port }

// Bracketed is the host, in brackets if it is an IPv6 address.
func (s Server) Bracketed() string {
	if s.IPv6() {
		return "[" + s.Host + "]"
	}
	return s.Host
}

// IPv6 reports whether the host is an IPv6 address.
func (s Server) IPv6() bool { return strings.Contains(s.Host, ":") }

// Loopback reports whether only programs of the same machine reach the server.
func (s Server) Loopback() bool {
	ip, err := netip.ParseAddr(s.Host)
	return err == nil && ip.IsLoopback() || s.Host == "localhost"
}

// A Listener is one at which clients of the backend come in.
type Listener struct {
	Name  string
	Mode  string   // implicit, starttls or starttls-optional
	Ports []string // those of TCP
}

// An Error is why there is no recipe, and what to do about it.
type Error struct{ Problem, Remedy string }

func (e *Error) Error() string { return e.Problem }

// A Recipe is what to write where, and what to do then.
type Recipe struct {
	Name     string   `json:"name"`
	Files    []File   `json:"files"`
	Steps    []string `json:"steps"` // commands, in their order
	Warnings []string `json:"warnings"`

	about   string
	comment string
}

// A File is text for one file, or to type into one program.
type File struct {
	Path    string `json:"path"`
	Mode    string `json:"mode"` // append, insert, replace or run
	Content string `json:"content"`
}

// Names are all recipes there are.
func Names() []string {
	var all []string
	for _, k := range kinds {
		all = append(all, k.name)
	}
	return all
}

// Fits reports whether a recipe can be for a backend with a preset. The preset
// plain says nothing, so it fits all.
func Fits(name, preset string) bool {
	k, ok := find(name)
	return ok && (preset == "plain" || slices.Contains(k.presets, preset))
}

// Make fills in the recipe of that name, which must be one of Names. Its error
// is an *Error wherever there is something to do about it.
func Make(name string, f Facts) (*Recipe, error) {
	k, _ := find(name)
	if err := k.check(f); err != nil {
		return nil, err
	}
	r := &Recipe{Name: name, Files: []File{}, Warnings: []string{}, about: f.About, comment: k.comment}
	if who := f.who(); who != "" {
		r.about += ", for its " + who
	}
	if err := k.fill(r, f); err != nil {
		return nil, err
	}
	r.Steps = append(r.Steps, "smtpseal check -c "+f.config())
	r.Steps = append(r.Steps, f.probing()...)
	if !k.loginless {
		r.Steps = append(r.Steps, f.loggingIn()...)
	}
	return r, nil
}
