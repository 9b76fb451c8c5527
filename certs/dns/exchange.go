package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// askTimeout bounds one question by one transport; a server gets two of them.
const askTimeout = 2 * time.Second

// A dialFunc opens connections to name servers; tests send them elsewhere.
type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// ask puts one question to one server: by UDP, then by TCP when the answer is
// cut off or does not come. Port 53 by UDP is what firewalls drop most.
func (dial dialFunc) ask(ctx context.Context, server, name string, kind uint16) (*dns.Msg, error) {
	question := new(dns.Msg).SetQuestion(dns.Fqdn(name), kind)
	answer, err := dial.soon(ctx, "udp", server, question)
	if err == nil && !answer.Truncated {
		return answer, nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%s: %w", server, ctx.Err())
	}
	answer, err = dial.soon(ctx, "tcp", server, question)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", server, err)
	}
	return answer, nil
}

func (dial dialFunc) soon(ctx context.Context, network, server string, question *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return dial.exchange(ctx, network, server, question, "")
}

// exchange sends one message and reads its answer while ctx lasts. With a TSIG secret the
// answer's signature is checked, too; then there may be an answer beside the
// error.
func (dial dialFunc) exchange(ctx context.Context, network, server string, message *dns.Msg, secret string) (*dns.Msg, error) {
	conn, err := dial(ctx, network, server)
	if err != nil {
		return nil, cause(err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) }) // cancelled: wake the read
	defer stop()
	wire := dns.Conn{Conn: conn, UDPSize: dns.MaxMsgSize} // some send more than 512 octets unasked
	if tsig := message.IsTsig(); tsig != nil {
		wire.TsigSecret = map[string]string{tsig.Hdr.Name: secret}
	}
	if err := wire.WriteMsg(message); err != nil {
		return nil, cause(err)
	}
	for {
		answer, err := wire.ReadMsg()
		if answer != nil && (answer.Id != message.Id || !answer.Response || !sameQuestion(answer, message)) {
			if network == "udp" {
				continue // not ours: late, or forged
			}
			return nil, errors.New("answer to another question")
		}
		return answer, cause(err)
	}
}

// sameQuestion compares as servers do, without regard to case. Some errors come
// without the question.
func sameQuestion(answer, message *dns.Msg) bool {
	if len(answer.Question) == 0 {
		return answer.Rcode != dns.RcodeSuccess
	}
	got, want := answer.Question[0], message.Question[0]
	return strings.EqualFold(got.Name, want.Name) && got.Qtype == want.Qtype
}

// cause drops what a network error repeats: the addresses of both sides.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		if op.Timeout() {
			return errors.New("no answer")
		}
		return op.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("no answer")
	}
	return err
}

// address adds port 53 to a host or IP address without one.
func address(server string) (string, error) {
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		host, port = strings.Trim(server, "[]"), "53"
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil || host == "" || strings.ContainsAny(host, "/ []") || net.ParseIP(host) == nil && strings.Contains(host, ":") {
		return "", fmt.Errorf("name server %q: use host, host:port or [IPv6]:port", server)
	}
	return net.JoinHostPort(host, port), nil
}
