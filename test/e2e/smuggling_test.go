package e2e

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"smtpseal/test/mta"
	"smtpseal/test/talk"
)

// smuggled would be a second mail, if what stands before it ended the first.
const smuggled = "MAIL FROM:<evil@example.org>\r\nRCPT TO:<evil@example.test>\r\nDATA\r\nevil\r\n.\r\n"

// Behind us stands a server that takes any dot between any line ends for the
// end of data. It must never get to see one (CVE-2023-51764 and its kin), cut
// into pieces or not.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	srv := mta.Start(t, mta.Config{Proxy: mta.V2, Lenient: true})
	p := start(t, setup{Server: srv.Addr(), Limits: "max_sessions_per_client: 1000"})
	for _, ending := range badEndings() {
		t.Run(fmt.Sprintf("%q", ending), func(t *testing.T) {
			t.Parallel()
			for cut := range len(ending) + 1 {
				c := p.open(t, []string{submissions, submission}[cut%2], "")
				c.greet()
				c.envelope("first@example.test")
				c.Play("> DATA\n<< 354")
				c.Send("Subject: one\r\n\r\none" + ending[:cut])
				time.Sleep(talk.Quiet / 10) // so that the cut is one for the proxy, too
				c.Send(ending[cut:] + smuggled)
				c.Play("<< 5\n< FIN")
				c.tls.Close()
				if e := p.session(c.tcp.LocalAddr()); e.text("outcome") != "violation" || e.number("messages") != 0 {
					t.Errorf("cut at %d: log line %v", cut, e)
				}
			}
		})
	}
	t.Cleanup(func() { // when the parallel ones are done
		srv.WaitIdle(t)
		for _, m := range srv.Messages() {
			t.Errorf("taken: %q with %q", m.From, m.Body)
		}
		for _, c := range srv.Connections() {
			if strings.Count(string(c.In()), "MAIL FROM") > 1 || c.Said("QUIT") {
				t.Errorf("the backend heard %s", c.String())
			}
		}
		p.settle()
	})
}

// badEndings are all that has a dot alone between two line ends, of which at
// least one is not CRLF.
func badEndings() (all []string) {
	ends := []string{"\n", "\r", "\r\n"}
	for _, before := range ends {
		for _, after := range append(ends, "\r\r\n") {
			if ending := before + "." + after; ending != "\r\n.\r\n" {
				all = append(all, ending)
			}
		}
	}
	return all
}

// Dots that end nothing pass untouched, and the one that ends the body ends it
// wherever the stream is cut.
func TestHarmlessDotsPass(t *testing.T) {
	t.Parallel()
	srv := mta.Start(t, mta.Config{Proxy: mta.V2})
	p := start(t, setup{Server: srv.Addr(), Limits: "max_sessions_per_client: 1000"})
	c := p.open(t, submissions, "")
	c.greet()
	for _, body := range []string{
		"", "\r\n", "..\r\n", "x.\r\n", "x.\ny\r\n", "\n.x\r\n", "\r.x\r\n", "\n..\n\r\n", ".\r\n.\r\n", "a\nb\rc\r\n", "\r\r\n", "x\r\r\n.\r\n",
	} {
		c.deliver(mail{to: "a@example.test", body: []byte(body)})
		if got := srv.WaitMessage(t); string(got.Body) != body {
			t.Errorf("%q arrived as %q", body, got.Body)
		}
	}
	end := stuffed([]byte("one\r\n..\r\n"))
	for cut := range end {
		c.envelope("a@example.test")
		c.Play("> DATA\n<< 354")
		c.Send(string(end[:cut]))
		time.Sleep(talk.Quiet / 10)
		c.Send(string(end[cut:]))
		c.ExpectReply("250")
		if got := srv.WaitMessage(t); string(got.Body) != "one\r\n..\r\n" {
			t.Errorf("cut at %d: arrived as %q", cut, got.Body)
		}
	}
	c.quit()
}

// A chunk has no end of data, so nothing in it is suspicious.
func TestChunksAreNotLookedInto(t *testing.T) {
	t.Parallel()
	srv := mta.Start(t, mta.Config{Proxy: mta.V2, Lenient: true})
	p := start(t, setup{Server: srv.Addr()})
	c := p.open(t, submissions, "")
	c.greet()
	body := []byte("one\n.\n" + strings.Join(badEndings(), "x") + "\r\n.\r\nQUIT\r\n" + smuggled)
	c.deliver(mail{to: "a@example.test", body: body, chunks: []int{5, 1, 7, len(body) - 13}})
	if got := srv.WaitMessage(t); !bytes.Equal(got.Body, body) {
		t.Error(difference(got.Body, body))
	}
	c.quit()
}
