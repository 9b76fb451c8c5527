package admin

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"smtpseal/test/chromium"
)

const bodyFits = `document.documentElement.scrollWidth <= innerWidth`

// TestBrowserLooks opens every state on a wide screen and on a phone, by day and
// by night, with and without JavaScript: nothing sticks out, nothing foreign is
// loaded, nothing is refused by our own policy, and every number is what
// /status and /metrics say.
func TestBrowserLooks(t *testing.T) {
	browser := chromium.Start(t, nil)
	wide, phone := chromium.Look{}, chromium.Look{Width: 375, Height: 700}
	plain := chromium.Look{Width: 375, Height: 700, NoScript: true}
	all := map[string]chromium.Look{"wide": wide, "phone": phone, "plain": plain,
		"wide-dark": {Dark: true}, "phone-dark": {Width: 375, Height: 700, Dark: true}, "wide-plain": {NoScript: true}}
	some := map[string]chromium.Look{"wide": wide, "plain": plain}
	for state, status := range states() {
		looks := some
		if state == "good" || state == "down" { // for people to look at, too
			looks = all
		}
		s := newSite(t, status)
		for name, look := range looks {
			tab := browser.Open(t, s.URL+"/", look)
			if len(looks) == len(all) {
				tab.Screenshot(t, state+"-"+name)
			}
			var fits bool
			if tab.Eval(t, bodyFits, &fits); !fits {
				t.Errorf("%s, %s: it has to be scrolled sideways", state, name)
			}
			if state != "hostile" { // whose twins are one series in the metrics
				compareNumbers(t, tab, s)
			}
			for _, request := range tab.Requests() {
				if !strings.HasPrefix(request, s.URL+"/") && !strings.HasPrefix(request, "data:") {
					t.Errorf("%s, %s: loads %s", state, name, request)
				}
			}
			if complaints := tab.Complaints(); len(complaints) > 0 {
				t.Errorf("%s, %s: %q", state, name, complaints)
			}
			var title string
			if tab.Eval(t, "document.title", &title); title == "owned" {
				t.Errorf("%s, %s: a foreign script has run", state, name)
			}
			tab.Close(t)
		}
	}
}

const headline = `document.querySelector("h1").textContent`

// TestBrowserLive: what happens is on the page within a second, and nothing
// else on it moves.
func TestBrowserLive(t *testing.T) {
	s := newSite(t, busy())
	tab := chromium.Start(t, nil).Open(t, s.URL+"/", chromium.Look{})
	tab.Eval(t, `document.querySelector("footer a").focus(), document.querySelector("#backends").mark = "kept",
		getSelection().selectAllChildren(document.querySelector("h2"))`, nil)
	late := 0
	for range 3 {
		s.set(down())
		if tab.Wait(t, headline+`.startsWith("Mail does not flow")`) > time.Second {
			late++
		}
		compareNumbers(t, tab, s)
		s.set(busy())
		if tab.Wait(t, headline+` === "Mail flows"`) > time.Second {
			late++
		}
		compareNumbers(t, tab, s)
	}
	if late > 1 { // once the machine may have been busy
		t.Errorf("%d of 6 changes took longer than a second to be seen", late)
	}
	tab.Wait(t, `document.title === "Mail flows · mail.example.org"`)
	var kept bool
	tab.Eval(t, `document.activeElement.textContent === "JSON" && document.querySelector("#backends").mark === "kept" &&
		getSelection().toString() === "Listeners"`, &kept)
	if !kept {
		t.Error("the focus, the selection or an element was lost in a refresh")
	}
	if all := tab.Complaints(); len(all) > 0 {
		t.Errorf("%q", all)
	}
}

// TestBrowserLoses: a page that is old says so, and recovers by itself.
func TestBrowserLoses(t *testing.T) {
	t.Parallel()
	s := newSite(t, busy())
	tab := chromium.Start(t, nil).Open(t, s.URL+"/", chromium.Look{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	s.Shutdown(ctx)
	tab.Wait(t, `!lost.hidden && lost.textContent.startsWith("Connection lost at ") && lost.textContent.includes("smtpseal does not answer")`)
	tab.Screenshot(t, "lost")
	var title string
	if tab.Eval(t, "document.title", &title); title != "Connection lost" {
		t.Errorf("the title is %q", title)
	}
	again, err := net.Listen("tcp", s.Addr.String())
	if err != nil {
		t.Fatal(err)
	}
	other := newSite(t, down(), again)
	tab.Wait(t, `lost.hidden && document.body.className === "" && `+headline+`.startsWith("Mail does not flow")`)

	// A new program has a new page.
	tab.Eval(t, `window.old = true`, nil)
	status := busy()
	status.Build.Version = "1.2.4"
	other.set(status)
	tab.Wait(t, `!window.old && `+headline+` === "Mail flows"`)
}

// A page that nobody looks at asks nothing, and asks at once when somebody does.
func TestBrowserHidden(t *testing.T) {
	s := newSite(t, busy())
	tab := chromium.Start(t, nil).Open(t, s.URL+"/", chromium.Look{})
	tab.Wait(t, `performance.getEntriesByType("resource").length > 0`)
	tab.Hide(t, true)
	tab.Eval(t, `new Promise(done => setTimeout(done, 100))`, nil) // what was under way
	before := len(tab.Requests())
	tab.Eval(t, `new Promise(done => setTimeout(done, 2000))`, nil)
	if asked := len(tab.Requests()) - before; asked > 0 {
		t.Errorf("it asked %d times while hidden", asked)
	}
	s.set(down())
	tab.Hide(t, false)
	if took := tab.Wait(t, headline+`.startsWith("Mail does not flow")`); took > 800*time.Millisecond {
		t.Errorf("it took %s to be right again", took)
	}
}

// Without JavaScript the page comes again by itself.
func TestBrowserPlain(t *testing.T) {
	t.Parallel()
	s := newSite(t, busy())
	tab := chromium.Start(t, nil).Open(t, s.URL+"/", chromium.Look{NoScript: true})
	s.set(down())
	tab.Wait(t, headline+`.startsWith("Mail does not flow")`)
	compareNumbers(t, tab, s)
}

// The page's own scripts may ask for changes: it is the guards that tell it
// from others, not chance. TestBrowserForeign would see a change.
func TestBrowserOwn(t *testing.T) {
	s := newSite(t, busy())
	tab := chromium.Start(t, nil).Open(t, s.URL+"/", chromium.Look{})
	var code int
	tab.Eval(t, `fetch("/drain", {method: "POST", headers: {"Smtpseal-Request": "1"}}).then(r => r.status)`, &code)
	if changes := s.made(); code != 202 || len(changes) != 1 {
		t.Errorf("%d, %q", code, changes)
	}
}
