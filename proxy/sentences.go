package proxy

// A sentence is a reply of our own: all that a client ever hears from us. It
// says nothing about our inside. Those of code 421 and the greeting name us
// (RFC 5321 section 4.2.2), the others carry an enhanced code (RFC 3463).
type sentence struct{ code, text string }

var (
	greeting     = sentence{"220", "ESMTP"}
	helloReply   = sentence{"250", ""}
	ehloReply    = sentence{"250-", "STARTTLS"}
	ehloWithout  = sentence{"250-", ""}
	okReply      = sentence{"250 2.0.0", "Ok"}
	helpReply    = sentence{"214 2.0.0", "This port demands TLS: EHLO, then STARTTLS (RFC 3207)"}
	byeReply     = sentence{"221 2.0.0", "Bye"}
	readyForTLS  = sentence{"220 2.0.0", "Ready to start TLS"}
	needTLS      = sentence{"530 5.7.0", "Must issue a STARTTLS command first"}
	authNeedsTLS = sentence{"538 5.7.11", "Encryption required for requested authentication mechanism"}
	noTLSNow     = sentence{"454 4.7.0", "TLS not available due to temporary reason"}
	tlsIsUp      = sentence{"503 5.5.1", "TLS is already active"}
	noArgument   = sentence{"501 5.5.4", "Syntax error, no parameters allowed"}
	ehloArgument = sentence{"501 5.5.4", "Syntax: EHLO hostname"}
	notHere      = sentence{"502 5.5.1", "Command not implemented"}
	notAnnounced = sentence{"503 5.5.1", "CHUNKING was not announced"}
	badChunkSize = sentence{"501 5.5.4", "Syntax: BDAT size [LAST]"}
	badCommand   = sentence{"500 5.5.2", "Command line too long, or with NUL or bare CR in it"}
	smuggled     = sentence{"554 5.6.0", "A dot alone between line ends that are not CRLF (RFC 5321 section 2.3.8)"}

	overLimit     = sentence{"421 4.7.0", "Too many connections, try again later"}
	tooMany       = sentence{"421 4.7.0", "Too many commands"}
	notSMTP       = sentence{"421 4.7.0", "This is a mail server"}
	behindTLS     = sentence{"421 4.7.0", "Commands behind STARTTLS"}
	timedOut      = sentence{"421 4.4.2", "Timeout, closing connection"}
	shuttingDown  = sentence{"421 4.3.2", "Service shutting down, try again later"}
	unavailable   = sentence{"421 4.3.0", "Service not available, try again later"}
	backendLost   = sentence{"421 4.4.2", "Service lost, try again later"}
	internalFault = sentence{"421 4.3.0", "Service not available, try again later"}
)

// line returns the reply as it goes out, or nil for the sentence that says
// nothing.
func (s sentence) line(hostname string) []byte {
	switch {
	case s.code == "":
		return nil
	case s == ehloReply:
		return []byte("250-" + hostname + "\r\n250-STARTTLS\r\n250 ENHANCEDSTATUSCODES\r\n")
	case s == ehloWithout:
		return []byte("250-" + hostname + "\r\n250 ENHANCEDSTATUSCODES\r\n")
	case s == helloReply:
		return []byte("250 " + hostname + "\r\n")
	case s.code == "220":
		return []byte("220 " + hostname + " " + s.text + "\r\n")
	case s.code[:3] == "421":
		return []byte(s.code + " " + hostname + " " + s.text + "\r\n")
	}
	return []byte(s.code + " " + s.text + "\r\n")
}
