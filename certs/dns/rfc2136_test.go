package dns

import (
	"strings"
	"testing"
	"time"

	"github.com/libdns/libdns"
	"github.com/miekg/dns"

	"smtpseal/test/bind"
)

var aText = []libdns.Record{libdns.TXT{Name: "_acme-challenge", TTL: time.Minute, Text: "value"}}

func TestEveryTSIGAlgorithm(t *testing.T) {
	var config bind.Config
	var policy []string
	for algorithm := range tsigAlgorithms {
		config.Keys = append(config.Keys, bind.Key{Name: algorithm, Algorithm: algorithm, Secret: tsigSecret})
		policy = append(policy, "grant "+algorithm+". zonesub TXT")
	}
	config.Zones = []bind.Zone{{Name: "example.test", Policy: policy}}
	server := bind.Start(t, config)
	for algorithm := range tsigAlgorithms {
		provider := open(t, "rfc2136", Settings{"nameserver": server.Addr(), "tsig_name": algorithm + ".",
			"tsig_algorithm": strings.ToUpper(algorithm) + ".", "tsig_secret": tsigSecret})
		_, err := provider.AppendRecords(t.Context(), "example.test.", aText)
		good(t, err)
		if got := server.Records(t, apex, dns.TypeTXT); len(got) != 1 {
			t.Errorf("%s: %q", algorithm, got)
		}
		_, err = provider.DeleteRecords(t.Context(), "example.test.", aText)
		good(t, err)
		if got := server.Records(t, apex, dns.TypeTXT); len(got) != 0 {
			t.Errorf("%s: left %q", algorithm, got)
		}
	}
}

func TestRefusedUpdatesSayWhatToCheck(t *testing.T) {
	server := bind.Start(t, bind.Config{
		Keys:  []bind.Key{tsigKey, {Name: "other", Algorithm: "hmac-sha256", Secret: tsigSecret}},
		Zones: []bind.Zone{{Name: "example.test", Policy: txtOnly}},
	})
	const wrong = "d3JvbmcgYnV0IGp1c3QgYXMgc2VjcmV0IGFzIHRoZSByaWdodA=="
	for name, test := range map[string]struct {
		settings Settings
		zone     string
		clock    time.Duration
		want     []string
	}{
		"wrong secret":         {Settings{"tsig_secret": wrong}, "example.test.", 0, []string{"BADSIG", "tsig_secret", "key acme"}},
		"unknown key":          {Settings{"tsig_name": "nobody"}, "example.test.", 0, []string{"BADKEY", "no key nobody", "tsig_name"}},
		"wrong algorithm":      {Settings{"tsig_algorithm": "hmac-sha512"}, "example.test.", 0, []string{"BADKEY", "hmac-sha512", "tsig_algorithm"}},
		"clock":                {nil, "example.test.", time.Hour, []string{"BADTIME", "by 1h0m"}},
		"key without right":    {Settings{"tsig_name": "other"}, "example.test.", 0, []string{"REFUSED", "TSIG key other", apex, "zone example.test at " + server.Addr()}},
		"no key":               {Settings{"tsig_name": "", "tsig_secret": ""}, "example.test.", 0, []string{"REFUSED", "without a TSIG key"}},
		"zone of other server": {nil, "example.invalid.", 0, []string{"NOTAUTH", "primary of the zone", "_acme-challenge.example.invalid"}},
		"no name server":       {Settings{"nameserver": "127.0.0.1:1"}, "example.test.", 0, []string{"connection refused", "127.0.0.1:1", "TCP"}},
		"zone set wrongly":     {Settings{"zone": "test"}, "example.test.", 0, []string{"zone test"}},
	} {
		t.Run(name, func(t *testing.T) {
			settings := Settings{"nameserver": server.Addr(), "tsig_name": "acme", "tsig_secret": tsigSecret}
			for key, value := range test.settings {
				settings[key] = value
			}
			provider := open(t, "rfc2136", settings).(*updater)
			provider.now = func() time.Time { return time.Now().Add(test.clock) }
			_, err := provider.AppendRecords(t.Context(), test.zone, aText)
			says(t, err, test.want...)
			if strings.Contains(err.Error(), wrong) {
				t.Errorf("the secret is in the error: %v", err)
			}
		})
	}
}

