package recipe

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

var (
	submissions = Listener{"submissions", "implicit", []string{"465"}}
	submission  = Listener{"submission", "starttls", []string{"587"}}
	mx          = Listener{"mx", "starttls-optional", []string{"25"}}
)

// plain are facts of a machine that has both, with logins alone.
func plain(name string) Facts {
	k, _ := find(name)
	f := Facts{
		Config: "smtpseal.yaml", About: "smtpseal recipe " + name, Hostname: "mail.example.org",
		Backend: "mta", Preset: k.presets[0], ProxyProtocol: k.versions[0],
		Servers: []Server{{"127.0.0.1", "10025"}}, Source: "127.0.0.1",
		Listeners: []Listener{submissions, submission},
	}
	if f.ProxyProtocol == "v2" {
		f.ProxyTLVs = []string{"ssl", "authority", "unique_id"}
	}
	return f
}

// far are facts of servers on machines of their own, by IPv6, with mail from
// other servers.
func far(name string) Facts {
	f := plain(name)
	f.Servers = []Server{{"2001:db8::25", "10025"}, {"2001:db8::25", "10026"}, {"2001:db8::26", "10025"}}
	f.Source = "2001:db8::5"
	f.Listeners = append(f.Listeners, mx)
	return f
}

// other are facts of a server for mail from other servers alone, on the usual
// port.
func other(name string) Facts {
	f := plain(name)
	f.Servers = []Server{{"192.0.2.25", "25"}}
	f.Source = "192.0.2.5"
	f.Listeners = []Listener{{"mx", "starttls-optional", []string{"25", "2525"}}}
	f.Hostname = ""
	f.Config = ""
	return f
}

