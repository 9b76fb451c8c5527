package upgrade

import "net"

// A quiet listener accepts connections without keep-alive probes, like those
// that smtpseal opens itself (cmd/smtpseal/listen.go). Go turns probes on for
// a listener that it was given, and has no setting for it.
type quiet struct{ *net.TCPListener }

func (q quiet) Accept() (net.Conn, error) {
	conn, err := q.AcceptTCP()
	if err != nil {
		return nil, err
	}
	conn.SetKeepAlive(false) // an error means a dead connection, which its first read will say
	return conn, nil
}
