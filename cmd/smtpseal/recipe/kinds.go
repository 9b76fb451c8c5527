package recipe

import (
	"fmt"
	"slices"
	"strings"
)

// A kind is one mail server.
type kind struct {
	name     string
	title    string
	presets  []string // of the configuration, for which the recipe is
	versions []string // of the PROXY header that the server can read; off: none
	comment  string   // how a line of prose begins
	traps    []func(Facts) *Error

	loginless bool // nobody can log in behind smtpseal
}

var kinds = []kind{
	{name: "postfix", title: "Postfix", presets: []string{"postfix", "postfix-old"}, versions: []string{"v2", "v1"}, comment: "#"},
	{name: "postfix-old", title: "Postfix before 3.5", presets: []string{"postfix-old"}, versions: []string{"v1"}, comment: "#"},
	{name: "exim", title: "Exim", presets: []string{"exim"}, versions: []string{"v2", "v1"}, comment: "#"},
	{name: "opensmtpd", title: "OpenSMTPD", presets: []string{"opensmtpd"}, versions: []string{"v2"}, comment: "#", loginless: true},
	{name: "sendmail", title: "Sendmail", presets: []string{"sendmail"}, versions: []string{"off"}, comment: "dnl #",
		traps: []func(Facts) *Error{sendmailTrustsLoopback}},
	{name: "dovecot", title: "Dovecot", presets: []string{"dovecot"}, versions: []string{"v2", "v1"}, comment: "#",
		traps: []func(Facts) *Error{dovecotNeedsTLVs}},
	{name: "exchange", title: "Exchange", presets: []string{"exchange"}, versions: []string{"off"}, comment: "#"},
}

func find(name string) (kind, bool) {
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })
	if i < 0 {
		return kind{}, false
	}
	return kinds[i], true
}

// check refuses facts with which the server would not work, or be a relay for
// everybody.
func (k kind) check(f Facts) error {
	if !Fits(k.name, f.Preset) {
		return k.wrongPreset(f)
	}
	if !slices.Contains(k.versions, f.ProxyProtocol) {
		return k.wrongVersion(f)
	}
	for _, trap := range k.traps {
		if err := trap(f); err != nil {
			return err
		}
	}
	return nil
}

func (k kind) wrongPreset(f Facts) *Error {
	remedy := fmt.Sprintf("if the server is %s, write preset: %s", k.title, k.presets[0])
	if _, ok := find(f.Preset); ok {
		remedy = fmt.Sprintf("smtpseal recipe %s; or %s", f.Preset, remedy)
	}
	return &Error{fmt.Sprintf("backend %s has preset: %s, and this is the recipe for %s", f.Backend, f.Preset, k.title), remedy}
}

func (k kind) wrongVersion(f Facts) *Error {
	remedy := fmt.Sprintf("write proxy_protocol: %s for the backend %s", strings.Join(k.versions, " or "), f.Backend)
	if k.versions[0] == "off" {
		return &Error{fmt.Sprintf("backend %s has proxy_protocol: %s, and %s reads no PROXY header", f.Backend, f.ProxyProtocol, k.title), remedy}
	}
	if f.ProxyProtocol == "off" {
		return &Error{fmt.Sprintf("backend %s has proxy_protocol: off, so %s would take every client for smtpseal", f.Backend, k.title), remedy}
	}
	return &Error{fmt.Sprintf("backend %s has proxy_protocol: %s, and %s reads only %s", f.Backend, f.ProxyProtocol, k.title, strings.Join(k.versions, " and ")), remedy}
}

// sendmailTrustsLoopback: its relay check passes 127.0.0.1 and ::1 before it
// looks into any map or class (proto.m4, Relay_ok). Only a port that asks for a
// login is safe from there.
func sendmailTrustsLoopback(f Facts) *Error {
	if !f.Loopback() || !f.TakesMX() {
		return nil
	}
	return &Error{fmt.Sprintf("backend %s is at %s, takes mail without a login, and Sendmail relays for whoever comes from there: "+
		"that is built in, and would be an open relay", f.Backend, f.Servers[0].Address()),
		"write another address of the machine into servers, such as 192.0.2.10:10025, and keep that address out of relay-domains and the access map; " +
			"or put a listener that is starttls-optional in front of another server"}
}

// dovecotNeedsTLVs: without them Dovecot takes the session for one in clear,
// and announces no way to log in.
func dovecotNeedsTLVs(f Facts) *Error {
	if f.ProxyProtocol == "v2" && slices.Contains(f.ProxyTLVs, "ssl") {
		return nil
	}
	return &Error{fmt.Sprintf("backend %s does not tell Dovecot that the client came by TLS, so it would let nobody log in", f.Backend),
		"write proxy_protocol: v2, and ssl among proxy_tlvs"}
}
