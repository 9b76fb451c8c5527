package smtp

// Rules say what must not pass between this client and its backend.
type Rules struct {
	// Hide are the EHLO keywords to drop beside those that are always dropped;
	// a verb of the same name is refused.
	Hide Keywords
	// Offer: STARTTLS is announced; TLS is not up, and can be had.
	Offer bool
	// Clear: TLS is not up. AUTH is neither offered nor taken (RFC 4954 section
	// 4), since the backend cannot know.
	Clear bool
	// External: a client certificate was verified and the backend hears of it,
	// so the mechanism EXTERNAL may be offered.
	External bool
}

// A Verdict says what is to be done with the octets at the front of the input.
type Verdict uint8

const (
	// More: no whole command is there.
	More Verdict = iota
	// Forward: the batch goes to the backend, which owes Commands replies.
	Forward
	// Ours: the first command, and only it, is for us to answer.
	Ours
)

// A Batch is the longest run of complete commands that can be sent to the
// backend at once: it ends behind the first verb whose reply decides how the
// octets behind it are read, and before any command that we answer ourselves.
// It is no longer than MaxLine: while it is sent nobody reads replies, and those
// to more commands might not fit into the sockets between.
type Batch struct {
	Verdict  Verdict
	Len      int     // octets, line ends included
	Commands int     // replies owed
	Last     Command // the one that ends the batch; if Ours, the one to answer
	Bare     bool    // the batch is one line that ends with LF alone
	Mail     int     // the reply (from 0) that answers the last MAIL, or -1
	Resets   bool    // RSET, EHLO or HELO ends a transaction that was open
}

// Next takes the next batch from the front of b.
func (r *Rules) Next(b []byte) (Batch, error) {
	batch := Batch{Mail: -1}
	for {
		c, err := Parse(b[batch.Len:])
		if batch.Commands > 0 && (err != nil || c.Len == 0 || c.Bare || c.Verb == EHLO || r.ours(&c) || batch.Len+c.Len > MaxLine) {
			return batch, nil // it has a turn of its own, and so has what is wrong with it
		}
		if err != nil || c.Len == 0 {
			return batch, err
		}
		batch.add(c)
		if r.ours(&c) {
			batch.Verdict = Ours
			return batch, nil
		}
		if c.Bare || verbs[c.Verb].flags&groups == 0 {
			return batch, nil
		}
	}
}

func (b *Batch) add(c Command) {
	switch c.Verb {
	case MAIL:
		b.Mail = b.Commands
	case RSET, EHLO, HELO:
		b.Mail, b.Resets = -1, true
	}
	b.Verdict = Forward
	b.Len += c.Len
	b.Commands++
	b.Last, b.Bare = c, c.Bare
}

// ours reports whether c must not reach the backend.
func (r *Rules) ours(c *Command) bool {
	return c.Verb == STARTTLS || c.Verb == BDAT || verbs[c.Verb].flags&denied != 0 ||
		c.Verb == AUTH && r.Clear || len(r.Hide) > 0 && r.Hide.Has(c.Keyword)
}
