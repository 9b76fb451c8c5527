package config

import (
	"fmt"
	"strings"
)

// Warnings are what is allowed and most likely not meant, each with what to
// do, in plain words for the operator.
func (c *Config) Warnings() []string {
	var all []string
	used := make(map[string]bool)
	for _, l := range c.Listeners {
		used[l.Backend] = true
		all = append(all, l.warnings()...)
	}
	for _, b := range c.Backends {
		if !used[b.Name] {
			all = append(all, fmt.Sprintf("backend %s: no listener uses it; name it as a listener's backend, or remove it", b.Name))
		}
		if b.ProxyProtocol == "off" {
			all = append(all, fmt.Sprintf("backend %s: proxy_protocol is off, so it takes every client for this machine. "+
				"If it trusts this machine's address it relays mail for the whole Internet; if it bans that address it shuts everybody out; "+
				"its log, SPF and block lists see no client. %s", b.Name, instruction(b.Preset)))
		}
	}
	return append(all, c.certificateWarnings()...)
}

// instruction is the remedy for a backend that is not told who the client is.
func instruction(preset string) string {
	switch preset {
	case "exchange":
		return "Give this machine's address a receive connector of its own that asks for a login and has no right to relay"
	case "sendmail":
		return "Take this machine's address out of what may relay (the access map, relay-domains, class R), and let the sessions log in. " +
			"On the same machine reach Sendmail by another address than 127.0.0.1 and ::1, for which it relays whatever its files say, or by a port that demands a login (M=a): smtpseal recipe sendmail"
	}
	return "Write proxy_protocol: v2, or v1, and turn it on at the mail server as well; " +
		"if that cannot be, take this machine's address out of whatever it trusts (mynetworks, relay hosts)"
}

func (l Listener) warnings() []string {
	var all []string
	for _, p := range l.AcceptProxy {
		if p.Bits() == 0 {
			all = append(all, fmt.Sprintf("listener %s: accept_proxy %s lets every client say which address it has, and a backend believes it. "+
				"Write the addresses of the load balancers in front", l.Name, p))
		}
	}
	for _, a := range l.Listen {
		port := a.Addr[strings.LastIndex(a.Addr, ":")+1:]
		usual, ok := usualModes[port]
		switch {
		case !ok || a.Network != "tcp" || usual == l.Mode:
		case port == "25" && l.Mode == "starttls":
			all = append(all, fmt.Sprintf("listener %s: tls is starttls on port 25, so a mail server without TLS cannot deliver here. "+
				"If mail from the Internet comes in here, write tls: starttls-optional", l.Name))
		case port == "587" && l.Mode == "starttls-optional":
			all = append(all, fmt.Sprintf("listener %s: tls is starttls-optional on port 587, so mail may be handed in without TLS. "+
				"Write tls: starttls", l.Name))
		default:
			all = append(all, fmt.Sprintf("listener %s: tls is %s on port %s, where clients expect %s and will wait in vain. "+
				"Write tls: %s, or another port", l.Name, l.Mode, port, usual, usual))
		}
	}
	return all
}
