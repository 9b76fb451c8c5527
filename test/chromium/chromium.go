// Package chromium runs a real Chromium for tests: headless, with a profile of
// its own that ends with the test, from the package that test/install.sh has
// unpacked. It needs no root, and calls nobody but those whom a page asks for.
//
// A Browser is one process, which takes half a second to start; a Tab takes a
// few milliseconds, so a test opens as many as it has cases.
package chromium

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"smtpseal/test/debian"
)

// patience bounds every wait for the browser.
const patience = 20 * time.Second

// A Browser is a running Chromium.
type Browser struct {
	pipe    *pipe
	process *exec.Cmd
	ended   chan struct{}
	log     string // the file of what it says
}

// Start runs Chromium until the test ends. Hosts says where names are found,
// such as "evil.example": "127.0.0.1" (with a port, that is taken, too, whatever
// the page says); all others are not found, so that no test depends on the net.
func Start(t testing.TB, hosts map[string]string) *Browser {
	t.Helper()
	b, err := run(t.TempDir(), hosts)
	if err != nil {
		t.Fatalf("chromium: %v", err)
	}
	t.Cleanup(func() {
		if err := b.stop(); err != nil {
			t.Errorf("chromium: %v", err)
		}
		if t.Failed() {
			text, _ := os.ReadFile(b.log)
			t.Logf("what Chromium said:\n%s", text)
		}
	})
	return b
}

func run(dir string, hosts map[string]string) (*Browser, error) {
	root, err := debian.Root()
	if err != nil {
		return nil, err
	}
	if err := writeFonts(dir, root); err != nil {
		return nil, err
	}
	b := &Browser{ended: make(chan struct{}), log: filepath.Join(dir, "log")}
	b.process = exec.Command(filepath.Join(root, "usr/lib/chromium/chromium-headless-shell"), flags(dir, hosts)...)
	b.process.Env = []string{
		"LD_LIBRARY_PATH=" + debian.LibraryPath(root, privateLibraries(root)...),
		"FONTCONFIG_FILE=" + filepath.Join(dir, "fonts.conf"),
		"HOME=" + dir, "TMPDIR=" + dir, "LC_ALL=C", "TZ=UTC",
	}
	return b, b.launch()
}

// privateLibraries are those that a package keeps in a directory of its own and
// finds by its absolute path, which does not lead to where it was unpacked.
func privateLibraries(root string) []string {
	var found []string
	for _, name := range []string{"pulseaudio", "nss"} {
		matches, _ := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu*", name))
		found = append(found, matches...)
	}
	return found
}

// writeFonts lets the browser find the machine's fonts, and those that were
// unpacked, without a configuration in /etc.
func writeFonts(dir, root string) error {
	text := fmt.Sprintf(`<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig><dir>/usr/share/fonts</dir><dir>%s/usr/share/fonts</dir><cachedir>%s/fonts</cachedir>
<match target="pattern"><edit name="family" mode="append" binding="weak"><string>DejaVu Sans</string></edit></match></fontconfig>
`, root, dir)
	return os.WriteFile(filepath.Join(dir, "fonts.conf"), []byte(text), 0o600)
}

func flags(dir string, hosts map[string]string) []string {
	var rules []string
	for name, addr := range hosts {
		rules = append(rules, "MAP "+name+" "+addr)
	}
	rules = append(rules, "MAP * ~NOTFOUND", "EXCLUDE 127.0.0.1", "EXCLUDE localhost")
	flags := []string{
		"--remote-debugging-pipe", "--user-data-dir=" + filepath.Join(dir, "profile"),
		"--host-resolver-rules=" + strings.Join(rules, ","),
		"--disable-background-networking", "--disable-component-update", "--disable-default-apps", "--disable-sync",
		"--no-first-run", "--no-default-browser-check", "--metrics-recording-only", "--no-proxy-server",
		"--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars=false", "--force-device-scale-factor=1",
	}
	if os.Geteuid() == 0 {
		flags = append(flags, "--no-sandbox") // which refuses root
	}
	return append(flags, "about:blank")
}

// launch starts the process. It reads commands from its file 3 and answers on 4.
func (b *Browser) launch() error {
	commands, toBrowser, err := os.Pipe()
	if err != nil {
		return err
	}
	defer commands.Close()
	fromBrowser, answers, err := os.Pipe()
	if err != nil {
		return errors.Join(err, toBrowser.Close())
	}
	defer answers.Close()
	log, err := os.Create(b.log)
	if err != nil {
		return err
	}
	defer log.Close()
	b.process.Stdout, b.process.Stderr = log, log
	b.process.ExtraFiles = []*os.File{commands, answers}
	// It cannot outlive the test. A group of its own, for its many children.
	b.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := b.process.Start(); err != nil {
		return errors.Join(err, toBrowser.Close(), fromBrowser.Close())
	}
	b.pipe = newPipe(toBrowser, fromBrowser)
	go func() { b.process.Wait(); close(b.ended) }()
	if err := b.pipe.call("", "Browser.getVersion", nil, nil); err != nil {
		text, _ := os.ReadFile(b.log)
		return errors.Join(err, b.stop(), errors.New(string(text)))
	}
	return nil
}

func (b *Browser) stop() error {
	b.pipe.send("", "Browser.close", nil)
	defer b.pipe.close()
	select {
	case <-b.ended:
		return nil
	case <-time.After(patience):
		syscall.Kill(-b.process.Process.Pid, syscall.SIGKILL)
		<-b.ended
		return fmt.Errorf("it did not end in %s", patience)
	}
}
