package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"smtpseal/admin"
	"smtpseal/test/mta"
	"smtpseal/test/pebble"
	"smtpseal/test/redis"
)

// A storm is an smtpseal whose configuration changes under load.
type storm struct {
	*process
	servers []*mta.Server // reading PROXY v2, v2, v1 and none
	ca, ca2 *pebble.CA
	redis   *redis.Server
	root    *root
	dir     string
	file    string
	base    tree

	now     tree // in effect
	resumer resumer
	ok      int64 // reloads that went well
	bad     int64
	seen    map[string]bool // keys that were changed
}

func newStorm(t *testing.T) *storm {
	t.Helper()
	r := &storm{dir: t.TempDir(), root: newRoot(t), ca: pebble.Start(t, pebble.Options{}), redis: redis.Start(t, redis.Config{}), seen: map[string]bool{}}
	_, port, _ := net.SplitHostPort(r.ca.HTTPAddr())
	number := 0
	fmt.Sscan(port, &number)
	r.ca2 = pebble.Start(t, pebble.Options{HTTPPort: number})
	for _, header := range []mta.Proxy{mta.V2, mta.V2, mta.V1, mta.NoProxy} {
		r.servers = append(r.servers, mta.Start(t, mta.Config{Proxy: header}))
	}
	cert, key := r.root.pair(t, hostname)
	r.file = filepath.Join(r.dir, "smtpseal.yaml")
	adminAddr := freeAddr(t)
	backend := func(n int) tree {
		return tree{"preset": "postfix", "servers": list{r.servers[n].Addr()}, "health": tree{"interval": "off"}, "relay_check": "off"}
	}
	r.base = copyTree(tree{
		"hostname": hostname,
		"listeners": list{
			tree{"name": submissions, "listen": freeAddr(t), "tls": "implicit", "backend": "mta"},
			tree{"name": submission, "listen": freeAddr(t), "tls": "starttls", "backend": "mta"},
		},
		"backends": tree{"mta": backend(0), "other": backend(1)},
		"certificates": list{
			tree{"cert_file": cert, "key_file": key},
			tree{"names": list{"internal.example.test"}, "internal": true},
			tree{"names": list{"acme.example.test"}},
		},
		"acme": tree{"email": "ops@example.org", "directory": r.ca.DirectoryURL(), "trusted_roots": r.ca.RootsFile(),
			"challenges": list{"http-01"}, "http_listen": r.ca.HTTPAddr()},
		"storage":  tree{"type": "file", "path": filepath.Join(r.dir, "storage")},
		"admin":    tree{"listen": adminAddr},
		"timeouts": tree{"shutdown": "10s"},
		"limits":   tree{"max_sessions": 4000, "max_sessions_per_client": 2000},
		"log":      tree{"level": "info", "format": "json"},
	})
	r.now = copyTree(r.base)
	writeTree(t, r.file, r.now)
	r.process = spawn(t, exec.Command(binary, "run", "-c", r.file))
	r.admin = adminAddr
	r.wait("the process to be ready", func() bool { return r.find("ready", nil) != nil })
	for i, name := range []string{submissions, submission} {
		r.addrs[name] = r.base["listeners"].(list)[i].(tree)["listen"].(string)
	}
	r.roots = r.ca.IssuerRoots()
	r.roots.AddCert(r.root.cert)
	r.rootFile = r.root.file()
	internal, err := os.ReadFile(filepath.Join(r.dir, "storage", "internal", "root.crt"))
	if err != nil || !r.roots.AppendCertsFromPEM(internal) {
		t.Fatalf("the internal CA's root: %v", err)
	}
	r.obtained("acme.example.test")
	copyDir(t, filepath.Join(r.dir, "storage"), filepath.Join(r.dir, "copy"))
	r.resumer = newResumer(r.addrs[submissions], r.roots)
	r.resumer.come(t)
	return r
}