func TestGolden(t *testing.T) {
	for _, name := range Names() {
		for situation, facts := range map[string]func(string) Facts{"logins": plain, "far": far, "mx": other} {
			r, err := Make(name, facts(name))
			if err != nil {
				t.Errorf("%s, %s: %v", name, situation, err)
				continue
			}
			golden(t, name+"-"+situation+".txt", r.Text())
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

// Whoever reads only what a recipe says knows whom the server must not trust,
// and what to do next; the text has all that the parts have, and a line that
// fits on a screen.
func TestEveryRecipeIsWhole(t *testing.T) {
	for _, name := range Names() {
		for _, facts := range []Facts{plain(name), far(name), other(name)} {
			r, err := Make(name, facts)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			text := r.Text()
			if len(r.Files) == 0 || len(r.Steps) < 3 || len(r.Warnings) < 2 {
				t.Errorf("%s: %d files, %d steps, %d warnings", name, len(r.Files), len(r.Steps), len(r.Warnings))
			}
			if !strings.Contains(strings.Join(r.Warnings, "\n"), facts.Source) {
				t.Errorf("%s: no warning names %s", name, facts.Source)
			}
			for _, f := range r.Files {
				if manners[f.Mode] == "" || !strings.Contains(text, f.Content) || !strings.Contains(text, " --- "+f.Path+" ---\n") {
					t.Errorf("%s: file %+v", name, f)
				}
			}
			for line := range strings.Lines(text) {
				if (len(line) > 112 || strings.Contains(line, "<no value>") || strings.TrimRight(line, " \n") != strings.TrimRight(line, "\n")) && !strings.Contains(line, "    -Bindings") {
					t.Errorf("%s: line %q", name, line)
				}
			}
		}
	}
}

// The whole can be pasted: what is not in a file's text is a comment.
func TestAllElseIsComment(t *testing.T) {
	for _, name := range Names() {
		r, err := Make(name, plain(name))
		if err != nil {
			t.Fatal(err)
		}
		text := r.Text()
		for _, f := range r.Files {
			text = strings.Replace(text, f.Content, "", 1)
		}
		for line := range strings.Lines(text) {
			if line != "\n" && !strings.HasPrefix(line, r.comment) {
				t.Errorf("%s: %q is no comment", name, line)
			}
		}
	}
}

// Where a server would not work, or be a relay for all, there is no recipe.
func TestNoRecipe(t *testing.T) {
	for _, c := range []struct {
		what, name string
		change     func(*Facts)
		want       []string // of the problem, and of the remedy
	}{
		{"another preset", "postfix", func(f *Facts) { f.Preset, f.ProxyProtocol = "exchange", "off" }, []string{"preset: exchange", "smtpseal recipe exchange", "preset: postfix"}},
		{"a preset without recipe", "exim", func(f *Facts) { f.Preset = "haraka" }, []string{"preset: haraka", "write preset: exim"}},
		{"a new one for the old", "postfix-old", func(f *Facts) { f.Preset = "postfix" }, []string{"preset: postfix", "smtpseal recipe postfix"}},
		{"v1 for OpenSMTPD", "opensmtpd", func(f *Facts) { f.ProxyProtocol = "v1" }, []string{"reads only v2", "proxy_protocol: v2"}},
		{"v2 for an old Postfix", "postfix-old", func(f *Facts) { f.ProxyProtocol = "v2" }, []string{"reads only v1", "proxy_protocol: v1"}},
		{"none for Postfix", "postfix", func(f *Facts) { f.ProxyProtocol = "off" }, []string{"every client for smtpseal", "proxy_protocol: v2 or v1"}},
		{"v2 for Sendmail", "sendmail", func(f *Facts) { f.ProxyProtocol = "v2" }, []string{"reads no PROXY header", "proxy_protocol: off"}},
		{"v1 for Exchange", "exchange", func(f *Facts) { f.ProxyProtocol = "v1" }, []string{"reads no PROXY header", "proxy_protocol: off"}},
		{"Sendmail on loopback without logins", "sendmail", func(f *Facts) { f.Listeners = append(f.Listeners, mx) }, []string{"127.0.0.1:10025", "open relay", "another address"}},
		{"Dovecot without the fact of TLS", "dovecot", func(f *Facts) { f.ProxyTLVs = nil }, []string{"nobody log in", "ssl among proxy_tlvs"}},
		{"Dovecot with v1", "dovecot", func(f *Facts) { f.ProxyProtocol = "v1" }, []string{"nobody log in", "proxy_protocol: v2"}},
	} {
		f := plain(c.name)
		c.change(&f)
		r, err := Make(c.name, f)
		var wrong *Error
		if !errors.As(err, &wrong) {
			t.Errorf("%s: %v, %v", c.what, r, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(wrong.Problem+"\n"+wrong.Remedy, want) {
				t.Errorf("%s: %q; %q: want %q", c.what, wrong.Problem, wrong.Remedy, want)
			}
		}
		if strings.Contains(wrong.Remedy, "recipe haraka") {
			t.Errorf("%s: there is no such recipe: %q", c.what, wrong.Remedy)
		}
	}
}

// The preset plain says nothing about the server, so every recipe fits; the
// one for Postfix takes an old one, too.
func TestPresetsThatFit(t *testing.T) {
	for _, name := range Names() {
		f := plain(name)
		f.Preset = "plain"
		if _, err := Make(name, f); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	f := plain("postfix")
	f.Preset, f.ProxyProtocol = "postfix-old", "v1"
	if _, err := Make("postfix", f); err != nil {
		t.Error(err)
	}
	if Fits("nothing", "plain") {
		t.Error("nothing fits")
	}
}

func TestTargets(t *testing.T) {
	for _, c := range []struct {
		listeners []Listener
		want      string
	}{
		{[]Listener{submissions, submission, mx}, "probe mail.example.org"},
		{[]Listener{submissions, {"test", "starttls", []string{"1587"}}}, "probe mail.example.org mail.example.org:1587"},
		{[]Listener{{"unix", "implicit", nil}}, "probe mail.example.org"},
	} {
		f := plain("exim")
		f.Listeners = c.listeners
		r, err := Make("exim", f)
		if err != nil || !slices.Contains(r.Steps, "smtpseal "+c.want) {
			t.Errorf("%v: %v %v, want %s", c.listeners, r, err, c.want)
		}
	}
}

// Who has an internal certificate is told how to trust it before a probe that
// would fail without; who takes logins is told to try one, where one can.
func TestLastSteps(t *testing.T) {
	for _, c := range []struct {
		what   string
		name   string
		change func(*Facts)
		want   []string // after the check
	}{
		{"public", "postfix", func(*Facts) {}, []string{"smtpseal probe mail.example.org", swaks + "587 --tls" + login}},
		{"internal", "postfix", func(f *Facts) { f.Internal = true }, []string{
			"smtpseal certs export -c smtpseal.yaml --root > root.pem", "smtpseal probe mail.example.org --ca root.pem", swaks + "587 --tls" + login}},
		{"implicit TLS alone", "exim", func(f *Facts) { f.Listeners = []Listener{mx, submissions} }, []string{"smtpseal probe mail.example.org", swaks + "465 -tlsc" + login}},
		{"no people", "exim", func(f *Facts) { f.Listeners = []Listener{mx} }, []string{"smtpseal probe mail.example.org"}},
		{"no port", "exim", func(f *Facts) { f.Listeners = []Listener{{"unix", "starttls", nil}} }, []string{"smtpseal probe mail.example.org"}},
		{"nobody can log in", "opensmtpd", func(*Facts) {}, []string{"smtpseal probe mail.example.org"}},
	} {
		f := plain(c.name)
		c.change(&f)
		r, err := Make(c.name, f)
		if err != nil {
			t.Fatal(err)
		}
		_, last, _ := strings.Cut(strings.Join(r.Steps, "\n"), "smtpseal check -c smtpseal.yaml\n")
		if want := strings.Join(c.want, "\n"); last != want {
			t.Errorf("%s:\n%s\nwant\n%s", c.what, last, want)
		}
	}
}

const (
	swaks = "swaks --server mail.example.org:"
	login = " --auth --auth-user NAME --from ADDRESS --to ADDRESS"
)
