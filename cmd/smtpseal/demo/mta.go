// Package demo is the two ends that smtpseal joins, made to be looked at: a
// small mail server without TLS that says what it received, and a client that
// writes down its dialogue.
//
// Both are bounded and strict, and neither is meant for real mail: the server
// keeps nothing and the client sends one message a connection.
package demo

import (
	"bufio"
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// The server's bounds. It is reached on loopback only, but through a proxy that
// may listen elsewhere.
const (
	maxConnections = 32
	maxLine        = 4096     // one command; RFC 5321 section 4.5.3.1.4 asks for 512
	maxMessage     = 10 << 20 // announced by SIZE
	maxRecipients  = 100      // RFC 5321 section 4.5.3.1.8

	headerWait  = 5 * time.Second
	commandWait = 5 * time.Minute // RFC 5321 section 4.5.3.2.7: a person may be typing
)

// A Message is what the server took.
type Message struct {
	Header Header // who the client is, as smtpseal says
	Helo   string
	From   string
	To     []string
	Text   []byte // lines end in CRLF, doubled dots are single again
}

// An MTA is a mail server that speaks plain SMTP and demands a PROXY v2 header.
type MTA struct {
	Name    string
	Deliver func(Message) // called in the session that received it
}

// Serve answers connections until ctx ends, and returns when the last of them
// is over. It closes ln.
func (m *MTA) Serve(ctx context.Context, ln net.Listener) error {
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	defer ln.Close()
	var sessions sync.WaitGroup
	defer sessions.Wait()
	room := make(chan struct{}, maxConnections)
	for {
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case room <- struct{}{}:
		default:
			conn.Close()
			continue
		}
		sessions.Go(func() {
			defer func() { <-room }()
			m.session(ctx, conn)
		})
	}
}

// session carries one connection from its PROXY header to its end.
func (m *MTA) session(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	s := &session{mta: m, conn: conn, in: bufio.NewReaderSize(conn, maxLine)}
	conn.SetDeadline(time.Now().Add(headerWait))
	header, err := readHeader(s.in)
	if err != nil {
		s.reply("421 4.3.0 %s PROXY header expected", m.Name)
		return
	}
	s.message.Header = header
	s.reply("220 %s ESMTP a mail server without TLS", m.Name)
	for !s.over {
		s.turn()
	}
}
