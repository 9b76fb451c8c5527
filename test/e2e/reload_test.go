package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Every key of the configuration changes while clients send mail, and between
// the changes there are files that cannot be had: nobody is refused or cut, no
// ticket is lost, and what was refused has changed nothing. Afterwards nothing
// is left of it all.
func TestReloadsUnderLoad(t *testing.T) {
	t.Parallel()
	r := newStorm(t)
	r.make(t, 1, change{}) // what a first reload leaves, stays
	before := r.rest(t)

	mails := newMailing(r.addrs, r.tls())
	clients, pace, lasts := 3, time.Duration(0), time.Duration(0)
	if full() {
		clients, pace, lasts = 8, time.Second, 2*time.Minute
	}
	mails.newcomers(clients)
	mails.regulars(clients)
	bad := r.badFiles(t)
	changes := r.changes(t)
	n := 0
	for began := time.Now(); n == 0 || time.Since(began) < lasts; {
		for i, c := range changes {
			next := time.After(pace)
			r.make(t, n, c)
			if n++; len(bad) > 0 && (i+1)*len(bad)/len(changes) > i*len(bad)/len(changes) && r.admin != "" {
				r.refuse(t, bad[0])
				bad = bad[1:]
			}
			<-next
		}
		r.make(t, 1, change{set: r.back(), newTLS: true})
	}
	mails.end()
	mails.check(t, r.servers...)
	r.covered(t)
	for len(bad) > 0 {
		r.refuse(t, bad[0])
		bad = bad[1:]
	}
	t.Logf("%d reloads, %d files refused", r.ok, r.bad)
	var after rest
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if after = r.rest(t); after.goroutines <= before.goroutines && after.descriptors <= before.descriptors {
			break
		}
	}
	if after.goroutines > before.goroutines || after.descriptors > before.descriptors {
		edit(r.now, "admin.pprof", true)
		r.make(t, 1, change{})
		out, _ := exec.Command("curl", "-sS", "http://"+r.admin+"/debug/pprof/goroutine?debug=1").Output()
		t.Errorf("not as before:\n%s", out)
	}
	t.Logf("goroutines: %d before, %d after; descriptors: %d, %d", before.goroutines, after.goroutines, before.descriptors, after.descriptors)
	for _, outcome := range []string{"internal", "violation", "backend_unreachable", "backend_refused", "refused"} {
		for _, l := range r.status(t).Listeners {
			if l.Ended[outcome] != 0 {
				t.Errorf("%s: %d sessions ended with %s", l.Name, l.Ended[outcome], outcome)
			}
		}
	}
}

// back is the change to what was at first.
func (r *storm) back() (set []any) {
	for key := range r.now {
		set = append(set, key, r.base[key])
	}
	return set
}

// A rest is what a process has when nothing goes on.
type rest struct{ goroutines, descriptors int }

func (r *storm) rest(t *testing.T) rest {
	t.Helper()
	return rest{r.metric(t, "go_goroutines"), r.descriptors()}
}

// A badFile is a configuration that must be refused.
type badFile struct {
	name, says string
	text       []byte // nil: set says what is wrong with it
	set        []any
	byCommand  bool // smtpseal reload is tried, too
}

// badFiles are some that the package config knows to be bad, and some that are
// well-formed and ask for what cannot be had.
func (r *storm) badFiles(t *testing.T) (all []badFile) {
	t.Helper()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	cert, key := r.root.pair(t, hostname)
	other, _ := r.root.pair(t, hostname)
	first := r.base["listeners"].(list)[0].(tree)["listen"]
	for _, set := range [][]any{
		{"listeners.0.listen", list{first, taken.Addr().String()}, "address already in use"},
		{"listeners.0.listen", list{first, "192.0.2.1:10465"}, "cannot assign requested address"},
		{"listeners.1.listen", "unix:" + r.dir + "/nowhere/s", "accept_proxy"},
		{"admin.listen", list{taken.Addr().String()}, "address already in use"},
		{"acme.http_listen", taken.Addr().String(), "address already in use"},
		{"certificates.0.cert_file", r.dir + "/no.crt", "no.crt"},
		{"certificates.0", tree{"cert_file": other, "key_file": key}, "key"},
		{"certificates.0.key_file", cert, "key"},
		{"listeners.0.client_auth", "require", "client_ca_file"},
		{"listeners.0", tree{"name": submissions, "listen": first, "tls": "implicit", "backend": "mta", "client_auth": "require", "client_ca_file": r.dir + "/no.pem"}, "no.pem"},
		{"acme.trusted_roots", r.dir + "/no-roots.pem", "no-roots.pem"},
		{"storage", tree{"type": "redis", "url": "redis://127.0.0.1:1"}, "connection refused"},
		{"storage", tree{"type": "file", "path": r.file}, "smtpseal.yaml"},
		{"storage.encryption_key", "file:" + r.dir + "/no-secret", "no-secret"},
	} {
		text := set[len(set)-1].(string)
		all = append(all, badFile{name: set[0].(string), says: text, set: set[:len(set)-1], byCommand: len(all)%5 == 0})
	}
	golden, err := filepath.Glob("../../config/testdata/bad/*.yaml")
	if err != nil || len(golden) < 60 {
		t.Fatalf("%d bad files: %v", len(golden), err)
	}
	wanted := 6
	if full() {
		wanted = 40 - len(all)
	}
	for i := range wanted {
		file := golden[i*len(golden)/wanted]
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		one := badFile{name: filepath.Base(file), says: "smtpseal.yaml", text: text}
		if one.byCommand = i%5 == 0 && bytes.HasPrefix(text, []byte("listeners:")) && !bytes.Contains(text, []byte("\nadmin:")); one.byCommand {
			one.text = fmt.Appendf(text, "\nadmin: {listen: %q}\n", r.base["admin"].(tree)["listen"])
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b badFile) int { return strings.Compare(a.name, b.name) })
	return all
}
