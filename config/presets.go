package config

// A preset is what is known about a kind of mail server.
type preset struct {
	name          string
	proxyProtocol string
	hide          []string // EHLO keywords for servers only
}

var presets = []preset{
	{name: "postfix", proxyProtocol: "v2"},     // 3.5 and later
	{name: "postfix-old", proxyProtocol: "v1"}, // 2.10 to 3.4
	{name: "exim", proxyProtocol: "v2"},        // built with SUPPORT_PROXY
	{name: "opensmtpd", proxyProtocol: "v2"},   // listen … proxy-v2
	{name: "dovecot", proxyProtocol: "v2"},     // submission, haproxy = yes
	{name: "haraka", proxyProtocol: "v1"},      // v2 was never seen to work
	{name: "chasquid", proxyProtocol: "v1"},    // haproxy_incoming: true
	{name: "sendmail", proxyProtocol: "off"},   // reads none
	{name: "exchange", proxyProtocol: "off", // resets a connection that begins with one
		hide: []string{"X-EXPS", "XRDST", "XSHADOW", "XSHADOWREQUEST", "XPROXY*", "XSESSIONPARAMS"}},
	{name: "plain", proxyProtocol: "off"},
}

// findPreset returns plain for a name that it does not know.
func findPreset(name string) preset {
	for _, p := range presets {
		if p.name == name {
			return p
		}
	}
	return presets[len(presets)-1]
}

func presetNames() []string {
	var all []string
	for _, p := range presets {
		all = append(all, p.name)
	}
	return all
}

// defaultTLVs are sent to every backend that reads v2 and is told nothing
// else: what Dovecot makes use of, and the session id for the backend's log.
func defaultTLVs() []string { return []string{"ssl", "authority", "unique_id"} }
