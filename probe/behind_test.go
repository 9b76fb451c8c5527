package probe_test

import (
	"net"
	"strings"
	"testing"

	"smtpseal/probe"
	"smtpseal/test/faulty"
	"smtpseal/test/talk"
)

// What smtpseal says when it gets nowhere has a likelier cause than any 421, in
// the greeting and behind EHLO.
func TestAMailServerThatIsDownBehindSmtpseal(t *testing.T) {
	t.Parallel()
	const ours = "421 4.3.0 mail.example.test Service not available, try again later\r\n"
	for _, c := range []struct {
		name, mode, answer string
		id                 string
		says               string
	}{
		{"greeting", "starttls-optional", ours, "greeting", "behind it is down, or expects another PROXY header"},
		{"greeting inside TLS", "implicit", ours, "greeting", "behind it is down, or expects another PROXY header"},
		{"another's greeting", "starttls", "421 too busy\r\n", "greeting", "has had enough of this client"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e, _, _ := build(t, faulty.Config{Mode: c.mode, Answer: c.answer}).run(t)
			if got := find(t, e, c.id); got.Status != probe.Fail || !strings.Contains(got.Remedy, c.says) {
				t.Errorf("%+v", got)
			}
		})
	}
	for name, says := range map[string]string{strings.TrimSpace(ours): "behind it is down", "421 too busy": "see its log"} {
		t.Run("EHLO, "+name, func(t *testing.T) {
			t.Parallel()
			r := build(t, faulty.Config{Mode: "starttls"})
			r.where[net.JoinHostPort(faulty.Name, "587")] = once(t, "> 220 mta\n<< EHLO\n> "+name)
			e, _, _ := r.run(t)
			if got := find(t, e, "starttls"); got.Status != probe.Fail || !strings.Contains(got.Remedy, says) {
				t.Errorf("%+v", got)
			}
		})
	}
}

// once plays a server's part to one client.
func once(t *testing.T, script string) (addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	played := make(chan struct{})
	go func() {
		defer close(played)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		talk.With(t, conn).Play(script)
	}()
	t.Cleanup(func() { listener.Close(); <-played })
	return listener.Addr().String()
}
