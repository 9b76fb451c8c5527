// Package e2e tests the real binary, built with the race detector and started
// with a configuration file, between real clients and a real Postfix, or the
// scriptable server of package mta where Postfix is too well behaved.
//
// It needs what test/install.sh gets: Postfix unpacked, and curl, swaks and
// openssl. What is missing is a failure, never skipped.
package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"smtpseal/test/postfix"
)

// What all tests share, made by TestMain.
var (
	binary  string          // smtpseal
	mailbox *postfix.Server // where mail is really delivered
)

// The accounts of the mail server.
const (
	user     = "alice@" + postfix.Domain
	password = "correct horse battery"
)

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	for _, tool := range []string{"curl", "swaks", "openssl"} {
		if _, err := exec.LookPath(tool); err != nil {
			return 0, fmt.Errorf("there is no %s: run make test, or test/install.sh", tool)
		}
	}
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "smtpseal")
	if out, err := exec.Command("go", "build", "-race", "-o", binary, "smtpseal/cmd/smtpseal").CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build: %w\n%s", err, out)
	}
	mailbox, err = postfix.Run(postfix.Config{
		Services: []postfix.Service{
			{Name: "plain", SASL: true},
			{Name: "proxy", Proxy: true, SASL: true},
			{Name: "proxy6", Host: "::1", Proxy: true, SASL: true},
			{Name: "limited", Proxy: true, Options: []string{"message_size_limit=104857600"}},
			{Name: "xclient", Options: []string{"smtpd_authorized_xclient_hosts=127.0.0.0/8"}},
		},
		Users: map[string]string{user: password},
	})
	if err != nil {
		return 0, fmt.Errorf("postfix: %w", err)
	}
	code = m.Run()
	if err := mailbox.Stop(); err != nil {
		return 0, fmt.Errorf("postfix: %w", err)
	}
	if code != 0 {
		fmt.Fprintf(os.Stderr, "e2e: Postfix's log:\n%s", tail(mailbox.Log(), 4<<10))
	}
	return code, nil
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }
