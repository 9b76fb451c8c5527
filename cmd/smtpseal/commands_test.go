package main

import (
	"encoding/json"
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

// Wrong usage is 2, a bad configuration is 1, and either is said on standard
// error alone.
func TestWrongUsageIsTwoAndSaysWhereToLook(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"", "no command given; try: smtpseal demo\n  see: smtpseal --help"},
		{"rnu", "unknown command \"rnu\"; did you mean \"run\"?\n  see: smtpseal --help"},
		{"frobnicate", "unknown command \"frobnicate\"\n  see: smtpseal --help"},
		{"probes example.org", "unknown command \"probes\"; did you mean \"probe\"?\n  see: smtpseal --help"},
		{"--frob", "unknown flag: --frob\n  see: smtpseal --help"},
		{"run --frob", "unknown flag: --frob\n  see: smtpseal run --help"},
		{"run -z", "unknown shorthand flag: 'z' in -z\n  see: smtpseal run --help"},
		{"run -c", "flag needs an argument: 'c' in -c\n  see: smtpseal run --help"},
		{"run --config=", "-c needs the name of a file\n  see: smtpseal run --help"},
		{"check --config= --json", "-c needs the name of a file\n  see: smtpseal check --help"},
		{"config --config=", "-c needs the name of a file\n  see: smtpseal config --help"},
		{"run file.yaml", "run takes no argument, but got \"file.yaml\"\n  see: smtpseal run --help"},
		{"run -c x --domain localhost", "-c cannot be mixed with --domain: write it into the file\n  see: smtpseal run --help"},
		{"run -c x --proxy-protocol v2 --email a@b", "-c cannot be mixed with --email, --proxy-protocol: write it into the file\n  see: smtpseal run --help"},
		{"run --domain localhost", "--domain needs --backend HOST:PORT\n  see: smtpseal run --help"},
		{"run --domain= --proxy-protocol v1", "--domain needs --backend HOST:PORT\n  see: smtpseal run --help"},
		{"run --backend 127.0.0.1:25", "--backend needs --domain NAME\n  see: smtpseal run --help"},
		{"run --email a@b", "--email needs --domain NAME\n  see: smtpseal run --help"},
		{"check --domain localhost", "unknown flag: --domain\n  see: smtpseal check --help"},
		{"check x", "check takes no argument, but got \"x\"\n  see: smtpseal check --help"},
		{"check --json=maybe", "invalid argument \"maybe\" for \"--json\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax\n  see: smtpseal check --help"},
		{"config x", "config takes no argument, but got \"x\"\n  see: smtpseal config --help"},
		{"recipe", "recipe needs a mail server: postfix, postfix-old, exim, opensmtpd, sendmail, dovecot and exchange\n  see: smtpseal recipe --help"},
		{"recipe qmail", "no recipe for \"qmail\"; there are postfix, postfix-old, exim, opensmtpd, sendmail, dovecot and exchange\n  see: smtpseal recipe --help"},
		{"recipe exim postfix", "recipe takes one argument, but got also \"postfix\"\n  see: smtpseal recipe --help"},
		{"recipe exim --config=", "-c needs the name of a file\n  see: smtpseal recipe --help"},
		{"demo twice", "demo takes no argument, but got \"twice\"\n  see: smtpseal demo --help"},
		{"version x", "version takes no argument, but got \"x\"\n  see: smtpseal version --help"},
		{"completion", "completion needs a shell: bash, zsh, fish or powershell\n  see: smtpseal completion --help"},
		{"completion tcsh", "unknown shell \"tcsh\"; there are bash, zsh, fish and powershell\n  see: smtpseal completion --help"},
		{"completion bash zsh", "completion takes one argument, but got also \"zsh\"\n  see: smtpseal completion --help"},
		{"man", "man needs a directory to write into\n  see: smtpseal man --help"},
		{"man a b", "man takes one argument, but got also \"b\"\n  see: smtpseal man --help"},
		{"help nothing", "no help for \"nothing\"\n  see: smtpseal help --help"},
		{"help run fast", "no help for \"run fast\"\n  see: smtpseal help --help"},
	} {
		code, stdout, stderr := command(strings.Fields(c.line)...)
		if want := "smtpseal: " + c.want + "\n"; code != 2 || stdout != "" || stderr != want {
			t.Errorf("smtpseal %s: exit %d\nstdout %q\nstderr %q\nwant   %q", c.line, code, stdout, stderr, want)
		}
	}
}

func TestBadConfigurationIsOneAndSaysWhatToWrite(t *testing.T) {
	missing := t.TempDir() + "/none.yaml"
	bad := write(t, "bad.yaml", "listenres: []\n")
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"run", "-c", missing}, []string{"smtpseal: configuration " + missing + ": there is no such file\n", "smtpseal run --domain NAME --backend HOST:PORT", "smtpseal demo"}},
		{[]string{"config", "-c", missing}, []string{missing + ": there is no such file"}},
		{[]string{"check", "-c", missing}, []string{missing + ": there is no such file; write one after config.example.yaml"}},
		{[]string{"run", "-c", bad}, []string{bad + ":1: listenres: is no key here; did you mean `listeners`?\n", bad + ":1: backends: is missing"}},
		{[]string{"config", "-c", bad}, []string{bad + ":1: listenres: is no key here"}},
		{[]string{"run", "--domain", "localhost", "--backend", "nowhere"}, []string{`--backend: "nowhere" is no address; `}},
		{[]string{"run", "--domain", "localhost", "--backend", "127.0.0.1:25", "--proxy-protocol", "v3"}, []string{"--proxy-protocol: "}},
		{[]string{"run", "--domain", "mail.example.org", "--backend", "127.0.0.1:25", "--email", "nobody"}, []string{`--email: "nobody" is no email address; `}},
		{[]string{"run", "--domain", "", "--backend", "127.0.0.1:25"}, []string{"--domain: "}},
		{[]string{"man", bad + "/below"}, []string{"smtpseal: mkdir " + bad}},
	} {
		code, stdout, stderr := command(c.args...)
		if code != 1 || stdout != "" || !containsAll(stderr, c.want) {
			t.Errorf("smtpseal %q: exit %d\nstdout %q\nstderr %s\nwant %q", c.args, code, stdout, stderr, c.want)
		}
	}
}

func TestHelp(t *testing.T) {
	for _, topic := range []string{"", "run", "check", "config", "recipe", "demo", "probe", "status", "version", "completion", "man", "help"} {
		args := append([]string{"help"}, strings.Fields(topic)...)
		code, stdout, stderr := command(args...)
		if code != 0 || stderr != "" {
			t.Errorf("help %s: exit %d, stderr %q", topic, code, stderr)
		}
		golden(t, "help/smtpseal"+strings.TrimSuffix("-"+topic, "-")+".txt", stdout)
		args = append(strings.Fields(topic), "--help")
		if code, flagged, _ := command(args...); code != 0 || flagged != stdout {
			t.Errorf("smtpseal %s --help: exit %d, not the same as help %s:\n%s", topic, code, topic, flagged)
		}
	}
}

func TestVersionNamesCompilerAndPlatform(t *testing.T) {
	code, stdout, _ := command("version")
	if code != 0 || !containsAll(stdout, []string{"smtpseal ", runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}) {
		t.Errorf("exit %d: %q", code, stdout)
	}
	var v map[string]any
	code, stdout, _ = command("version", "--json")
	if err := json.Unmarshal([]byte(stdout), &v); code != 0 || err != nil {
		t.Fatalf("exit %d, %v: %s", code, err, stdout)
	}
	if v["version"] == "" || v["go"] != runtime.Version() || v["platform"] != runtime.GOOS+"/"+runtime.GOARCH {
		t.Errorf("%v", v)
	}
	if code, stdout, _ = command("--version"); code != 0 || !strings.HasPrefix(stdout, "smtpseal ") {
		t.Errorf("--version: exit %d: %q", code, stdout)
	}
}

func TestVersionSaysWhatTheTreeWas(t *testing.T) {
	v := version{Version: "v1.2.3", Revision: "abc", Modified: true, Go: "go1", Platform: "x/y"}
	if got := v.String(); got != "smtpseal v1.2.3 revision abc (modified) go1 x/y" {
		t.Error(got)
	}
}

// Only bash is sure to be there to parse its script; for the others it is
// checked that there is one and that it asks the program.
func TestCompletionScripts(t *testing.T) {
	for shell := range shells {
		code, script, stderr := command("completion", shell)
		if code != 0 || stderr != "" || !strings.Contains(script, "__complete") {
			t.Errorf("%s: exit %d, stderr %q, %d bytes of script", shell, code, stderr, len(script))
		}
		if shell != "bash" {
			continue
		}
		bash := exec.Command("bash", "-n")
		bash.Stdin = strings.NewReader(script)
		if out, err := bash.CombinedOutput(); err != nil {
			t.Errorf("bash -n: %v\n%s", err, out)
		}
	}
}

func TestCompletionKnowsCommandsAndValues(t *testing.T) {
	for line, want := range map[string]string{
		"ru":                    "run\t",
		"completion z":          "zsh",
		"run --proxy-protocol ": "v2",
		"run --dom":             "--domain\t",
		"check --js":            "--json\t",
	} {
		fields := strings.Split("__complete "+line, " ")
		if _, stdout, _ := command(fields...); !strings.Contains(stdout, want) {
			t.Errorf("%q: no %q in %q", line, want, stdout)
		}
	}
}
