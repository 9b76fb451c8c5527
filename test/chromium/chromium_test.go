package chromium

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

const page = `<!DOCTYPE html><title>here</title><meta name=viewport content="width=device-width"><noscript><p id=no>no script</p></noscript>
<style>p { color: rgb(1, 1, 1) } @media (prefers-color-scheme: dark) { p { color: rgb(2, 2, 2) } }</style>
<p id=p>text</p><script>document.title += " with script"; fetch("/more"); missing()</script>`

// TestLooks is the rig's own: every way to look at a page is one.
func TestLooks(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, page, r.Host)
	}))
	defer server.Close()
	browser := Start(t, map[string]string{"mail.example": server.Listener.Addr().String()})
	for _, look := range []Look{{}, {Width: 375, Height: 600}, {Dark: true}, {NoScript: true}} {
		tab := browser.Open(t, "http://mail.example/page", look)
		var got struct {
			Width         int
			Colour, Title string
			NoScript      bool
		}
		tab.Eval(t, `({width: innerWidth, colour: getComputedStyle(p).color, title: document.title, noScript: !!document.getElementById("no")})`, &got)
		width, colour, title := 1280, "rgb(1, 1, 1)", "here with script"
		if look.Width != 0 {
			width = look.Width
		}
		if look.Dark {
			colour = "rgb(2, 2, 2)"
		}
		if look.NoScript {
			title = "here"
		}
		if got.Width != width || got.Colour != colour || got.Title != title || got.NoScript != look.NoScript {
			t.Errorf("%+v: %+v", look, got)
		}
		if look.NoScript {
			continue
		}
		tab.Wait(t, "performance.getEntriesByName(location.origin + '/more').length")
		if want := []string{"http://mail.example/page", "http://mail.example/more"}; !slices.Equal(tab.Requests(), want) {
			t.Errorf("asked for %q, want %q", tab.Requests(), want)
		}
		if all := strings.Join(tab.Complaints(), "\n"); !strings.Contains(all, "missing is not defined") {
			t.Errorf("complained of %q", all)
		}
	}
}
