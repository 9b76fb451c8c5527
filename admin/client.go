package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
	"time"
)

// A Client asks the process that is running.
type Client struct {
	Network string // tcp or unix
	Addr    string // as in admin.listen: host:port, or a path
}

// ErrNobody is wrapped by an error if nobody answers on the address: the process
// does not run, or has just ended.
var ErrNobody = errors.New("nobody answers")

const (
	maxAnswer     = 16 << 20         // octets, against whatever else listens there
	dialTimeout   = 5 * time.Second  // for a place among the connections
	statusTimeout = 5 * time.Second  // for all of an answer to Status: probes wait for it, and so do people
	askTimeout    = 20 * time.Second // for what else is answered at once
)

// Status asks how it is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	var status Status
	code, text, err := c.ask(ctx, http.MethodGet, "/status")
	if err == nil {
		err = c.read(code, text, &status, http.StatusOK)
	}
	return status, err
}

// Drain asks it to take no more sessions, and to end with the last one. It does
// not wait for that: ask for the Status until there is ErrNobody.
func (c *Client) Drain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	code, text, err := c.ask(ctx, http.MethodPost, "/drain")
	if err == nil {
		err = c.read(code, text, new(struct{}), http.StatusAccepted)
	}
	return err
}

// Reload asks it to read its configuration again, and waits. A reload that came
// to nothing is an error with the reason.
func (c *Client) Reload(ctx context.Context) error {
	code, text, err := c.ask(ctx, http.MethodPost, "/reload")
	if err != nil {
		return err
	}
	var result Reload
	if err := c.read(code, text, &result, http.StatusOK, http.StatusConflict); err != nil {
		return err
	}
	if result.Result != ok {
		return errors.New(first(result.Error, "the reload failed; the log says why"))
	}
	return nil
}

// Renew asks it to renew the certificates for a name, and waits, for minutes if
// need be.
func (c *Client) Renew(ctx context.Context, name string) error {
	code, text, err := c.ask(ctx, http.MethodPost, "/certificates/renew?"+url.Values{"name": {name}}.Encode())
	if err != nil {
		return err
	}
	var result Renewal
	if err := c.read(code, text, &result, http.StatusOK, http.StatusBadRequest, http.StatusNotFound, http.StatusBadGateway); err != nil {
		return err
	}
	if code == http.StatusNotFound {
		return fmt.Errorf("renew %s: %w: see smtpseal certs list", name, ErrNoSuchName)
	}
	if result.Result != ok {
		return fmt.Errorf("renew %s: %s", name, first(result.Error, "the log says why"))
	}
	return nil
}

// ask sends one request on a connection of its own. It does without an
// http.Transport, which writes to standard error if an SMTP server greets it.
func (c *Client) ask(ctx context.Context, method, path string) (code int, text []byte, err error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return 0, nil, c.explain(ctx, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })() // wakes what waits
	// Whatever the address is called here, localhost is always one of its names.
	request, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, nil)
	if err != nil {
		return 0, nil, err
	}
	request.Close = true
	request.Header.Set(RequestHeader, "1")
	if err := request.Write(conn); err != nil {
		return 0, nil, c.explain(ctx, err)
	}
	response, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxAnswer)), request)
	if err != nil {
		return 0, nil, c.explain(ctx, err)
	}
	defer response.Body.Close()
	if response.Header.Get("Server") != serverName {
		return 0, nil, fmt.Errorf("ask %s: whoever listens there is not smtpseal: look at admin.listen of its configuration", c.Addr)
	}
	text, err = io.ReadAll(response.Body)
	if err != nil {
		return 0, nil, c.explain(ctx, err)
	}
	return response.StatusCode, text, nil
}

// dial connects. A listener on every address is asked on loopback.
func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	addr := c.Addr
	if host, port, err := net.SplitHostPort(addr); c.Network != "unix" && err == nil {
		if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
			addr = net.JoinHostPort("localhost", port)
		}
	}
	return dialer.DialContext(ctx, c.Network, addr)
}

// explain makes an error of the network one that says what to do.
func (c *Client) explain(ctx context.Context, err error) error {
	var network *net.OpError
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case errors.As(err, &network) && network.Op == "dial":
		return fmt.Errorf("ask %s: %w (%v): is smtpseal running, and is this the admin.listen of its configuration?", c.Addr, ErrNobody, network.Err)
	case errors.Is(err, os.ErrDeadlineExceeded), ctx.Err() != nil:
		return fmt.Errorf("ask %s: no answer in time: is this smtpseal's admin listener? If it is, its log says what it is busy with", c.Addr)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("ask %s: %w any more: the connection was closed before an answer; if smtpseal was just ending, that is all", c.Addr, ErrNobody)
	}
	return fmt.Errorf("ask %s: %w: is this smtpseal's admin listener?", c.Addr, err)
}

// read takes an answer with one of the codes apart; others carry a text for
// people.
func (c *Client) read(code int, text []byte, into any, codes ...int) error {
	for _, expected := range codes {
		if code != expected {
			continue
		}
		if err := json.Unmarshal(text, into); err != nil {
			return fmt.Errorf("ask %s: %w: is it smtpseal of another version?", c.Addr, err)
		}
		return nil
	}
	text = bytes.TrimSpace(text)
	if code == http.StatusForbidden {
		return fmt.Errorf("ask %s: %s", c.Addr, text)
	}
	return fmt.Errorf("ask %s: it answers %d %s: %s: is it smtpseal of another version?", c.Addr, code, http.StatusText(code), text)
}
