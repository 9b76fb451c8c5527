package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/mail"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"smtpseal/cmd/smtpseal/demo"
	"smtpseal/test/talk"
)

// leftovers fails a test whose demo leaves something on the disk.
func leftovers(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Cleanup(func() {
		if found, _ := filepath.Glob(dir + "/*"); len(found) > 0 {
			t.Errorf("left behind: %v", found)
		}
	})
}

func TestDemoOnce(t *testing.T) {
	leftovers(t)
	implicit, starttls := free(t), free(t)
	code, stdout, stderr := command("demo", "--once", "--listen-465", implicit, "--listen-587", starttls)
	if code != 0 {
		t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
	}
	if n := strings.Count(stdout, "✓ It arrived intact: "); n != 2 || !strings.Contains(stdout, "✓ Both messages arrived intact, byte for byte.") {
		t.Errorf("%d messages arrived intact", n)
	}
	if n := strings.Count(stderr, "session closed"); n != 2 {
		t.Errorf("%d sessions in the log:\n%s", n, stderr)
	}
	if strings.Contains(stdout, "\x1b") {
		t.Error("colours where there is no terminal")
	}
	golden(t, "demo-once.txt", masked(stdout, implicit, starttls))
}

// masked replaces what differs from run to run.
func masked(text, implicit, starttls string) string {
	text = strings.NewReplacer(implicit, "127.0.0.1:1465", starttls, "127.0.0.1:1587").Replace(text)
	for _, m := range []struct{ pattern, with string }{
		{`(client +127\.0\.0\.1:)\d+`, "${1}PORT"},
		{`(servers: \["127\.0\.0\.1:)\d+`, "${1}PORT"},
		{`(path: ")[^"]*`, "${1}DIR"},
		{`(Date: ).*`, "${1}DATE"},
		{`(unique id  ")[0-9a-f]+`, "${1}ID"},
	} {
		text = regexp.MustCompile(m.pattern).ReplaceAllString(text, m.with)
	}
	return text
}

