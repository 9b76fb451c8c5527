package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// haproxyConfig: one thread, TLS 1.3 with AES-128, PROXY v2, no log. The
// time-outs are longer than any measurement.
const haproxyConfig = `global
	nbthread 1
	maxconn %d
	ssl-default-bind-options ssl-min-ver TLSv1.3
	ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256
defaults
	mode tcp
	timeout connect 10s
	timeout client 10m
	timeout server 10m
frontend submissions
	bind %s ssl crt %s curves X25519
	default_backend sink
backend sink
	server sink %s send-proxy-v2
`

// findHAProxy looks at the command line, then in $PATH, then in the archive.
func findHAProxy(ctx context.Context, b *rig, o options) (peer, error) {
	program := o.HAProxy
	var env []string
	if program == "" {
		program, _ = exec.LookPath("haproxy")
	}
	if program == "" {
		root := filepath.Join(b.root, ".cache", "bench", "haproxy")
		if err := unpackHAProxy(ctx, root); err != nil {
			return peer{}, err
		}
		program = filepath.Join(root, "usr/sbin/haproxy")
		libraries, _ := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-*"))
		env = []string{"LD_LIBRARY_PATH=" + strings.Join(libraries, ":")}
	}
	cmd := exec.CommandContext(ctx, program, "-v")
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return peer{}, fmt.Errorf("%s -v: %w: %s", program, err, out)
	}
	version, _, _ := strings.Cut(string(out), "\n")
	launch := func(b *rig, at endpoints) (*process, error) { return launchHAProxy(b, at, program, env) }
	return peer{name: "haproxy", version: version, launch: launch}, nil
}

func launchHAProxy(b *rig, at endpoints, program string, env []string) (*process, error) {
	log := b.logFile("haproxy")
	file := log + ".cfg"
	// Two descriptors a session must fit the hard limit, or HAProxy refuses.
	text := fmt.Sprintf(haproxyConfig, b.size.idle+1000, at.implicit, b.pair, b.proxied)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return start(log, env, program, "-db", "-f", file)
}

// unpackHAProxy puts the package and the libraries that this machine lacks
// below root. Nothing is installed and no service is started.
func unpackHAProxy(ctx context.Context, root string) error {
	_, err := os.Stat(filepath.Join(root, "usr/sbin/haproxy"))
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Beside root and renamed at the end: an interrupted unpacking leaves
	// nothing that looks whole.
	if err := os.MkdirAll(filepath.Dir(root), 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp(filepath.Dir(root), "unpack-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	missing, err := missingPackages(ctx)
	if err != nil {
		return err
	}
	if _, err := command(ctx, work, "apt-get", append([]string{"download"}, missing...)...); err != nil {
		return err
	}
	packages, _ := filepath.Glob(filepath.Join(work, "*.deb"))
	for _, file := range packages {
		if _, err := command(ctx, work, "dpkg", "-x", file, filepath.Join(work, "root")); err != nil {
			return err
		}
	}
	return os.Rename(filepath.Join(work, "root"), root)
}

// missingPackages asks apt what it would install. With lists that are absent
// or old it answers nothing, so they are refreshed once.
func missingPackages(ctx context.Context) ([]string, error) {
	const dir = "/"
	simulate := []string{"install", "--simulate", "--no-install-recommends", "haproxy"}
	out, err := command(ctx, dir, "apt-get", simulate...)
	if err != nil {
		if _, err := command(ctx, dir, "apt-get", "update"); err != nil {
			return nil, err
		}
		if out, err = command(ctx, dir, "apt-get", simulate...); err != nil {
			return nil, err
		}
	}
	var names []string
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "Inst" {
			names = append(names, f[1])
		}
	}
	if len(names) == 0 {
		return nil, errors.New("apt knows no package to unpack: give one with -haproxy, or leave it out with -peers")
	}
	return names, nil
}

// command runs a program in dir and returns its standard output; its error
// has what the program said.
func command(ctx context.Context, dir, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", program, args[0], err, bytes.TrimSpace(said.Bytes()))
	}
	return string(out), nil
}
