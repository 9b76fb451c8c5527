package admin

// A worry is something that is wrong while mail flows.
type worry struct {
	what  string
	why   string // "" if that is not known
	short string // beside a worse one; "" for what
}

func (w worry) long() string { return w.what + colon(w.why) }

func (w worry) brief() string { return first(w.short, w.what) }

// worries are all there are, the worst first. Where a listener is cut off, what
// may cut it off has been said and is left out.
func (s *Status) worries(cut bool) (all []worry) {
	all = append(all, s.certificateProblems(cut)...)
	all = append(all, s.serversDown(cut)...)
	if !cut {
		all = append(all, s.withoutTLS()...)
	}
	if !cut && !s.Ready && len(all) == 0 { // else the reasons are those above
		all = append(all, worry{what: "clients are sent elsewhere, because smtpseal is not ready", why: first(s.Reasons...)})
	}
	for _, b := range s.Backends {
		if b.Warning != "" {
			all = append(all, worry{what: "backend " + b.Name + " needs a look", why: b.Warning})
		}
	}
	all = append(all, s.notReplaced(cut)...)
	if s.Reloads.Last.Result == failed {
		all = append(all, worry{"the configuration is the old one, because the last reload failed", s.Reloads.Last.Error,
			"the configuration on disk was refused"})
	}
	return all
}

func (s *Status) certificateProblems(cut bool) (all []worry) {
	for _, c := range s.Certificates {
		if c.Problem != "" && !(cut && c.NotAfter.IsZero()) {
			all = append(all, worry{what: "see the certificate for " + c.title(), why: c.Problem})
		}
	}
	return all
}

func (s *Status) serversDown(cut bool) (all []worry) {
	for _, b := range s.Backends {
		if cut && b.down() != "" {
			continue
		}
		for _, server := range b.Servers {
			if !server.Up {
				all = append(all, worry{what: "server " + server.Address + " of backend " + b.Name + " is down", why: server.Error})
			}
		}
	}
	return all
}

func (s *Status) withoutTLS() (all []worry) {
	for _, l := range s.Listeners {
		if !l.TLSReady && !l.Removed {
			all = append(all, worry{what: l.Name + " has no TLS", why: s.noCertificate()})
		}
	}
	return all
}

// notReplaced are certificates that are well, but that should be newer ones.
func (s *Status) notReplaced(cut bool) (all []worry) {
	for _, c := range s.Certificates {
		switch {
		case c.Problem != "" || c.LastError == "":
		case !c.NotAfter.IsZero():
			all = append(all, worry{what: "the certificate for " + c.title() + " was not replaced", why: c.LastError})
		case !cut:
			all = append(all, worry{what: "there is no certificate for " + c.title(), why: c.LastError})
		}
	}
	return all
}
