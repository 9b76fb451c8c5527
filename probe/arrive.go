package probe

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
)

// open connects.
func (e *endpoint) open(ctx context.Context) (*conversation, error) {
	dialing, cancel := context.WithTimeout(ctx, e.Timeout)
	defer cancel()
	conn, err := e.Dial(dialing, "tcp", e.address())
	if err != nil {
		return nil, plain(err)
	}
	return converse(ctx, conn, e.Timeout), nil
}

// greeted connects and hears the greeting, in a mode that has it in clear.
func (e *endpoint) greeted(ctx context.Context) (*conversation, error) {
	c, err := e.open(ctx)
	if err != nil {
		return nil, err
	}
	r, err := c.hear()
	if err == nil && r.code != 220 {
		err = fmt.Errorf("greeted with %s", r)
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// hello is greeted, and EHLO.
func (e *endpoint) hello(ctx context.Context) (*conversation, error) {
	c, err := e.greeted(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := c.ehlo(e.Helo); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// secure goes the way to the end of a handshake. Errors of the handshake itself
// are handshakeErrors.
func (e *endpoint) secure(ctx context.Context, config *tls.Config) (*conversation, error) {
	approach := e.open
	if e.mode != Implicit {
		approach = e.hello
	}
	c, err := approach(ctx)
	if err != nil {
		return nil, err
	}
	if e.mode != Implicit {
		r, err := c.ask("STARTTLS")
		if err == nil && r.code != 220 {
			err = fmt.Errorf("STARTTLS was answered %s", r)
		}
		if err != nil {
			c.close()
			return nil, err
		}
	}
	if err := c.encrypt(ctx, config); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// arrive is secure, and a dialogue after it up to EHLO.
func (e *endpoint) arrive(ctx context.Context, config *tls.Config) (*conversation, error) {
	c, err := e.secure(ctx, config)
	if err != nil {
		return nil, err
	}
	if e.mode == Implicit {
		var r reply
		if r, err = c.hear(); err == nil && r.code != 220 {
			err = fmt.Errorf("greeted with %s", r)
		}
	}
	if err == nil {
		_, err = c.ehlo(e.Helo)
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// encrypt begins TLS. What waits in clear by then came from before it, and a
// client that read it inside TLS would believe an attacker.
func (c *conversation) encrypt(ctx context.Context, config *tls.Config) error {
	if n := c.in.Buffered(); n > 0 {
		waiting, _ := c.in.Peek(n)
		return &handshakeError{fmt.Errorf("%q came in clear behind the answer to STARTTLS", printable(string(waiting)))}
	}
	c.hurry()
	conn := tls.Client(c.conn, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return &handshakeError{err}
	}
	c.conn, c.in = conn, bufio.NewReaderSize(conn, maxLine)
	return nil
}

// A handshakeError is a server's no, or its silence, after it was asked for TLS.
type handshakeError struct{ error }

func (e *handshakeError) Unwrap() error { return e.error }

// refusal: the server has answered, and the answer is no.
func refusal(err error) bool {
	var shaken *handshakeError
	var network net.Error
	return errors.As(err, &shaken) && !(errors.As(err, &network) && network.Timeout())
}

// extensions are the keywords of an EHLO reply, in capitals, with what follows.
type extensions map[string]string

// ehlo introduces us. Without a name of ours it is an address literal, which
// every server has to take (RFC 5321 section 4.1.3).
func (c *conversation) ehlo(name string) (extensions, error) {
	if name == "" {
		name = literal(c.conn.LocalAddr())
	}
	r, err := c.ask("EHLO " + name)
	if err != nil {
		return nil, err
	}
	if r.code != 250 {
		return nil, &ehloError{r}
	}
	offered := extensions{}
	for _, line := range r.lines[1:] {
		keyword, rest, _ := strings.Cut(line, " ")
		if k, v, old := strings.Cut(keyword, "="); old { // AUTH=LOGIN, of before RFC 2554
			keyword, rest = k, v+" "+rest
		}
		offered[strings.ToUpper(keyword)] += " " + rest
	}
	return offered, nil
}

// An ehloError is a server's no to EHLO.
type ehloError struct{ reply reply }

func (e *ehloError) Error() string { return fmt.Sprintf("EHLO was answered %s", e.reply) }

func literal(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	switch {
	case !ok:
		return "[127.0.0.1]"
	case tcp.IP.To4() == nil:
		return "[IPv6:" + tcp.IP.String() + "]"
	}
	return "[" + tcp.IP.String() + "]"
}

// config is what most checks shake hands with: everything goes, since whether
// it should is what other checks tell, and the certificate is looked at later.
func (e *endpoint) config() *tls.Config {
	c := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, CipherSuites: suites(nil)}
	if net.ParseIP(e.name) == nil {
		c.ServerName = e.name
	}
	return c
}

// suites are those of crypto/tls, also what it does not use by itself.
func suites(want func(*tls.CipherSuite) bool) (ids []uint16) {
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if want == nil || want(s) {
			ids = append(ids, s.ID)
		}
	}
	return ids
}