// make makes a change and checks that it is in effect.
func (r *storm) make(t *testing.T, n int, c change) {
	t.Helper()
	next := copyTree(r.now)
	for i := 0; i < len(c.set); i += 2 {
		edit(next, c.set[i].(string), c.set[i+1])
	}
	next = copyTree(next)
	writeTree(t, r.file, next)
	switch {
	case c.hup:
		before := len(r.all("configuration reloaded"))
		r.hup()
		r.wait("a reload: "+fmt.Sprint(c.set...), func() bool { return len(r.all("configuration reloaded")) > before })
	case n%3 == 0:
		r.hup()
		until(t, "a reload: "+fmt.Sprint(c.set...), 30*time.Second, func() bool {
			r.follow(t, next)
			status, err := r.ask().Status(t.Context())
			if err == nil && status.Reloads.Failed > r.bad {
				t.Fatalf("%v: %s", c.set, status.Reloads.Last.Error)
			}
			return err == nil && status.Reloads.OK > r.ok
		})
	default:
		if err := r.ask().Reload(t.Context()); err != nil {
			t.Fatalf("%v: %v", c.set, err)
		}
	}
	r.ok++
	r.follow(t, next)
	r.note(next)
	r.now = next
	if r.admin != "" {
		r.compare(t, c)
	}
	if c.look != nil {
		c.look()
	}
	if resumed := r.resumer.come(t); !resumed && !c.newTLS {
		t.Errorf("a ticket was lost by %v", c.set)
	}
}

// follow finds the admin listener.
func (r *storm) follow(t *testing.T, c tree) {
	t.Helper()
	switch admin := c["admin"].(tree)["listen"].(type) {
	case string:
		if r.admin = admin; admin == "off" {
			r.admin = ""
		}
	case list:
		r.admin = admin[len(admin)-1].(string)
		if strings.HasPrefix(admin[0].(string), "127.") {
			r.admin = admin[0].(string)
		}
	}
}

