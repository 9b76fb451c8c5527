package admin

import (
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// hostile is a process all of whose texts attack the page. Clients choose some
// of them, backends and CAs others.
func hostile() Status {
	const evil = `"'><script>document.title="owned"</script><img src=x onerror=alert(1)>{{.}}</style><!--` + "\xff\u202e\x00"
	s := down()
	s.Hostname, s.Reasons = evil, []string{evil}
	s.Build = Build{evil, evil, evil}
	for i := range s.Listeners {
		l := &s.Listeners[i]
		l.Name, l.Addresses, l.Mode = evil, []string{evil}, evil
		l.Sessions, l.Ended = map[string]int{evil: 1}, map[string]int64{evil: 2}
		l.Handshakes = []Handshakes{{evil, evil, 3}}
	}
	for i := range s.Backends {
		b := &s.Backends[i]
		b.Name, b.ProxyProtocol, b.Warning = evil, evil, evil
		for j := range b.Servers {
			b.Servers[j].Address, b.Servers[j].Error, b.Servers[j].Hint = evil, evil, evil
		}
	}
	for i := range s.Certificates {
		c := &s.Certificates[i]
		c.Names, c.Source, c.KeyType, c.Issuer = []string{evil}, evil, evil, evil
		c.LastError, c.Problem, c.Hint = evil, evil, evil
	}
	s.Violations = map[string]int64{evil: 4}
	s.Reloads.Last.Error, s.Upgrade.Last.Error = evil, evil
	s.Failures = []Failure{{noon, 2, evil, evil, evil, evil, evil, evil, evil, evil, evil}}
	return s
}

// states are what the page must be right in.
func states() map[string]Status {
	starting := Status{State: Starting, Started: noon, Now: noon, Hostname: "mail.example.org", Reasons: []string{"binding 0.0.0.0:465"}}
	draining := busy()
	draining.State, draining.Ready, draining.Reasons = Draining, false, []string{"draining"}
	unasked := busy()
	unasked.Backends[1].Servers[0] = BackendServer{Address: "127.0.0.1:10026", Up: true}
	unasked.Failures = nil
	long := busy()
	long.Listeners[0].Name = strings.Repeat("submissions", 12)
	long.Backends[0].Servers[0].Address = "unix:/var/lib/" + strings.Repeat("postfix", 20) + "/smtpd"
	long.Failures[0].Error = strings.Repeat("x", 4000)
	long.Hostname = strings.Repeat("mail", 50) + ".example.org"
	long.Certificates[0].Names = slices.Repeat([]string{"*.subdomain.example.org"}, 30)
	return map[string]Status{
		"good": busy(), "down": down(), "empty": {Started: noon, Now: noon}, "starting": starting, "draining": draining,
		"unasked": unasked, "long": long, "hostile": hostile(),
	}
}

func render(t *testing.T, status Status) *html.Node {
	t.Helper()
	answer := httptest.NewRecorder()
	request := httptest.NewRequest("GET", "/", nil)
	request.Host = "localhost"
	(&Server{Status: func() Status { return status }}).Handler().ServeHTTP(answer, request)
	if answer.Code != 200 || answer.Header().Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("%d %s", answer.Code, answer.Body)
	}
	if strings.Contains(answer.Body.String(), "ZgotmplZ") {
		t.Error("html/template has found something unsafe")
	}
	page, err := html.Parse(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return page
}

func attribute(node *html.Node, name string) string {
	for _, a := range node.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func mainOf(page *html.Node) *html.Node {
	for n := range page.Descendants() {
		if n.Data == "main" {
			return n
		}
	}
	return page
}

func text(node *html.Node) string {
	var all strings.Builder
	for n := range node.Descendants() {
		switch {
		case n.Type == html.TextNode:
			all.WriteString(n.Data)
		case !slices.Contains([]string{"data", "span", "time", "b"}, n.Data):
			all.WriteString(" ")
		}
	}
	return strings.Join(strings.Fields(all.String()), " ")
}

// TestPageIsSafe: whatever a text says, the page has no elements but its own,
// and none that loads, runs or links to anything else.
func TestPageIsSafe(t *testing.T) {
	links := []string{"/status", "/metrics", "/readyz?verbose"}
	for name, status := range states() {
		scripts := 0
		for node := range render(t, status).Descendants() {
			if node.Type != html.ElementNode {
				continue
			}
			switch node.Data {
			case "script":
				scripts++
				if node.FirstChild.Data != pageJS {
					t.Errorf("%s: a script that is not ours: %.100s", name, node.FirstChild.Data)
				}
			case "style":
				if node.FirstChild.Data != pageCSS {
					t.Errorf("%s: a style that is not ours", name)
				}
			case "img", "iframe", "object", "embed", "form", "base", "svg", "input", "button":
				t.Errorf("%s: there is a %s", name, node.Data)
			case "a":
				if !slices.Contains(links, attribute(node, "href")) {
					t.Errorf("%s: a link to %s", name, attribute(node, "href"))
				}
			case "link":
				if href := attribute(node, "href"); !strings.HasPrefix(href, "data:image/svg+xml,") {
					t.Errorf("%s: %s is loaded", name, href)
				}
			}
			for _, a := range node.Attr {
				if strings.HasPrefix(a.Key, "on") || a.Key == "style" || a.Key == "src" {
					t.Errorf("%s: %s has %s=%s", name, node.Data, a.Key, a.Val)
				}
			}
		}
		if scripts != 1 {
			t.Errorf("%s: %d scripts", name, scripts)
		}
	}
}

// TestPageIsAccessible: what a screen reader and a keyboard need.
func TestPageIsAccessible(t *testing.T) {
	for name, status := range states() {
		ids, headings, labelled := map[string]bool{}, 0, []string(nil)
		for node := range render(t, status).Descendants() {
			if node.Type != html.ElementNode {
				continue
			}
			if id := attribute(node, "id"); id != "" {
				if ids[id] {
					t.Errorf("%s: two have the id %s", name, id)
				}
				ids[id] = true
			}
			switch node.Data {
			case "html":
				if attribute(node, "lang") != "en" {
					t.Errorf("%s: no language", name)
				}
			case "h1":
				headings++
				if attribute(node, "role") != "status" || text(node) == "" {
					t.Errorf("%s: the headline is not announced", name)
				}
			case "section":
				labelled = append(labelled, attribute(node, "aria-labelledby"))
			case "th":
				if attribute(node, "scope") == "" {
					t.Errorf("%s: a heading of nothing: %s", name, text(node))
				}
			case "span":
				// A colour is never all: there is a word, and the sign is not read out.
				if class := attribute(node, "class"); strings.HasPrefix(class, "badge") && len(text(node)) < len("✓ up") {
					t.Errorf("%s: a badge that says %q", name, text(node))
				}
			}
		}
		for _, id := range labelled {
			if !ids[id] {
				t.Errorf("%s: a section without a name (%s)", name, id)
			}
		}
		if headings != 1 || len(labelled) != 6 {
			t.Errorf("%s: %d headlines, %d sections", name, headings, len(labelled))
		}
	}
}

// TestPageSays: what an operator must find there, in words.
func TestPageSays(t *testing.T) {
	for name, want := range map[string][]string{
		"good": {"Mail flows", "Sessions now 29", "Messages so far 155,006", "serving, ready", "Running for 3 days", "✓ up 127.0.0.1:10025 for 3 days, checked 12 s ago",
			"✓ valid 61 days left, until 4 May 2027", "TLS failed 40 s ago, 12 times", "An old printer or scanner.", "violation: smuggling 3 h ago",
			"18.2 GB in", "81,234 completed", "TLS 1.2 ok 4,211", "not agreed failed 977", "4 good, 1 refused; last 2 h ago: ok", "10 junk 2 smuggling", "Process ID 4711"},
		"down": {"Mail does not flow on submissions and submission: backend mta is down: dial 127.0.0.1:10025: connect: connection refused",
			"No mail flows here: backend mta is down", "✕ down 10.0.0.7:10025 for 3 min", "Nobody listens there: is the mail server running",
			"! needs a look 5 days left", "429 rateLimited", "✕ none yet", "✕ ended 3 days ago, on 1 Mar 2027", "! ends soon 10 days left", "next try in 22 h",
			"serving, not ready", "without a PROXY header the server takes every client", "smtpseal.yaml:3: listen: no port",
			"Upgrades 2 failed; last 2 min ago; this process went on new process 4712: ended before it was ready: exit status 1", "send USR2 again"},
		"empty":    {"Mail does not flow: there is no listener", "There are none.", "None since the start."},
		"starting": {"Starting: binding 0.0.0.0:465", "starting, not ready"},
		"draining": {"Draining: 29 sessions left", "draining, not ready"},
		"unasked":  {"Mail should flow: backend mta-mx has not been asked yet", "? not asked yet 127.0.0.1:10026", "None since the start."},
	} {
		said := text(mainOf(render(t, states()[name])))
		for _, part := range want {
			if !strings.Contains(said, part) {
				t.Errorf("%s: no %q in\n%s", name, part, said)
			}
		}
	}
}

func TestFormats(t *testing.T) {
	for got, want := range map[string]string{
		count(0): "0", count(999): "999", count(1000): "1,000", count(-1234567): "-1,234,567", count(100000): "100,000",
		bytesText(0): "0 B", bytesText(999): "999 B", bytesText(1000): "1.0 kB", bytesText(999499): "999 kB", bytesText(999500): "1.0 MB",
		bytesText(18234567890): "18.2 GB", bytesText(1<<63 - 1): "9.2 EB",
		ago(0): "just now", ago(-1500 * time.Millisecond): "1 s ago", ago(-59 * time.Minute): "59 min ago", ago(47 * time.Hour): "in 47 h",
		ago(-72 * time.Hour): "3 days ago",
		words("tls_failed"):  "TLS failed", words("backend_proxy_mismatch"): "backend PROXY mismatch", words("bad_bdat"): "bad BDAT",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