func TestDemoStaysUpAndItsCommandsNameWhatIsThere(t *testing.T) {
	leftovers(t)
	implicit, starttls := free(t), free(t)
	stage, signals, code := new(tape), make(chan os.Signal, 1), make(chan int, 1)
	p := program{stdout: stage, stderr: new(tape), signals: func() (<-chan os.Signal, func()) { return signals, func() {} }}
	go func() { code <- p.execute([]string{"demo", "--listen-465", implicit, "--listen-587", starttls}) }()
	curl := stage.await(t, "curl --cacert ", " smtps://localhost:")
	stage.await(t, "openssl s_client", "-starttls smtp")
	stage.await(t, "swaks", "--tlsc", "--tls-verify")
	for _, file := range regexp.MustCompile(`/\S+\.(pem|eml)`).FindAllString(curl, -1) {
		text, err := os.ReadFile(file)
		if err != nil || len(text) == 0 {
			t.Errorf("%s: %d bytes, %v", file, len(text), err)
		}
	}
	// What a user sends from another terminal is shown too.
	talk.With(t, dialTLS(t, implicit)).Play("< 220\n> HELO user.example\n< 250\n> MAIL FROM:<>\n< 250\n" +
		"> RCPT TO:<someone@example.org>\n< 250\n> DATA\n< 354\n> typed by hand\n> .\n< 250\n> QUIT\n< 221")
	stage.await(t, "✓ The mail server took a message from <> to <someone@example.org>: 15 bytes")
	signals <- reloadSignal // as when the terminal is closed
	select {
	case got := <-code:
		if got != 0 {
			t.Errorf("exit %d:\n%s", got, stage)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("does not end")
	}
	stage.await(t, "Stopped; nothing is left behind.")
}

func TestDemoNamesOtherPortsWhenItsOwnAreTaken(t *testing.T) {
	leftovers(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	code, stdout, stderr := command("demo", "--once", "--listen-465", taken.Addr().String(), "--listen-587", free(t))
	want := "smtpseal: listen " + taken.Addr().String() + " (listener submissions): address already in use\n" +
		"  choose other ports: smtpseal demo --listen-465 127.0.0.1:2465 --listen-587 127.0.0.1:2587\n"
	if code != 1 || stdout != "" || stderr != want {
		t.Errorf("exit %d\nstdout %q\nstderr %q\nwant   %q", code, stdout, stderr, want)
	}
}

func TestDemoRefusesWhatIsNoAddress(t *testing.T) {
	leftovers(t)
	for _, bad := range []string{"nowhere", "", "127.0.0.1:99999", `x", tls: "implicit`} {
		if code, _, stderr := command("demo", "--once", "--listen-465", bad, "--listen-587", free(t)); code != 1 || !strings.Contains(stderr, "listeners[0].listen: ") {
			t.Errorf("%q: exit %d: %s", bad, code, stderr)
		}
	}
}

// The demo's verdict is worth something only if it can be "no".
func TestDemoTellsAnAlteredMessage(t *testing.T) {
	sent := demoMail("465", time.Now())
	for name, c := range map[string]struct {
		arrived []byte
		want    error
	}{
		"the same":         {sent.Text, nil},
		"a dot lost":       {bytes.Replace(sent.Text, []byte("\r\n.A"), []byte("\r\nA"), 1), errAltered},
		"line ends":        {bytes.ReplaceAll(sent.Text, []byte("\r\n"), []byte("\n")), errAltered},
		"cut short":        {sent.Text[:len(sent.Text)-1], errAltered},
		"one bit":          {append([]byte{sent.Text[0] ^ 1}, sent.Text[1:]...), errAltered},
		"nothing":          {nil, errAltered},
		"something on top": {append([]byte("Received: x\r\n"), sent.Text...), errAltered},
	} {
		d := demonstration{show: newStage(new(tape)), delivered: make(chan demo.Message, 1)}
		d.deliver(demo.Message{Text: c.arrived})
		if err := d.arrived(t.Context(), sent); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d := demonstration{show: newStage(new(tape)), delivered: make(chan demo.Message)}
	if err := d.arrived(ctx, sent); !errors.Is(err, context.Canceled) {
		t.Errorf("nothing arrives: %v", err)
	}
}

func TestDemoMailHasWhatProxiesBreak(t *testing.T) {
	text := demoMail("465", time.Now()).Text
	for what, want := range map[string]string{"a dot at the start of a line": "\r\n.A", "a dot alone": "\r\n.\r\n", "bytes above 127": "ü"} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("not %s", what)
		}
	}
	if bytes.Contains(bytes.ReplaceAll(text, []byte("\r\n"), nil), []byte("\n")) || !bytes.HasSuffix(text, []byte("\r\n")) {
		t.Error("a line does not end in CRLF")
	}
	if _, err := mail.ReadMessage(bytes.NewReader(text)); err != nil {
		t.Error(err)
	}
}

func TestColoursAreForTerminalsOnly(t *testing.T) {
	var out tape
	s := newStage(&out)
	s.good("well")
	s.colour = true
	s.good("well")
	s.dialogue(demo.ClientSays, "")
	s.dialogue(demo.ServerSays, "250 ok")
	if want := "  ✓ well\n  \x1b[32m✓ well\x1b[0m\n  \x1b[36mC: \x1b[0m\n  S: 250 ok\n"; out.String() != want {
		t.Errorf("%q", out.String())
	}
	t.Setenv("NO_COLOR", "1")
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if colourful(null) {
		t.Error("NO_COLOR is not heard")
	}
}

func TestGateHoldsTheLogBack(t *testing.T) {
	out := new(tape)
	g := &gate{to: out}
	g.Write([]byte("one\n"))
	if out.String() != "" {
		t.Errorf("passed %q", out)
	}
	g.open()
	g.Write([]byte("two\n"))
	if out.String() != "one\ntwo\n" {
		t.Errorf("%q", out)
	}
	g = &gate{to: out}
	for range maxHeld {
		g.Write([]byte("flood\n"))
	}
	if len(g.held) > maxHeld {
		t.Errorf("holds %d octets, want at most %d", len(g.held), maxHeld)
	}
}
