package packages

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"smtpseal/test/debian"
)

// A machine is a copy of this one that nobody will miss, with a systemd of its
// own: what is installed, written and started there is gone when the test ends.
type machine struct {
	t   *testing.T
	pid string // of its systemd
}

// forbidden is what the kernel says where privileges are missing, whoever one is.
var forbidden = regexp.MustCompile(`(?i)permission denied|operation not permitted`)

// boot returns when the machine is up. It needs root.
func boot(t *testing.T) *machine {
	t.Helper()
	unpacked, err := debian.Root()
	if err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs("machine.sh")
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("unshare", "--mount", "--propagation=private", "sh", script, t.TempDir(), unpacked)
	var said bytes.Buffer
	c.Stderr = &said
	life, err := c.StdinPipe() // closed by whatever ends this process, too
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var outer int
	if _, err := fmt.Fscan(stdout, &outer); err != nil {
		life.Close()
		c.Wait()
		if forbidden.MatchString(said.String()) {
			t.Skipf("root may not mount here, or make namespaces, as in some containers; a machine takes both:\n%s", said.String())
		}
		t.Fatalf("the machine did not begin: %v\n%s", err, said.String())
	}
	t.Cleanup(func() {
		life.Close()
		if err := c.Wait(); err != nil {
			t.Errorf("the machine: %v\n%s", err, said.String())
		}
	})
	m := &machine{t: t}
	until(t, "the machine to be up", func() bool {
		child, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", outer, outer))
		m.pid = strings.TrimSpace(string(child))
		name, _ := os.ReadFile("/proc/" + m.pid + "/comm")
		if string(name) != "systemd\n" {
			return false
		}
		out, _ := m.command("systemctl", "is-system-running").Output()
		state := strings.TrimSpace(string(out))
		return state == "running" || state == "degraded"
	})
	return m
}

// command is one that runs on the machine.
func (m *machine) command(args ...string) *exec.Cmd {
	enter := []string{"--target", m.pid, "--mount", "--pid", "--cgroup", "--ipc", "--uts", "--root", "--wd", "env", "-i",
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive"}
	c := exec.Command("nsenter", append(enter, args...)...)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return c
}

// try returns all that a command said, and whether it ended well.
func (m *machine) try(args ...string) (said string, ok bool) {
	text, err := m.command(args...).CombinedOutput()
	return string(text), err == nil
}

// run is try where it must.
func (m *machine) run(args ...string) string {
	m.t.Helper()
	said, ok := m.try(args...)
	if !ok {
		journal, _ := m.try("journalctl", "--no-pager", "--unit=smtpseal.service", "--lines=20")
		m.t.Fatalf("%s:\n%s\n%s", strings.Join(args, " "), said, journal)
	}
	return said
}

// path is where a file of the machine is seen from here.
func (m *machine) path(file string) string { return "/proc/" + m.pid + "/root" + file }

func (m *machine) write(file, text string) {
	m.t.Helper()
	// What is there keeps its owner and rights.
	if err := os.WriteFile(m.path(file), []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// has reports whether there is such a file.
func (m *machine) has(file string) bool {
	_, err := os.Lstat(m.path(file))
	return err == nil
}

// bring copies files to /root.
func (m *machine) bring(files ...string) {
	m.t.Helper()
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			m.t.Fatal(err)
		}
		if err := os.WriteFile(m.path("/root/"+filepath.Base(file)), text, 0o644); err != nil {
			m.t.Fatal(err)
		}
	}
}

// mainPID is the service's, as systemd knows it; "0" when there is none.
func (m *machine) mainPID() string {
	return strings.TrimSpace(m.run("systemctl", "show", "--property=MainPID", "--value", "smtpseal.service"))
}

// until polls; a machine shared by many may take its time.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited a minute for %s", what)
		}
	}
}
