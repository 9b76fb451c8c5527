package mta

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"strings"
)

// A Connection is what is known of one connection at the time of asking. It
// does not change afterwards; its byte slices must not be changed either.
type Connection struct {
	Number int      // 1 is the first that the server accepted
	Peer   net.Addr // the socket's, not the header's
	Header *Header  // nil: none came, or none was expected
	Turns  []Turn   // every octet either way, in order
	Early  int      // octets that came, behind a header, before it was greeted

	Commands []string // lines as they came, without their line ends; no bodies, no AUTH answers
	Helo     string
	User     string // who has authenticated

	Unfinished []byte // of a body that has not been answered (yet)
	InBody     bool   // that body is being read, or was when the connection ended

	End   End
	Error error // what reading or writing said last; nil after a QUIT
}

// End tells how a connection ended.
type End string

// The ends. A client that sends RST or FIN while the server is stalled is
// noticed too.
const (
	Open         End = ""
	Quit         End = "quit"         // the client's QUIT was answered
	ClientClosed End = "client FIN"   // …without QUIT
	ClientReset  End = "client RST"   // …or worse
	ServerEnded  End = "server ended" // by a fault, or by Close
)

// A Side is one of the two that speak.
type Side string

// The sides, as a transcript names them.
const (
	Client Side = "C"
	Ours   Side = "S"
)

// A Turn is what one side said until the other spoke.
type Turn struct {
	Side   Side
	Octets []byte
}

// A Message is one accepted mail.
type Message struct {
	Connection int // its number
	Helo       string
	User       string // authenticated, or empty
	From       string // the argument of MAIL behind "FROM:", parameters and all
	To         []string
	Body       []byte // what DATA carried, unstuffed and without its end; or all the chunks
	Chunks     []int  // lengths of the BDAT chunks; nil: DATA
}

// In returns all that the client sent, PROXY header included.
func (c *Connection) In() []byte { return c.said(Client) }

// Out returns all that the server sent.
func (c *Connection) Out() []byte { return c.said(Ours) }

func (c *Connection) said(side Side) []byte {
	var all []byte
	for _, turn := range c.Turns {
		if turn.Side == side {
			all = append(all, turn.Octets...)
		}
	}
	return all
}

// Said tells whether the client sent a command with this verb, in any case.
func (c *Connection) Said(verb string) bool {
	return slices.ContainsFunc(c.Commands, func(line string) bool {
		return strings.EqualFold(verbOf(line), verb)
	})
}

// String is the transcript with line ends and odd octets made visible.
func (c *Connection) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "connection %d from %v, end: %q (%v)\n", c.Number, c.Peer, c.End, c.Error)
	for _, turn := range c.Turns {
		const most = 2000 // octets of one turn: a body is not worth a page of log
		octets := turn.Octets
		if len(octets) > most {
			octets = octets[:most]
		}
		for line := range bytes.Lines(octets) {
			fmt.Fprintf(&text, "%s: %q\n", turn.Side, line)
		}
		if rest := len(turn.Octets) - len(octets); rest > 0 {
			fmt.Fprintf(&text, "%s: … and %d octets\n", turn.Side, rest)
		}
	}
	return text.String()
}

// copy is what a test gets. Slices of octets only ever grow at their ends, so
// their headers are all that needs copying.
func (c *Connection) copy() Connection {
	snapshot := *c
	snapshot.Turns = slices.Clone(c.Turns)
	snapshot.Commands = slices.Clone(c.Commands)
	return snapshot
}

// spoke adds octets to the transcript. The server's lock is held.
func (c *Connection) spoke(side Side, octets []byte) {
	if last := len(c.Turns) - 1; last >= 0 && c.Turns[last].Side == side {
		c.Turns[last].Octets = append(c.Turns[last].Octets, octets...)
		return
	}
	c.Turns = append(c.Turns, Turn{side, bytes.Clone(octets)})
}

func verbOf(line string) string {
	verb, _, _ := strings.Cut(line, " ")
	return verb
}
