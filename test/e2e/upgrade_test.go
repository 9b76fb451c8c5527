package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The program is replaced again and again while clients send mail: nobody is
// refused or cut, and no mail is lost or comes twice.
func TestUpgradesUnderLoad(t *testing.T) {
	t.Parallel()
	upgrades, clients := 4, 12
	if full() {
		upgrades, clients = 20, 40
	}
	r := prepareUpgrade(t)
	r.start(t, nil)
	r.ready(t)
	mails := newMailing(r.addrs, r.tls())
	mails.newcomers(clients / 2)
	mails.regulars(clients / 2)
	pids := map[int]bool{r.pid(): true}
	for range upgrades {
		r.upgrade(t)
		pids[r.pid()] = true
		if err := r.servesLocally(r.path("mail.sock")); err != nil {
			t.Errorf("on the unix socket: %v", err)
		}
		for _, addr := range []string{r.admin, "unix:" + r.path("admin.sock")} {
			until(t, "the admin listener to be the new process's", 20*time.Second, func() bool {
				status, err := clientOf(addr).Status(t.Context())
				return err == nil && status.State == "ready"
			})
		}
		time.Sleep(300 * time.Millisecond) // of ordinary life
	}
	mails.end()
	if len(pids) != upgrades+1 {
		t.Errorf("%d upgrades and the processes %v", upgrades, pids)
	}
	r.drained(t)
	mails.check(t, r.server)
	if got := len(r.all("stopped")); got != upgrades+1 {
		t.Errorf("%d processes have stopped in order, want %d", got, upgrades+1)
	}
	for _, e := range r.all("sessions were ended before they were done") {
		t.Errorf("a drain has cut: %v", e)
	}
}

// What replaces the program may be broken in every way: the process that runs
// goes on, and says so. A good one takes over behind each.
func TestUpgradesThatComeToNothing(t *testing.T) {
	t.Parallel()
	r := prepareUpgrade(t)
	r.start(t, nil)
	r.ready(t)
	long := r.open(t, submissions, "")
	long.greet()

	t.Run("ends at once", func(t *testing.T) {
		r.script(t, "exit 3")
		r.refuseUpgrade(t, "exit status 3", nil)
	})
	t.Run("no program at all", func(t *testing.T) {
		replaceFile(t, r.program(), []byte("\x7fELF, or so it says"), 0o755)
		r.refuseUpgrade(t, "exec format error", nil)
	})
	t.Run("not there", func(t *testing.T) {
		if err := os.Remove(r.program()); err != nil {
			t.Fatal(err)
		}
		r.refuseUpgrade(t, "no such file", nil)
	})
	t.Run("a bad configuration", func(t *testing.T) {
		r.replaceProgram(t, binary)
		replaceFile(t, r.file, []byte("listeners: no\n"), 0o600)
		r.refuseUpgrade(t, "exit status 1", nil)
		writeTree(t, r.file, r.conf)
	})
	t.Run("an address that cannot be had", func(t *testing.T) {
		bad := copyTree(r.conf)
		edit(bad, "listeners.0.listen", list{r.addrs[submissions], "192.0.2.1:10465"}) // for documentation: nobody has it
		writeTree(t, r.file, bad)
		r.refuseUpgrade(t, "exit status 1", nil)
		writeTree(t, r.file, r.conf)
	})
	t.Run("hangs", func(t *testing.T) {
		r.script(t, "echo $$ >"+r.path("hangs")+"\nexec sleep 300")
		says := "not ready after 1m0s"
		if !full() {
			says = "signal: killed" // not to wait for the minute
		}
		r.refuseUpgrade(t, says, func() {
			pid := 0
			until(t, "the new process to hang", 20*time.Second, func() bool {
				text, _ := os.ReadFile(r.path("hangs"))
				pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
				return pid > 0
			})
			r.serves(t)
			if !full() {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		})
	})
	if t.Failed() {
		return
	}
	long.Play("> NOOP\n<< 250") // nobody has noticed
	r.replaceProgram(t, binary)
	r.upgrade(t)
	long.Play("<< 421\n< FIN")
	r.serves(t)
	r.drained(t)
}

// A drain of the process that was to hang ends what it had begun.
func TestTERMDuringAnUpgrade(t *testing.T) {
	t.Parallel()
	r := prepareUpgrade(t)
	r.start(t, nil)
	r.ready(t)
	r.script(t, "echo $$ >"+r.path("hangs")+"\nexec sleep 300")
	syscall.Kill(r.pid(), syscall.SIGUSR2)
	var pid string
	until(t, "the new process to hang", 20*time.Second, func() bool {
		text, _ := os.ReadFile(r.path("hangs"))
		pid = strings.TrimSpace(string(text))
		return pid != ""
	})
	r.terminate()
	r.wait("the end", func() bool { return r.find("stopped", nil) != nil })
	until(t, "the new process to be gone", 20*time.Second, func() bool {
		_, err := os.Stat(fmt.Sprintf("/proc/%s", pid))
		return err != nil
	})
}
