package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"golang.org/x/tools/txtar"
	"smtpseal/proxy/backend"
)

// TestDialogues runs every dialogue of testdata/dialogues: client, proxy and
// backend side by side on one page, each octet of both sides compared. The
// first lines of a dialogue are settings, the others happen in their order:
//
//	C> text    the client sends the line        C< text  it must receive it
//	B> text    the backend sends the line       B< text  it must receive it
//	B+ facts   the backend accepts a connection, which must begin with a PROXY
//	           header that says exactly these: v1 or v2, clear or tls, cn=NAME
//	C tls      the client makes a handshake, which must succeed
//	C.  B.     that side must see the end, and nothing before it
//	C!  B!     that side closes (C! over TLS with close_notify)
//	C!!  B!!   that side resets the connection
//	B.!!       the backend must see a reset, and nothing before it
//	C!-        the client closes it without TLS close_notify
//	C* n text  the client sends the line n times
//	drain      the server is told to stop
//	end OUTCOME [KIND]  the session must be over like this
//
// A text in Go's quotes stands for exactly its octets; else CRLF is added. Each
// dialogue is run twice, with what is sent in one piece and octet by octet; the
// setting "whole" keeps it to the first where a segment's end is the point.
func TestDialogues(t *testing.T) {
	files, err := filepath.Glob("testdata/dialogues/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no dialogues", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range txtar.Parse(data).Files {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar")+"/"+part.Name, func(t *testing.T) {
				t.Parallel()
				runDialogue(t, string(part.Data), false)
				if !strings.Contains("\n"+string(part.Data), "\nwhole\n") {
					runDialogue(t, string(part.Data), true)
				}
			})
		}
	}
}

// patience is how long a dialogue waits for what must come.
const patience = 5 * time.Second

type dialogue struct {
	t       *testing.T
	rig     *rig
	client  net.Conn
	backend net.Conn
	fromB   *bufio.Reader
	raw     net.Conn // the client's, below TLS
	line    string
	octets  bool // each is sent by itself
}

func runDialogue(t *testing.T, script string, octets bool) {
	d := &dialogue{t: t, octets: octets}
	lines := strings.Split(script, "\n")
	cfg := rigConfig{version: backend.V2}
	for len(lines) > 0 && cfg.set(lines[0]) {
		lines = lines[1:]
	}
	d.rig = newRig(t, cfg)
	d.raw = d.rig.dial()
	d.client = d.raw
	for n, line := range lines {
		if line = strings.TrimRight(line, " "); line == "" || line[0] == '#' {
			continue
		}
		d.line = fmt.Sprintf("line %d: %s", n+1, line)
		verb, text, _ := strings.Cut(line, " ")
		d.step(verb, text)
		if t.Failed() {
			t.FailNow()
		}
	}
	d.client.Close()
	if d.backend != nil {
		d.backend.Close()
	}
}

func (d *dialogue) step(verb, text string) {
	switch verb {
	case "C>":
		d.write(d.client, text)
	case "C*":
		count, text, _ := strings.Cut(text, " ")
		n, _ := strconv.Atoi(count)
		for range n {
			d.write(d.client, text)
		}
	case "C!-":
		d.raw.Close()
	case "C<":
		d.expect(d.client, d.client, text)
	case "B>":
		d.write(d.backend, text)
	case "B<":
		d.expect(d.backend, d.fromB, text)
	case "B+":
		d.accept(text)
	case "C":
		d.handshake()
	case "C.":
		d.eof(d.client, d.client)
		d.client.Close() // a client that hears the end goes
	case "B.":
		d.eof(d.backend, d.fromB)
	case "B.!!":
		d.backend.SetDeadline(time.Now().Add(patience))
		if rest, err := io.ReadAll(d.fromB); len(rest) > 0 || !isReset(err) {
			d.t.Errorf("%s\n got %q %v, want a reset", d.line, rest, err)
		}
	case "C!":
		d.client.Close()
	case "B!":
		d.backend.Close()
	case "C!!":
		reset(d.raw)
	case "B!!":
		reset(d.backend)
	case "drain":
		d.rig.server.mu.Lock()
		for s := range d.rig.server.sessions {
			s.wake()
		}
		d.rig.server.mu.Unlock()
	case "end":
		d.ended(text)
	default:
		d.t.Fatalf("%s: no such step", d.line)
	}
}

func reset(c net.Conn) {
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

// octets of a step's text.
func octets(text string) []byte {
	if strings.HasPrefix(text, `"`) {
		raw, err := strconv.Unquote(text)
		if err != nil {
			panic(err)
		}
		return []byte(raw)
	}
	return []byte(text + "\r\n")
}

func (d *dialogue) write(to net.Conn, text string) {
	to.SetDeadline(time.Now().Add(patience))
	b := octets(text)
	piece := len(b)
	if d.octets {
		piece = 1
	}
	for at := 0; at < len(b); at += piece {
		if _, err := to.Write(b[at : at+piece]); err != nil {
			d.t.Errorf("%s: %v", d.line, err)
			return
		}
	}
}

func (d *dialogue) expect(conn net.Conn, from io.Reader, text string) {
	conn.SetDeadline(time.Now().Add(patience))
	want := octets(text)
	got := make([]byte, len(want))
	n, err := io.ReadFull(from, got)
	if err != nil || !bytes.Equal(got, want) {
		d.t.Errorf("%s\n got %q %v", d.line, got[:n], err)
	}
}

func (d *dialogue) eof(conn net.Conn, from io.Reader) {
	conn.SetDeadline(time.Now().Add(patience))
	rest, err := io.ReadAll(from)
	if len(rest) > 0 || err != nil && !isReset(err) {
		d.t.Errorf("%s\n got %q %v, want the end", d.line, rest, err)
	}
}

func (d *dialogue) accept(facts string) {
	if d.backend != nil {
		d.backend.Close()
	}
	select {
	case d.backend = <-d.rig.backends:
	case <-time.After(patience):
		d.t.Fatalf("%s: nobody connected", d.line)
	}
	d.fromB = bufio.NewReader(d.backend)
	d.backend.SetDeadline(time.Now().Add(patience))
	if got := d.header(); got != facts {
		d.t.Errorf("%s\n got %q", d.line, got)
	}
}

// header reads what the backend is told and sums it up as B+ writes it.
func (d *dialogue) header() string {
	if d.rig.config.version == backend.Off {
		return "off"
	}
	h, err := proxyproto.Read(d.fromB)
	if err != nil {
		return err.Error()
	}
	source := h.SourceAddr.(*net.TCPAddr).AddrPort()
	want := d.raw.LocalAddr().(*net.TCPAddr).AddrPort()
	if d.rig.config.claimed != "" {
		want = netip.MustParseAddrPort(d.rig.config.claimed)
	}
	if source != want {
		return "source " + source.String()
	}
	return fmt.Sprintf("v%d %s", h.Version, sslFacts(h))
}

func (d *dialogue) handshake() {
	config := d.rig.clientTLS.Clone()
	c := tls.Client(d.raw, config)
	d.raw.SetDeadline(time.Now().Add(patience))
	if err := c.Handshake(); err != nil {
		d.t.Errorf("%s: %v", d.line, err)
	}
	d.client = c
}

func (d *dialogue) ended(want string) {
	select {
	case r := <-d.rig.records:
		got := string(r.Outcome)
		if r.Violation != "" {
			got += " " + r.Violation
		}
		if got != want {
			d.t.Errorf("%s\n got %s: %v (in %s)", d.line, got, r.Err, r.Phase)
		}
	case <-time.After(patience):
		d.t.Errorf("%s: the session goes on", d.line)
	}
}
