package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"
)

// A mode is how a client comes to speak SMTP with the backend.
type mode int

const (
	plain    mode = iota // to the sink itself, for comparison
	implicit             // 465
	startTLS             // 587
)

// sessionLimit bounds a client session: beyond it the peer hangs.
const sessionLimit = 5 * time.Minute

// sources is how many loopback addresses the clients come from, as a peer may
// limit sessions per client.
const sources = 8

// A dialer opens sessions at one address in one mode. It is safe for
// concurrent use.
type dialer struct {
	mode   mode
	addr   string
	config *tls.Config
	opened atomic.Int64
}

// dialer makes one whose sessions verify the rig's certificate and offer
// X25519 alone. Records are of full size from the start, as OpenSSL's are.
func (b *rig) dialer(m mode, addr string) *dialer {
	return &dialer{mode: m, addr: addr, config: &tls.Config{
		RootCAs:                     b.pool,
		ServerName:                  serverName,
		MinVersion:                  tls.VersionTLS13,
		CurvePreferences:            []tls.CurveID{tls.X25519},
		DynamicRecordSizingDisabled: true,
	}}
}

// resuming is a dialer like d that offers the latest ticket it was given. It
// serves one session at a time.
func (d *dialer) resuming() *dialer {
	config := d.config.Clone()
	config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	return &dialer{mode: d.mode, addr: d.addr, config: config}
}

// A session is one client's stay, greeted by the backend.
type session struct {
	raw     net.Conn
	tls     *tls.Conn // nil in plain mode
	w       io.Writer
	r       *bufio.Reader
	release func() bool
}

// open connects and comes as far as the mode's first command behind TLS.
// When ctx ends the session's connection is closed.
func (d *dialer) open(ctx context.Context) (*session, error) {
	from := net.IPv4(127, 0, 0, byte(1+d.opened.Add(1)%sources))
	nd := net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: from}, KeepAlive: -1}
	c, err := nd.DialContext(ctx, "tcp", d.addr)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	c.SetDeadline(time.Now().Add(sessionLimit))
	s := &session{raw: c, w: c, r: bufio.NewReaderSize(c, 512)}
	s.release = context.AfterFunc(ctx, func() { c.Close() })
	if err := d.greet(s); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (d *dialer) greet(s *session) error {
	switch d.mode {
	case plain:
		return s.expect("220 ")
	case implicit:
		if err := s.handshake(d.config); err != nil {
			return err
		}
		return s.expect("220 ")
	}
	if err := s.expect("220 "); err != nil {
		return err
	}
	if err := s.ehlo(); err != nil {
		return err
	}
	if err := s.command("STARTTLS", "220 "); err != nil {
		return err
	}
	return s.handshake(d.config)
}

func (s *session) handshake(config *tls.Config) error {
	s.tls = tls.Client(s.raw, config)
	if err := s.tls.Handshake(); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	s.w = s.tls
	s.r.Reset(s.tls)
	return nil
}

func (s *session) ehlo() error { return s.command("EHLO client.test", "250 ") }
func (s *session) noop() error { return s.command("NOOP", "250 ") }

func (s *session) command(line, want string) error {
	if _, err := io.WriteString(s.w, line+"\r\n"); err != nil {
		return fmt.Errorf("%s: %w", line, err)
	}
	if err := s.expect(want); err != nil {
		return fmt.Errorf("%s: %w", line, err)
	}
	return nil
}

// expect reads one reply, whose last line must begin with want.
func (s *session) expect(want string) error {
	for {
		line, err := s.r.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("reply: %w", err)
		}
		if len(line) > 3 && line[3] == '-' {
			continue
		}
		if !strings.HasPrefix(string(line), want) {
			return fmt.Errorf("reply %q, want %q", line, want)
		}
		return nil
	}
}

// send is one transaction. The reply proves that the body arrived whole.
func (s *session) send(b *body) error {
	if err := s.command("MAIL FROM:<from@client.test>", "250 "); err != nil {
		return err
	}
	if err := s.command("RCPT TO:<to@bench.test>", "250 "); err != nil {
		return err
	}
	if err := s.command("DATA", "354 "); err != nil {
		return err
	}
	for _, w := range b.writes {
		if _, err := s.w.Write(w); err != nil {
			return fmt.Errorf("body: %w", err)
		}
	}
	return s.expect(b.reply)
}

// farewell says QUIT and waits until the other side has closed, so that its
// work for this session is done when we go on.
func (s *session) farewell() error {
	if err := s.command("QUIT", "221 "); err != nil {
		return err
	}
	if _, err := s.r.ReadByte(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("after QUIT: %w, want an end of file", err)
	}
	return nil
}

func (s *session) close() {
	s.release()
	if s.tls != nil {
		s.tls.Close()
		return
	}
	s.raw.Close()
}
