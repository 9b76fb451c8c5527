package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
)

// findNaive yields the yardstick: what a Go programmer writes in an hour.
// It sends no PROXY header, checks nothing, has no deadlines.
func findNaive(context.Context, *rig, options) (peer, error) {
	return peer{name: "naive", version: runtime.Version(), startTLS: true, launch: launchNaive}, nil
}

func launchNaive(b *rig, at endpoints) (*process, error) {
	return start(b.logFile("naive"), nil, b.self, "naive", "-cert", b.cert, "-key", b.key,
		"-implicit", at.implicit, "-starttls", at.startTLS, "-backend", b.plain)
}

// naive is the proxy itself.
type naive struct {
	config  *tls.Config
	backend string
}

func naiveMain(args []string) error {
	f := flag.NewFlagSet("naive", flag.ContinueOnError)
	cert := f.String("cert", "", "")
	key := f.String("key", "", "")
	implicitAddr := f.String("implicit", "", "")
	startTLSAddr := f.String("starttls", "", "")
	backend := f.String("backend", "", "")
	if err := f.Parse(args); err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(*cert, *key)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	n := &naive{config: &tls.Config{Certificates: []tls.Certificate{pair}}, backend: *backend}
	l, err := tls.Listen("tcp", *implicitAddr, n.config)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	u, err := net.Listen("tcp", *startTLSAddr)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	go accept(u, n.upgrade)
	return accept(l, n.relay)
}

func accept(l net.Listener, serve func(net.Conn)) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		go serve(c)
	}
}

// relay is the whole of it on 465: the first read does the handshake.
func (n *naive) relay(client net.Conn) {
	defer client.Close()
	backend, err := net.Dial("tcp", n.backend)
	if err != nil {
		return
	}
	defer backend.Close()
	splice(client, backend)
}

func splice(client, backend net.Conn) {
	go func() {
		io.Copy(backend, client)
		backend.Close()
	}()
	io.Copy(client, backend)
}

// upgrade is the least that passes for STARTTLS on 587.
func (n *naive) upgrade(clear net.Conn) {
	defer clear.Close()
	if !offerTLS(clear) {
		return
	}
	client := tls.Server(clear, n.config)
	defer client.Close()
	if err := client.Handshake(); err != nil {
		return
	}
	backend, err := net.Dial("tcp", n.backend)
	if err != nil {
		return
	}
	defer backend.Close()
	// The client had its greeting from us; the backend's fits one read here.
	if _, err := backend.Read(make([]byte, 512)); err != nil {
		return
	}
	splice(client, backend)
}

func offerTLS(c net.Conn) bool {
	io.WriteString(c, "220 "+serverName+" ESMTP\r\n")
	for r := bufio.NewReader(c); ; {
		line, err := r.ReadString('\n')
		if err != nil {
			return false
		}
		if strings.HasPrefix(line, "STARTTLS") {
			_, err := io.WriteString(c, "220 2.0.0 Go ahead\r\n")
			return err == nil
		}
		io.WriteString(c, "250-"+serverName+"\r\n250 STARTTLS\r\n")
	}
}
