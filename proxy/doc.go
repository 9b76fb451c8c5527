// Package proxy carries a client's session to a backend and back: the heart of
// smtpseal.
//
// A session is one goroutine that takes turns: it forwards a batch of complete
// commands that ends at a verb whose reply matters, hands back exactly that
// many replies, and begins again. Which reply belongs to which command is then
// a count, a drain wakes one blocked read, and an idle session costs a stack
// and its sockets: buffers are borrowed when octets are there.
//
// The order of a session's steps is its listener's Mode and stands in the table
// modes. A backend connection is born with all its facts in its
// PROXY header; a change of TLS state is a new relay with a new connection, so
// there is nothing to forget after STARTTLS (RFC 3207 section 4.2).
//
// What goes wrong is an *end: how the session ended, and what the client is
// told. Steps assign facts to the session's Record; one Observer is given it
// when the session is over.
package proxy
