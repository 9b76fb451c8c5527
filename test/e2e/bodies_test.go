package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"testing"
)

// The seed of all random bodies. A failure names the body, and it is the same
// in every run.
const seed = 20261122

// body n is a random message of up to 60 lines of all kinds that mail has.
func body(n int) []byte {
	random := rand.New(rand.NewPCG(seed, uint64(n)))
	text := fmt.Appendf(nil, "Subject: body %d\r\n\r\n", n)
	for range random.IntN(60) {
		text = append(text, line(random)...)
		text = append(text, "\r\n"...)
	}
	return text
}

const longest = 998 // RFC 5321 section 4.5.3.1.6, without CRLF

func line(random *rand.Rand) []byte {
	octets := func(n int, low, high byte) []byte {
		b := make([]byte, n)
		for i := range b {
			for b[i] = '\n'; b[i] == '\r' || b[i] == '\n'; {
				b[i] = low + byte(random.IntN(int(high-low)+1))
			}
		}
		return b
	}
	switch random.IntN(9) {
	case 0:
		return nil
	case 1:
		return []byte(".")
	case 2:
		return octets(1+random.IntN(5), '.', '.')
	case 3:
		return append([]byte("."), octets(random.IntN(70), ' ', '~')...)
	case 4:
		return octets(longest, 0x80, 0xff)
	case 5:
		return append([]byte("."), octets(longest-1, ' ', '~')...)
	case 6:
		return octets(random.IntN(longest), 0, 0xff)
	case 7:
		return append(octets(random.IntN(70), ' ', '~'), "  \t "...)
	}
	return octets(random.IntN(77), ' ', '~')
}

// chunks cuts n octets at random places. Postfix refuses an empty chunk that is
// not the last.
func chunks(random *rand.Rand, n int) (lengths []int) {
	for n > 0 && random.IntN(5) > 0 {
		lengths = append(lengths, 1+random.IntN(n))
		n -= lengths[len(lengths)-1]
	}
	return append(lengths, n)
}

// 200 random bodies arrive octet by octet, by both ports, by DATA and BDAT,
// pipelined and not, many on one connection.
func TestRandomBodiesArriveUnchanged(t *testing.T) {
	t.Parallel()
	p := start(t, setup{Server: mailbox.Addr("proxy")})
	const perConnection = 20
	for first := 0; first < 200; first += perConnection {
		t.Run(fmt.Sprintf("from %d", first), func(t *testing.T) {
			t.Parallel()
			listener := []string{submissions, submission}[first/perConnection%2]
			c := p.open(t, listener, "")
			c.greet()
			to := map[int]string{}
			for n := first; n < first+perConnection; n++ {
				to[n] = recipient(fmt.Sprintf("body%d", n))
				m := mail{to: to[n], body: body(n), pipelined: n%4 >= 2}
				if n%2 == 1 {
					m.chunks = chunks(rand.New(rand.NewPCG(seed, uint64(n))), len(m.body))
				}
				c.deliver(m)
			}
			c.quit()
			for n := first; n < first+perConnection; n++ {
				got := mailbox.WaitMail(t, to[n])
				if want := stored(body(n)); !bytes.Equal(got.Content, want) {
					t.Errorf("body %d: %s", n, difference(got.Content, want))
				}
			}
			if e := p.session(c.tcp.LocalAddr()); e.number("messages") != perConnection {
				t.Errorf("messages: %v", e["messages"])
			}
		})
	}
}

func difference(got, want []byte) string {
	at := 0
	for at < len(got) && at < len(want) && got[at] == want[at] {
		at++
	}
	from := max(0, at-20)
	return fmt.Sprintf("%d octets for %d, first other at %d: %.60q for %.60q",
		len(got), len(want), at, got[from:], want[from:])
}

// A body of 50 MiB arrives unchanged, by DATA and by one chunk.
func TestLargeBodyArrivesUnchanged(t *testing.T) {
	t.Parallel()
	p := start(t, setup{Server: mailbox.Addr("limited")})
	large := bytes.NewBuffer(make([]byte, 0, 51<<20))
	large.WriteString("Subject: large\r\n\r\n")
	var part []byte
	for n := range 100 {
		part = append(part, body(n)...)
	}
	for large.Len() < 50<<20 {
		large.Write(part)
	}
	for name, m := range map[string]mail{
		submissions: {to: recipient("large"), body: large.Bytes()},
		submission:  {to: recipient("large"), body: large.Bytes(), chunks: []int{large.Len()}},
	} {
		t.Run(name, func(t *testing.T) {
			c := p.open(t, name, "")
			c.greet()
			c.deliver(m)
			c.quit()
			got := mailbox.WaitMail(t, m.to)
			if sha256.Sum256(got.Content) != sha256.Sum256(stored(m.body)) {
				t.Error(difference(got.Content, stored(m.body)))
			}
		})
	}
}

// What the backend refuses is refused, in its words.
func TestTooLargeIsRefusedByTheBackend(t *testing.T) {
	t.Parallel()
	p := start(t, setup{Server: mailbox.Addr("limited")})
	c := p.open(t, submissions, "")
	c.greet()
	c.Play(`
		> MAIL FROM:<sender@example.org> SIZE=104857601
		<< 552 5.3.4 Message size exceeds fixed limit
		> NOOP
		<< 250
	`)
	c.quit()
}
