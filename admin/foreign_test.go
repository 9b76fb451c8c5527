package admin

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"smtpseal/test/chromium"
)

// attack is everything a foreign page can try. What it learns goes into log.
const attack = `<!DOCTYPE html><title>foreign</title>
<iframe name=hole></iframe><iframe id=frame src="%[1]s/"></iframe>
<form id=form method=post target=hole action="%[1]s/drain"><input name=Smtpseal-Request value=1></form>
<form id=plain method=post target=hole enctype=text/plain action="%[1]s/reload"><input name="{" value="}"></form>
<img src="%[1]s/drain"><img src="%[1]s/certificates/renew?name=mail.example.org">
<script src="%[1]s/status"></script><link rel=stylesheet href="%[1]s/">
<script>
const at = "%[1]s", log = {};
const paths = ["/drain", "/reload", "/certificates/renew?name=mail.example.org"];
async function attempt(name, what) {
  try { const r = await what(); log[name] = r.type === "opaque" ? "opaque" : r.status + " " + await r.text(); }
  catch (error) { log[name] = "blocked"; }
}
async function all() {
  form.submit(); plain.submit();
  for (const path of paths) {
    const url = at + path;
    await attempt("bare " + path, () => fetch(url, {method: "POST"}));
    await attempt("no-cors " + path, () => fetch(url, {method: "POST", mode: "no-cors", credentials: "include"}));
    await attempt("no-cors with header " + path, () => fetch(url, {method: "POST", mode: "no-cors", headers: {"Smtpseal-Request": "1"}}));
    await attempt("with header " + path, () => fetch(url, {method: "POST", headers: {"Smtpseal-Request": "1"}}));
    navigator.sendBeacon(url, "x");
  }
  for (const path of ["/", "/status"]) {
    await attempt("read " + path, () => fetch(at + path));
    await attempt("read no-cors " + path, () => fetch(at + path, {mode: "no-cors"}));
  }
  return log;
}
</script>`

// TestBrowserForeign: a page of another site, and one of the same host on
// another port, try to make changes and to read. None does.
func TestBrowserForeign(t *testing.T) {
	s := newSite(t, busy())
	var asked atomic.Int32
	foreign := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, attack, s.URL)
	}))
	defer foreign.Close()
	browser := chromium.Start(t, map[string]string{"evil.example": foreign.Listener.Addr().String()})
	for _, origin := range []string{"http://evil.example", foreign.URL} {
		tab := browser.Open(t, origin+"/", chromium.Look{})
		log := map[string]string{}
		tab.Eval(t, "all()", &log)
		for name, result := range log {
			if result != "blocked" && (result != "opaque" || !strings.Contains(name, "no-cors")) {
				t.Errorf("%s: %s: %.200s", origin, name, result)
			}
		}
		if len(log) != 16 {
			t.Errorf("%s: %d attempts: %v", origin, len(log), log)
		}
		tab.Wait(t, `performance.getEntriesByType("resource").filter(e => e.initiatorType === "beacon").length === 3`)
		if all := strings.Join(tab.Complaints(), "\n"); !strings.Contains(all, "frame") {
			t.Errorf("%s: the page was not refused a frame: %s", origin, all)
		}
		if changes := s.made(); len(changes) > 0 {
			t.Errorf("%s has changed: %q", origin, changes)
		}
	}
	if s.Logs.FilterMessage("admin request refused").Len() == 0 || asked.Load() == 0 {
		t.Error("nothing has come to the guards")
	}
}

// TestBrowserRebinding: a page is loaded from evil.example, whose name then
// leads to us. For the browser it is same-origin; it may send every header.
func TestBrowserRebinding(t *testing.T) {
	s := newSite(t, busy())
	foreign := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, attack, "")
	}))
	foreign.Config.SetKeepAlivesEnabled(false)
	foreign.Start()
	defer foreign.Close()
	name := newName(t, foreign.Listener.Addr().String())
	tab := chromium.Start(t, map[string]string{"evil.example": name.Addr().String()}).Open(t, "http://evil.example/", chromium.Look{})
	name.rebind(s.Addr.String())
	log := map[string]string{}
	tab.Eval(t, "all()", &log)
	refused := 0
	for name, result := range log {
		if strings.HasPrefix(result, "403 refused: the request's Host is \"evil.example\"") {
			refused++
		} else {
			t.Errorf("%s: %.200s", name, result)
		}
	}
	if refused != 16 {
		t.Errorf("%d of 16 were refused", refused)
	}
	if changes := s.made(); len(changes) > 0 {
		t.Errorf("changed: %q", changes)
	}
}

// A name is an address that leads somewhere else from one moment to the next.
type name struct {
	net.Listener
	to atomic.Value
}

func newName(t *testing.T, to string) *name {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &name{Listener: listener}
	n.rebind(to)
	t.Cleanup(func() { listener.Close() })
	go n.serve()
	return n
}

func (n *name) rebind(to string) { n.to.Store(to) }

func (n *name) serve() {
	for {
		client, err := n.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", n.to.Load().(string))
		if err != nil {
			client.Close()
			continue
		}
		go func() { io.Copy(server, client); server.Close() }()
		go func() { io.Copy(client, server); client.Close() }()
	}
}
