package admin

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"strings"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

//go:embed page.js
var pageJS string

// The page is one template, with style and script within, so that it is whole
// or not there.
var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"number": number, "labels": labels, "bytes": bytesText, "count": count, "moment": moment,
	"lasting": lasting, "phases": phases, "outcomes": outcomes, "kinds": kinds, "words": words,
	"icon": icon, "total": total[int],
}).Parse(pageHTML))

// pagePolicy lets the page use its own style, script and icon, ask us, and
// nothing else: a script that somebody gets into a name or an error is dead.
var pagePolicy = strings.Join([]string{
	"default-src 'none'", "style-src " + hash(pageCSS), "script-src " + hash(pageJS), "img-src data:", "connect-src 'self'",
	"frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'",
}, "; ")

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// A view is what the template is given.
type view struct {
	Status
	Style  template.CSS
	Script template.JS
}

func (s *Server) page(w http.ResponseWriter, _ *http.Request) {
	var text bytes.Buffer
	if err := pageTemplate.Execute(&text, view{s.status(), template.CSS(pageCSS), template.JS(pageJS)}); err != nil {
		plain(w, http.StatusInternalServerError, err.Error()+"\n")
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", pagePolicy)
	w.Write(text.Bytes())
}

// Sessions is for the page.
func (v view) Sessions() int { return v.sessions() }

// Mark is how the page colours the whole.
func (v view) Mark() string {
	return map[Mail]string{MailFlows: good, MailImpaired: warn, MailStopped: bad}[v.Mail]
}

// The marks: classes of the style, and each has an icon and a word beside it,
// never a colour alone.
const (
	good = "good"
	warn = "warn"
	bad  = "bad"
	dim  = "dim" // nothing is known
)

// Doing is the state in a word that is not taken for readiness.
func (v view) Doing() string {
	if v.State == Ready {
		return "serving"
	}
	return string(v.State)
}

// Icon is for the browser's tab: how it is, by colour and by shape, also when
// another tab is being looked at.
func (v view) Icon() template.URL {
	picture := map[Mail]string{
		MailFlows:    `<circle cx='8' cy='8' r='7' fill='%231f8f55'/>`,
		MailImpaired: `<path d='M8 1l7.5 14H.5z' fill='%23d98c00'/>`,
		MailStopped:  `<path d='M1 1h14v14H1z' fill='%23c4202f'/>`,
	}[v.Mail]
	return template.URL("data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'>" + picture + "</svg>")
}

// icon is a shape for a mark.
func icon(mark string) string {
	return map[string]string{good: "✓", warn: "!", bad: "✕", dim: "?"}[mark]
}

// CutOff is why a listener brings no mail to its backend, or "".
func (v view) CutOff(l Listener) string { return v.cutOff(l) }

// Mark is how the page colours a server, and Word what it calls it.
func (b BackendServer) Mark() string {
	switch {
	case !b.Up:
		return bad
	case !b.Known:
		return dim
	}
	return good
}

// Word is Mark in words.
func (b BackendServer) Word() string {
	return map[string]string{bad: "down", dim: "not asked yet", good: "up"}[b.Mark()]
}

// soon is when a certificate from a file, which we cannot renew, deserves a
// word.
const soon = 14 // days

// Mark is how the page colours a certificate.
func (c Certificate) Mark() string {
	switch {
	case c.NotAfter.IsZero(), c.DaysLeft < 0:
		return bad
	case c.Problem != "", c.LastError != "", c.NextRenewal.IsZero() && c.DaysLeft < soon:
		return warn
	}
	return good
}

// Word is Mark in words.
func (c Certificate) Word() string {
	switch {
	case c.NotAfter.IsZero():
		return "none yet"
	case c.DaysLeft < 0:
		return "ended"
	case c.Problem != "":
		return "needs a look"
	case c.LastError != "":
		return "last try failed"
	case c.Mark() == warn:
		return "ends soon"
	}
	return "valid"
}

// Days are those that are left, or have passed since its end.
func (c Certificate) Days() string {
	n := max(c.DaysLeft, -c.DaysLeft)
	if n == 1 {
		return "1 day"
	}
	return count(n) + " days"
}

// Alone reports whether a certificate is the only one for its first name, so
// that what is shown of it is what the metrics say of the name.
func (v view) Alone(c Certificate) bool {
	n := 0
	for _, other := range v.Certificates {
		for _, name := range other.Names {
			if len(c.Names) > 0 && name == c.Names[0] {
				n++
			}
		}
	}
	return n == 1
}

// Messages are those of all listeners.
func (v view) Messages() (n int64) {
	for _, l := range v.Listeners {
		n += l.Messages
	}
	return n
}
