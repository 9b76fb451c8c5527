package probe_test

import (
	"crypto/sha256"
	"encoding/hex"
	"net"
	"strings"
	"testing"

	"smtpseal/probe"
	"smtpseal/test/faulty"
)

// What DNS and the policy may say, and what that means for the one check that
// looks at it.
func TestRecordsAndPolicyAgreeOrNot(t *testing.T) {
	t.Parallel()
	tlsa := "TLSA _25._tcp." + faulty.Name + "."
	mx := "MX " + faulty.Domain + "."
	sts := "TXT _mta-sts." + faulty.Domain + "."
	other := strings.Repeat("ab", 32)
	policy := func(mode, host string) string {
		return "version: STSv1\nmode: " + mode + "\nmx: " + host + "\nmax_age: 86400\n"
	}
	for _, c := range []struct {
		name   string
		change func(*rig)
		id     string
		want   probe.Status
		says   string
	}{
		{"TLSA of another key", func(r *rig) { r.records[tlsa] = []string{"3 1 1 " + other} }, "tlsa", probe.Fail, "deliver no mail"},
		{"TLSA of another and this key", func(r *rig) { r.records[tlsa] = append(r.records[tlsa], "3 1 1 "+other) }, "tlsa", probe.OK, "(AD)"},
		{"TLSA of the issuer", func(r *rig) { r.records[tlsa] = []string{"2 0 1 " + r.issuer()} }, "tlsa", probe.OK, "2 0 1"},
		{"TLSA that mail ignores", func(r *rig) { r.records[tlsa] = []string{"1 1 1 " + other} }, "tlsa", probe.Warn, "ignore"},
		{"TLSA without signatures", func(r *rig) { r.signed = false }, "tlsa", probe.Warn, "no AD"},
		{"no TLSA", func(r *rig) { delete(r.records, tlsa) }, "tlsa", probe.Note, "nobody does DANE"},
		{"TLSA that DNS cannot say", func(r *rig) { r.records[tlsa] = []string{"SERVFAIL"} }, "tlsa", probe.Warn, "SERVFAIL"},

		{"MX of another host", func(r *rig) { r.records[mx] = []string{"10 mx.example.test."}; r.options.Domain = faulty.Domain }, "mx", probe.Warn, "name mx.example.test"},
		{"no MX", func(r *rig) { delete(r.records, mx); r.options.Domain = faulty.Domain }, "mx", probe.Note, "no MX record"},
		{"no domain known", func(r *rig) { delete(r.records, mx) }, "mx", probe.Note, "--domain"},

		{"no MTA-STS", func(r *rig) { delete(r.records, sts) }, "mta-sts", probe.Note, "no MTA-STS record"},
		{"two MTA-STS records", func(r *rig) { r.records[sts] = append(r.records[sts], `"v=STSv1; id=2"`) }, "mta-sts", probe.Fail, "take none"},
		{"MTA-STS without id", func(r *rig) { r.records[sts] = []string{`"v=STSv1"`} }, "mta-sts", probe.Fail, "no id"},
		{"no policy", func(r *rig) { r.policy = "" }, "mta-sts", probe.Fail, "404"},
		{"policy elsewhere", func(r *rig) { r.policy = "redirect https://elsewhere.example/" }, "mta-sts", probe.Fail, "302"},
		{"endless policy", func(r *rig) { r.policy = policy("enforce", strings.Repeat("x", 70<<10)) }, "mta-sts", probe.Fail, "more than 65536 octets"},
		{"policy of another version", func(r *rig) { r.policy = "version: STSv2\n" }, "mta-sts", probe.Fail, "version: STSv1"},
		{"policy of no mode", func(r *rig) { r.policy = policy("strict", "*.example.test") }, "mta-sts", probe.Fail, `mode is "strict"`},
		{"policy of another host", func(r *rig) { r.policy = policy("enforce", "mx.example.test") }, "mta-sts", probe.Fail, "not mail.example.test"},
		{"pattern of one label", func(r *rig) { r.policy = policy("testing", "*.test") }, "mta-sts", probe.Fail, "not mail.example.test"},
		{"policy in testing", func(r *rig) { r.policy = policy("testing", faulty.Name) }, "mta-sts", probe.OK, "mode testing"},
		{"policy of mode none", func(r *rig) { r.policy = policy("none", "x") }, "mta-sts", probe.Note, "mode none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := build(t, faulty.Config{Mode: "starttls-optional"})
			r.mu.Lock()
			c.change(r)
			r.mu.Unlock()
			e, all, _ := r.run(t)
			got := find(t, e, c.id)
			if got.Status != c.want || !strings.Contains(got.Detail+got.Remedy, c.says) {
				t.Errorf("%+v", got)
			}
			for id, status := range all {
				if dns := id == "mx" || id == "mta-sts" || id == "tlsa"; !dns && status != probe.OK {
					t.Errorf("%s is %s", id, status)
				}
			}
		})
	}
}

// issuer is the fingerprint of what has signed the certificate.
func (r *rig) issuer() string {
	chains, err := r.server.Certificate().Verify(r.server.VerifyOptions())
	if err != nil {
		panic(err)
	}
	sum := sha256.Sum256(chains[0][1].Raw)
	return hex.EncodeToString(sum[:])
}

// A host is looked at on three ports, of which 25 need not be open; a domain
// stands for the host of its MX record.
func TestHostsAndDomainsHaveThreePorts(t *testing.T) {
	t.Parallel()
	for _, named := range []string{faulty.Name, faulty.Domain} {
		r := build(t, faulty.Config{Mode: "implicit"})
		r.options.Targets = []probe.Target{{Host: named}}
		submission := faulty.Start(t, faulty.Config{Mode: "starttls"})
		r.where[faulty.Name+":587"] = submission.Addr()
		report := probe.Run(t.Context(), r.options, nil)
		var addresses []string
		for _, e := range report.Endpoints {
			addresses = append(addresses, e.Address)
		}
		if want := faulty.Name + ":465 " + faulty.Name + ":587 " + faulty.Name + ":25"; strings.Join(addresses, " ") != want {
			t.Errorf("%s: %v", named, addresses)
			continue
		}
		if last := report.Endpoints[2].Checks; len(last) != 1 || last[0].Status != probe.Note {
			t.Errorf("25: %+v", last)
		}
		if len(report.Endpoints[0].Checks) < 20 || find(t, report.Endpoints[1], "chain").Status != probe.Fail { // another CA
			t.Errorf("%+v", report)
		}
	}
}

// A port that says nothing about its mode is listened to.
func TestModeIsGuessedByWhatTheServerDoes(t *testing.T) {
	t.Parallel()
	for mode, port := range map[string]string{"implicit": "1465", "starttls": "1587", "starttls-optional": "1025"} {
		r := build(t, faulty.Config{Mode: mode})
		r.where[net.JoinHostPort(faulty.Name, port)] = r.server.Addr()
		r.options.Targets[0].Port = port
		e, _, report := r.run(t)
		if string(e.Mode) != mode || report.Failures != 0 {
			t.Errorf("%s: taken for %s, %d failures", mode, e.Mode, report.Failures)
		}
	}
}
