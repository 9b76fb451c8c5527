//go:build linux

package container

import (
	"archive/tar"
	"bytes"
	"crypto/tls"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"smtpseal/test/loopback"
	"smtpseal/test/mta"
)

const user = 65532

// inside is a command of the image, in it: its root directory, its user, and
// nothing of the environment. Who is not root gets a namespace in which the user
// is that.
func inside(root string, args ...string) *exec.Cmd {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env, cmd.Dir = []string{}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: user, Gid: user}
		return cmd
	}
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
	cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: user, HostID: os.Getuid(), Size: 1}}
	cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: user, HostID: os.Getgid(), Size: 1}}
	return cmd
}

// unpacked is the image's file system.
func unpacked(t *testing.T, layer []byte) string {
	t.Helper()
	root, err := os.MkdirTemp("", "root") // not t.TempDir, which others cannot reach
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(root) })
	must(t, os.Chmod(root, 0o755))
	headers, files := members(t, layer)
	for _, h := range headers {
		path := filepath.Join(root, h.Name)
		if h.Typeflag == tar.TypeDir {
			must(t, os.Mkdir(path, os.FileMode(h.Mode)))
		} else {
			must(t, os.WriteFile(path, files[h.Name], os.FileMode(h.Mode)))
		}
		if os.Getuid() == 0 {
			must(t, os.Chown(path, h.Uid, h.Gid))
		}
	}
	return root
}

// From the root directory of the image, with nothing else of this machine in it,
// smtpseal starts, serves, is healthy, drains and is not any more.
func TestImageServes(t *testing.T) {
	made, layer := opened(t)
	root := unpacked(t, layer)
	server := mta.Start(t, mta.Config{Proxy: mta.V2})
	listen, admin := address(t), address(t)
	must(t, os.WriteFile(filepath.Join(root, "etc/smtpseal/smtpseal.yaml"), fmt.Appendf(nil, `
listeners: [{listen: %q, tls: implicit}]
backends: {mta: {servers: [%q], proxy_protocol: v2, relay_check: off}}
certificates: [{names: [localhost], internal: true}]
admin: {listen: %q}
`, listen, server.Addr(), admin), 0o644))

	health := func() ([]byte, error) { return inside(root, made.Config.Healthcheck.Test[1:]...).CombinedOutput() }
	if out, err := health(); err == nil {
		t.Errorf("healthy before it runs: %s", out)
	}
	serve := inside(root, append(made.Config.Entrypoint, made.Config.Cmd...)...)
	log := new(tape)
	serve.Stdout, serve.Stderr = log, log
	must(t, serve.Start())
	ended := make(chan error, 1)
	go func() { ended <- serve.Wait() }()
	t.Cleanup(func() { serve.Process.Kill() })
	log.await(t, `"message":"ready"`)

	conn, err := tls.Dial("tcp", listen, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"})
	must(t, err)
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	greeting := make([]byte, 3)
	if _, err := conn.Read(greeting); err != nil || string(greeting) != "220" {
		t.Errorf("%q, %v", greeting, err)
	}
	conn.Close()
	if out, err := health(); err != nil {
		t.Errorf("not healthy: %v: %s", err, out)
	}
	must(t, serve.Process.Signal(map[string]os.Signal{"SIGTERM": syscall.SIGTERM}[made.Config.StopSignal]))
	if err := <-ended; err != nil {
		t.Errorf("%v\n%s", err, log)
	}
	if out, err := health(); err == nil {
		t.Errorf("healthy after its end: %s", out)
	}
	kept, err := os.ReadDir(filepath.Join(root, "var/lib/smtpseal"))
	if err != nil || len(kept) == 0 {
		t.Errorf("nothing is kept: %v", err)
	}
}

func address(t *testing.T) string {
	t.Helper()
	addr, err := loopback.Free("127.0.0.1")
	must(t, err)
	return addr
}

// A tape is a log that can be waited for.
type tape struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func (l *tape) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.more != nil {
		close(l.more)
		l.more = nil
	}
	return l.text.Write(p)
}

func (l *tape) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *tape) await(t *testing.T, part string) {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		l.mu.Lock()
		if strings.Contains(l.text.String(), part) {
			l.mu.Unlock()
			return
		}
		if l.more == nil {
			l.more = make(chan struct{})
		}
		more := l.more
		l.mu.Unlock()
		select {
		case <-more:
		case <-late:
			t.Fatalf("no %q:\n%s", part, l)
		}
	}
}
