package certs

import "strings"

// A reworded error says the same with fewer words.
type reworded struct {
	error
	text string
}

func (r *reworded) Error() string { return r.text }
func (r *reworded) Unwrap() error { return r.error }

// plain takes out of an error what certmagic and acmez repeat, the name at each
// step and the CA, and what they are called inside. challenge is the one that was
// under way, empty if none was.
func plain(err error, name, challenge string) error {
	text := err.Error()
	if strings.Contains(text, "solving challenge") && challenge != "" {
		text = challenge + ": " + text
	}
	bare := strings.TrimPrefix(name, "*.")
	text = strings.NewReplacer(
		"["+name+"] ", "", "["+bare+"] ", "",
		"solving challenge: "+name+": ", "", "solving challenge: "+bare+": ", "",
		"solving challenges: ", "",
		"presenting for challenge: ", "",
		"waiting for solver certmagic.solverWrapper to be ready: ", "",
		"provisioning client: performing request: ", "",
		"Renew: ", "", "Obtain: ", "",
		"saving assets: ", "storage: save: ",
	).Replace(text)
	if at := strings.LastIndex(text, " (ca="); at >= 0 {
		text = text[:at]
	}
	return &reworded{err, text}
}

// remedy says what to look at for the failures that operators meet most.
func remedy(err error) string {
	text := err.Error()
	if strings.Contains(text, fromDNS) {
		if found := find(dnsRemedies, text); found != "" {
			return found
		}
	}
	if found := find(remedies, text); found != "" {
		return found
	}
	return "see the error; `smtpseal certs renew NAME` tries again at once"
}

func find(table []cure, text string) string {
	for _, c := range table {
		if strings.Contains(text, c.sign) {
			return c.text
		}
	}
	return ""
}

// A cure is a remedy for the errors that have a sign.
type cure struct{ sign, text string }

// remedies are looked through in order. What a CA says comes as text only, its
// problem type (RFC 8555 section 6.7) among it.
var remedies = []cure{
	{"storage", "look at the storage: is it there, may this user write to it, is it full?"},
	{"acme:error:rateLimited", "the CA has had too many requests for this name or account: it is tried again later"},
	{"acme:error:caa", "the CAA records of this name do not allow this CA: change them, or the directory"},
	{"acme:error:externalAccountRequired", "this CA wants acme.eab: key_id and hmac_key, from its web site"},
	{"acme:error:rejectedIdentifier", "this CA does not issue for this name: remove it, or choose another CA"},
	{"acme:error:unauthorized", "another server answered the CA in our place: the name, or the forward of port 80 or 443, leads elsewhere; dns-01 needs neither"},
	{"acme:error:dns", "the CA finds no address for this name: look at its A and AAAA records"},
	{"acme:error:connection", "the CA cannot reach us: ports 80 (http-01) and 443 (tls-alpn-01) of this name must lead to acme.http_listen and acme.tls_alpn_listen; dns-01 needs neither"},
	{"acme:error:tls", "the CA reached something else on port 443: forward it to acme.tls_alpn_listen, or write challenges: [http-01] or [dns-01]"},
	{"certificate signed by unknown authority", "the CA's own certificate is not trusted here: name its root in acme.trusted_roots"},
	{"no such host", "this machine cannot resolve the CA's name: look at its resolver"},
	{"connection refused", "the CA's server is down, or a firewall keeps us from it"},
	{"deadline exceeded", "the CA or the DNS did not answer in time: it is tried again"},
}

// fromDNS begins what went wrong with the challenge in DNS: at the CA, which did
// not see our record, or on the way to the name server or the provider's API.
const fromDNS = "dns-01: "

const unseen = "the CA does not see our TXT record: do all name servers of the zone get its changes, and in time? See acme.dns.propagation_timeout and propagation_delay"

// dnsRemedies come first there: that a connection was refused says nothing about
// the CA then.
var dnsRemedies = []cure{
	{"acme:error:unauthorized", unseen},
	{"acme:error:dns", unseen},
	{"acme:error:", ""}, // as with all challenges
	{"BADSIG", "the TSIG secret is not the name server's: compare acme.dns.tsig_secret with its configuration"},
	{"answer's signature", "the TSIG secret is not the name server's: compare acme.dns.tsig_secret with its configuration"},
	{"BADKEY", "the name server does not know the TSIG key: compare acme.dns.tsig_name and tsig_algorithm with its configuration"},
	{"BADTIME", "the clocks of this machine and the name server differ: set them, by NTP for instance"},
	{"NOTAUTH", "that name server does not own the zone: look at acme.dns.server, which must be the primary, and at acme.dns.zone"},
	{"NOTZONE", "the name is not in that zone: look at acme.dns.zone"},
	{"REFUSED", "the name server refuses us: allow the TSIG key to write below _acme-challenge, and this machine to ask; or name others in acme.dns.resolvers"},
	{"NXDOMAIN", "there is no such name in DNS: is the domain registered, its zone served, and acme.dns.zone right?"},
	{"find the zone", "nobody who was asked knows the zone: name servers that do in acme.dns.resolvers"},
	{"not visible", "the record was written, but not all name servers of the zone show it: look at its transfers, or raise acme.dns.propagation_timeout"},
	{"connection refused", "nobody listens at the name server's or the DNS provider's address: look at acme.dns, and at the firewall there"},
	{"no such host", "this machine cannot resolve the DNS provider's name: look at its resolver"},
	{"no answer", "the name server is silent: look at acme.dns, and at firewalls on the way: port 53 by UDP and by TCP"},
	{"deadline exceeded", "the name server or the DNS provider did not answer in time: it is tried again"},
	{"signed by unknown authority", "the certificate of the DNS provider's API is not trusted here: look at this machine's roots"},
	{"401", "the DNS provider does not take the credentials: look at acme.dns"},
	{"403", "the DNS provider does not let these credentials change the zone: give the token that right"},
	{"", "see the error: the name server or the DNS provider did not do what it was asked; nothing is wrong with the CA"},
}
