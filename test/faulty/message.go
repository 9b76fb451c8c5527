package faulty

import "strings"

// mail is about transactions.
func (c *session) mail(verb, rest string) bool {
	if !c.inside && c.Mode == "starttls" && c.Fault != MailInClear {
		return c.say("530 5.7.0 Must issue a STARTTLS command first")
	}
	switch {
	case verb == "MAIL":
		c.rcpts = 0
		return c.say("250 2.1.0 ok")
	case verb == "RCPT" && (strings.Contains(rest, "@"+Domain+">") || c.Fault == OpenRelay):
		c.rcpts++
		return c.say("250 2.1.5 ok")
	case verb == "RCPT":
		return c.say("554 5.7.1 relay access denied")
	case c.rcpts == 0:
		return c.say("503 5.5.1 nobody to send it to")
	}
	return c.say("354 go on") && c.message()
}

// message reads up to what this server takes for the end. A right one hangs up
// on a dot between other line ends.
func (c *session) message() bool {
	end := "\r\n.\r\n"
	also := map[Fault]string{SmugglesBareLF: "\n.\n", SmugglesHalfCRLF: "\r\n.\r\r\n"}[c.Fault]
	text := "\r\n"
	for {
		octet, err := c.in.ReadByte()
		if err != nil {
			return false
		}
		text += string(octet)
		switch {
		case strings.HasSuffix(text, end), also != "" && strings.HasSuffix(text, also):
			c.mu.Lock()
			c.delivered = append(c.delivered, text)
			c.mu.Unlock()
			c.rcpts = 0
			return c.say("250 2.0.0 taken")
		case also == "" && (strings.HasSuffix(text, "\n.\n") || strings.HasSuffix(text, "\r.\r")):
			c.say("554 5.6.0 bare line ends are not taken")
			return false
		}
	}
}