// compare holds what the process says of itself against the file.
func (r *storm) compare(t *testing.T, c change) {
	t.Helper()
	status := r.status(t)
	if status.Hostname != r.now["hostname"] || status.Reloads.OK != r.ok || status.Reloads.Failed != r.bad {
		t.Errorf("behind %v: hostname %s, %d reloads and %d failed, want %d and %d", c.set, status.Hostname, status.Reloads.OK, status.Reloads.Failed, r.ok, r.bad)
	}
	var want, got []string
	for _, one := range r.now["listeners"].(list) {
		l := one.(tree)
		var addrs []string
		switch listen := l["listen"].(type) {
		case string:
			addrs = []string{listen}
		case list:
			for _, addr := range listen {
				addrs = append(addrs, addr.(string))
			}
		}
		want = append(want, fmt.Sprint(l["name"], l["tls"], l["backend"], addrs))
	}
	for _, l := range status.Listeners {
		if len(l.Addresses) > 0 { // of those that are gone there are counts
			got = append(got, fmt.Sprint(l.Name, l.Mode, l.Backend, l.Addresses))
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("behind %v: listeners %q, want %q", c.set, got, want)
	}
}

// knock is a client's stay at a door.
func (r *storm) knock(network, addr string, startTLS bool, header string, own *tls.Certificate) error {
	raw, err := net.Dial(network, addr)
	if err != nil {
		return err
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(stayLimit))
	if _, err := raw.Write([]byte(header)); err != nil {
		return err
	}
	greeting := []string{"", "220"}
	if startTLS {
		if err := newStayer(raw).ask("", "220", "EHLO client.example\r\n", "250", "STARTTLS\r\n", "220"); err != nil {
			return err
		}
		greeting = nil
	}
	config := r.tls()
	if own != nil {
		config.Certificates = []tls.Certificate{*own}
	}
	conn := tls.Client(raw, config)
	if err := conn.Handshake(); err != nil {
		return err
	}
	return newStayer(conn).ask(append(greeting, "EHLO client.example\r\n", "250", "QUIT\r\n", "221")...)
}

// state is what must be as it was behind a file that was refused.
func (r *storm) state(t *testing.T) string {
	t.Helper()
	status := r.status(t)
	var certificates []string
	for _, c := range status.Certificates {
		certificates = append(certificates, fmt.Sprint(c.Names, c.Serial))
	}
	var listeners []string
	for _, l := range status.Listeners {
		listeners = append(listeners, fmt.Sprint(l.Name, l.Mode, l.Addresses, l.Backend, l.TLSReady))
	}
	leaf, err := r.leaf(submission, hostname)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(status.Hostname, status.Ready, listeners, backendNames(status), certificates, serial(leaf))
}

func backendNames(status admin.Status) (all []string) {
	for _, b := range status.Backends {
		for _, s := range b.Servers {
			all = append(all, b.Name+" "+s.Address)
		}
	}
	return all
}

// refuse has a bad file read, by the signal and, if it is wanted, by the command.
func (r *storm) refuse(t *testing.T, bad badFile) {
	t.Helper()
	before, name, says := r.state(t), bad.name, bad.says
	if bad.text != nil {
		replaceFile(t, r.file, bad.text, 0o600)
	} else {
		next := copyTree(r.now)
		for i := 0; i < len(bad.set); i += 2 {
			edit(next, bad.set[i].(string), bad.set[i+1])
		}
		writeTree(t, r.file, next)
	}
	r.hup()
	r.bad++
	until(t, "a reload to fail: "+name, 30*time.Second, func() bool {
		status, err := r.ask().Status(t.Context())
		return err == nil && status.Reloads.Failed == r.bad
	})
	status := r.status(t)
	if last := status.Reloads.Last; last.Result != "failed" || !strings.Contains(last.Error, says) {
		t.Errorf("%s: the status says %+v, want %q", name, last, says)
	}
	if n := r.metric(t, `smtpseal_config_reloads_total{result="failed"}`); int64(n) != r.bad {
		t.Errorf("%s: %d failed reloads in the metrics, want %d", name, n, r.bad)
	}
	if bad.byCommand {
		o := reloadBy(t, r.file)
		if o.code != 1 || !strings.Contains(o.stderr, says) || o.stdout != "" {
			t.Errorf("%s: smtpseal reload: exit %d, %q, %q", name, o.code, o.stdout, o.stderr)
		}
		r.bad = r.status(t).Reloads.Failed // a file that says nothing is not asked for
	}
	if after := r.state(t); after != before {
		t.Errorf("%s has changed\n%s\nto\n%s", name, before, after)
	}
	if !r.resumer.come(t) {
		t.Errorf("%s has cost a ticket", name)
	}
	writeTree(t, r.file, r.now)
}

// note remembers which keys differ from the configuration before.
func (r *storm) note(next tree) {
	before, after := map[string]string{}, map[string]string{}
	flatten(before, "", r.now)
	flatten(after, "", next)
	for path, value := range after {
		if before[path] != value {
			r.seen[general(path)] = true
		}
	}
	for path := range before {
		if _, there := after[path]; !there {
			r.seen[general(path)] = true
		}
	}
}

func flatten(all map[string]string, path string, value any) {
	switch value := value.(type) {
	case tree:
		for key, inner := range value {
			flatten(all, path+"."+key, inner)
		}
	case list:
		for i, inner := range value {
			if _, deep := inner.(tree); deep {
				flatten(all, fmt.Sprintf("%s.%d", path, i), inner)
			} else {
				all[path] += fmt.Sprintf("%v ", inner)
			}
		}
		if len(value) == 0 {
			all[path] = "[]"
		}
	default:
		all[path] = fmt.Sprint(value)
	}
}

// general is a key path without what is a name or a number.
func general(path string) string {
	keys := strings.Split(strings.TrimPrefix(path, "."), ".")
	for i := range keys {
		if _, err := fmt.Sscanf(keys[i], "%d", new(int)); err == nil || i == 1 && keys[0] == "backends" {
			keys[i] = "*"
		}
	}
	return strings.Join(keys, ".")
}

// covered fails the test for a key of the example that was never changed.
func (r *storm) covered(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile("../../config.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var example tree
	if err := yaml.Unmarshal(text, &example); err != nil {
		t.Fatal(err)
	}
	wanted := map[string]string{}
	flatten(wanted, "", example)
	for _, one := range []string{"balance", "xclient", "tls"} { // have no second value
		delete(wanted, ".backends.mta."+one)
	}
	for _, one := range []string{"namespace", "kubeconfig"} { // of a cluster
		delete(wanted, ".storage."+one)
	}
	for path := range wanted {
		if !r.seen[general(path)] && general(path) != "acme.fallback" { // which has keys of its own
			t.Errorf("%s was never changed", general(path))
		}
	}
	t.Logf("%d keys were changed", len(r.seen))
}
