package admin

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"go.uber.org/zap"
)

// RequestHeader must come, as 1, with each request that changes something. A
// foreign page's form cannot send it, and its script may not without our leave
// (CORS), which we never give.
const RequestHeader = "Smtpseal-Request"

// A guard says why a request is refused, in words for the person who sent it;
// "" lets it pass.
type guard func(*Server, *http.Request) string

// anyone passes: probes and scrapers come by names of services, and learn
// nothing that a foreign page could not do without.
func anyone(*Server, *http.Request) string { return "" }

// reader passes whoever asks us by a name that is ours. A page of evil.example
// can let that name point to our address (DNS rebinding) and is then same-origin
// to us for the browser; but the browser says evil.example in Host.
func reader(s *Server, r *http.Request) string {
	if overUnix(r) || s.ownHost(r.Host) {
		return ""
	}
	return "refused: the request's Host is " + quote(r.Host) + ", which is not one of this listener's names. " +
		"Ask by its IP address or as localhost, or add the name to admin.hosts in the configuration."
}

// expensive passes readers, but no image or script tag of a foreign page: the
// answer would stay hidden from it, yet cost us half a minute of a processor.
func expensive(s *Server, r *http.Request) string {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return reader(s, r)
	}
	return "refused: the request comes from another web page. Type the address, or use curl."
}

// changer passes commands and scripts of people who mean it.
func changer(s *Server, r *http.Request) string {
	if why := reader(s, r); why != "" {
		return why
	}
	// By Sec-Fetch-Site, or by Origin and Host in browsers that lack it.
	if new(http.CrossOriginProtection).Check(r) != nil {
		return "refused: the request comes from a web page that is not this listener's own. " +
			"Use the commands (smtpseal drain, smtpseal reload, smtpseal certs renew), or curl without an Origin header."
	}
	if r.Header.Get(RequestHeader) != "1" {
		return "refused: a request that changes something needs the header " + RequestHeader + ": 1, which no foreign web page can send. " +
			"Use the commands (smtpseal drain, smtpseal reload, smtpseal certs renew), or curl -X POST -H '" + RequestHeader + ": 1'."
	}
	return ""
}

// overUnix reports whether a request came by a unix socket: no browser can open
// one, and Host means nothing there.
func overUnix(r *http.Request) bool {
	addr, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return addr != nil && addr.Network() == "unix"
}

// ownHost reports whether a Host is ours. Every IP address is: whoever rebinds
// needs a name. The port does not matter, as it may be forwarded.
func (s *Server) ownHost(hostport string) bool {
	host := hostname(hostport)
	if _, err := netip.ParseAddr(host); err == nil || host == "localhost" {
		return true
	}
	for _, own := range s.access().hosts {
		if host != "" && host == hostname(own) {
			return true
		}
	}
	return false
}

// hostname is a Host without port, brackets and the dot at the end.
func hostname(hostport string) string {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	} else if strings.HasPrefix(host, "[") {
		host = strings.TrimSuffix(host[1:], "]")
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// quote makes a foreign text fit for an answer: short and printable.
func quote(text string) string {
	const most = 100
	if text == "" {
		return "empty"
	}
	printable := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text[:min(len(text), most)])
	return `"` + printable + `"`
}

// guarded lets a request to its handler, or says why not.
func (s *Server) guarded(pass guard, serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if why := pass(s, r); why != "" {
			s.log().Warn("admin request refused", zap.String("path", r.URL.Path), zap.String("client", r.RemoteAddr),
				zap.String("host", r.Host), zap.String("origin", r.Header.Get("Origin")))
			http.Error(w, why, http.StatusForbidden)
			return
		}
		serve(w, r)
	}
}

// harden sets what keeps a browser from lending our answers to foreign pages,
// and from keeping them.
func harden(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Server", serverName)
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		next.ServeHTTP(w, r)
	})
}
