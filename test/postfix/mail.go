package postfix

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// A Mail is one delivered message.
type Mail struct {
	Sender    string // of the envelope
	Recipient string // of the envelope
	Received  string // the trace line that Postfix added, unfolded
	QueueID   string // as in the log
	Content   []byte // what was sent, with LF in place of each CRLF
}

// WaitMail returns the first mail delivered to a recipient. A test that sends
// several gives each a recipient of its own.
func (s *Server) WaitMail(t testing.TB, recipient string) Mail {
	t.Helper()
	var found Mail
	s.until(t, "mail for "+recipient, func() bool {
		all := s.Delivered(t)
		i := slices.IndexFunc(all, func(m Mail) bool { return m.Recipient == recipient })
		if i >= 0 {
			found = all[i]
		}
		return i >= 0
	})
	return found
}

// WaitLog returns the first line of the log that matches.
func (s *Server) WaitLog(t testing.TB, pattern string) string {
	t.Helper()
	wanted := regexp.MustCompile(pattern)
	var found string
	seen := 0 // octets of whole lines that do not match
	s.until(t, "log line "+pattern, func() bool {
		log := s.Log()
		for line := range strings.Lines(log[seen:]) {
			if !strings.HasSuffix(line, "\n") {
				break
			}
			seen += len(line)
			if line = strings.TrimSuffix(line, "\n"); wanted.MatchString(line) {
				found = line
				return true
			}
		}
		return false
	})
	return found
}

// Delivered returns all mail so far.
func (s *Server) Delivered(t testing.TB) []Mail {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	dir := filepath.Join(s.dir, "mail", "inbox", "new")
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatalf("postfix: %v", err)
	}
	for _, entry := range entries {
		if s.read[entry.Name()] {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatalf("postfix: %v", err)
		}
		s.read[entry.Name()] = true
		s.mail = append(s.mail, parse(text))
	}
	return slices.Clone(s.mail)
}

// until asks again and again: neither a maildir nor a log can be waited for
// without asking.
func (s *Server) until(t testing.TB, what string, done func() bool) {
	t.Helper()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(s.wait); !done(); <-again.C {
		if time.Now().After(end) {
			t.Fatalf("postfix: waited %v for %s", s.wait, what)
		}
	}
}

var queueID = regexp.MustCompile(`with E?SMTPS?A? id (\w+)`)

// parse takes off the four headers that Postfix has put in front.
func parse(text []byte) Mail {
	var m Mail
	for _, header := range []struct {
		name string
		to   *string
	}{{"Return-Path: ", &m.Sender}, {"X-Original-To: ", new(string)}, {"Delivered-To: ", &m.Recipient}, {"Received: ", &m.Received}} {
		line, rest, _ := cutHeader(text)
		if value, ok := strings.CutPrefix(line, header.name); ok {
			*header.to, text = strings.Trim(value, "<>"), rest
		}
	}
	if match := queueID.FindStringSubmatch(m.Received); match != nil {
		m.QueueID = match[1]
	}
	m.Content = text
	return m
}

// cutHeader cuts off one header with its continuation lines, and unfolds it.
func cutHeader(text []byte) (header string, rest []byte, ok bool) {
	end := 0
	for {
		next := bytes.IndexByte(text[end:], '\n')
		if next < 0 {
			return "", text, false
		}
		end += next + 1
		if end == len(text) || text[end] != ' ' && text[end] != '\t' {
			unfolded := strings.ReplaceAll(string(text[:end-1]), "\n", "")
			return strings.ReplaceAll(unfolded, "\t", " "), text[end:], true
		}
	}
}