// The name has to lie in the zone that is set, whatever the caller found.
func TestNameOutsideTheZoneThatIsSet(t *testing.T) {
	provider := open(t, "rfc2136", Settings{"nameserver": "127.0.0.1:1", "zone": "example.test"})
	absolute := []libdns.Record{libdns.RR{Name: "_acme-challenge.example.invalid.", Type: "TXT", Data: "x"}}
	_, err := provider.AppendRecords(t.Context(), "example.invalid.", absolute)
	says(t, err, "_acme-challenge.example.invalid is not in zone example.test", "setting zone")
}

func TestAnUnsignedAnswerIsNotBelieved(t *testing.T) {
	liar := liars(t, func(question *dns.Msg) *dns.Msg { return new(dns.Msg).SetReply(question) })
	_, err := signed(t, liar).AppendRecords(t.Context(), "example.test.", aText)
	says(t, err, "not signed")
}

// liars answers DNS by TCP as a test likes.
func liars(t *testing.T, answer func(*dns.Msg) *dns.Msg) string {
	t.Helper()
	started := make(chan struct{})
	server := &dns.Server{Addr: "127.0.0.1:0", Net: "tcp", NotifyStartedFunc: func() { close(started) },
		MsgAcceptFunc: func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept },
		Handler: dns.HandlerFunc(func(w dns.ResponseWriter, question *dns.Msg) {
			if reply := answer(question); reply != nil {
				w.WriteMsg(reply)
			}
		})}
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	<-started
	t.Cleanup(func() { server.Shutdown(); <-ended })
	return server.Listener.Addr().String()
}

func TestLongTextsAreCutIntoStrings(t *testing.T) {
	server := oneServer(t, "")
	long := strings.Repeat("0123456789", 40) + `"\`
	record := []libdns.Record{libdns.TXT{Name: "long", TTL: time.Minute, Text: long}}
	_, err := signed(t, server.Addr()).AppendRecords(t.Context(), "example.test.", record)
	good(t, err)
	answer := server.Query(t, "long.example.test", dns.TypeTXT)
	if len(answer.Answer) != 1 || !(systemRecord(long)).is(answer.Answer[0]) || len(answer.Answer[0].(*dns.TXT).Txt) != 2 {
		t.Errorf("got %v", answer.Answer)
	}
}

func systemRecord(text string) record { return record{"long.example.test.", "TXT", text} }

func TestSettingsOfRFC2136(t *testing.T) {
	for name, test := range map[string]struct {
		settings Settings
		want     string
	}{
		"no server":        {Settings{}, "nameserver is missing"},
		"unknown key":      {Settings{"nameserver": "127.0.0.1", "tsig_key": "x"}, "unknown key tsig_key"},
		"name alone":       {Settings{"nameserver": "127.0.0.1", "tsig_name": "x"}, "go together"},
		"secret alone":     {Settings{"nameserver": "127.0.0.1", "tsig_secret": tsigSecret}, "go together"},
		"secret no base64": {Settings{"nameserver": "127.0.0.1", "tsig_name": "x", "tsig_secret": "%%hush%%"}, "not base64"},
		"md5":              {Settings{"nameserver": "127.0.0.1", "tsig_name": "x", "tsig_secret": tsigSecret, "tsig_algorithm": "hmac-md5"}, "use one of hmac-sha1, hmac-sha224, hmac-sha256, hmac-sha384, hmac-sha512"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open("rfc2136", test.settings, nil)
			says(t, err, "provider rfc2136", test.want)
			if strings.Contains(err.Error(), "hush") {
				t.Errorf("the secret is in the error: %v", err)
			}
		})
	}
	if _, err := Open("nobody", nil, nil); err == nil || !strings.Contains(err.Error(), "acmedns, cloudflare, digitalocean") {
		t.Errorf("unknown provider: %v", err)
	}
}
