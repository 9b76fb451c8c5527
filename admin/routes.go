package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/pprof"
	"time"

	"go.uber.org/zap"
)

// Handler is all that the listener answers. A path with another method gets 405
// with Allow, an unknown one 404, both from http.ServeMux.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	route := func(pattern string, pass guard, serve http.HandlerFunc) {
		mux.HandleFunc(pattern, s.guarded(pass, serve))
	}
	route("GET /livez", anyone, s.livez)
	route("GET /readyz", anyone, s.readyz)
	route("GET /metrics", anyone, metricsHandler(s.status).ServeHTTP)
	route("GET /status", reader, func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, s.status()) })
	route("GET /{$}", reader, s.page)
	route("POST /drain", changer, s.drain)
	route("POST /reload", changer, s.reload)
	route("POST /certificates/renew", changer, s.renew)
	debug := func(pattern string, serve http.HandlerFunc) { route(pattern, expensive, s.ifPprof(serve)) }
	debug("GET /debug/pprof/", pprof.Index)
	debug("GET /debug/pprof/cmdline", pprof.Cmdline)
	debug("GET /debug/pprof/profile", pprof.Profile)
	debug("GET /debug/pprof/symbol", pprof.Symbol)
	debug("GET /debug/pprof/trace", pprof.Trace)
	return harden(mux)
}

func (s *Server) ifPprof(serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.access().pprof {
			http.NotFound(w, r)
			return
		}
		serve(w, r)
	}
}

func (s *Server) status() Status { return s.Status().complete() }

// livez asks nothing and nobody: a process that waits for a backend must not be
// killed for it.
func (s *Server) livez(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok\n") }

func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	status := s.status()
	code, text := http.StatusOK, "ok\n"
	if !status.Ready {
		code, text = http.StatusServiceUnavailable, ""
		for _, reason := range status.Reasons {
			text += reason + "\n"
		}
		if text == "" {
			text = string(status.State) + "\n"
		}
	}
	if r.URL.Query().Has("verbose") {
		text += status.details()
	}
	plain(w, code, text)
}

// details has a line for the whole, and for everything that can be in order or
// not.
func (s *Status) details() string {
	var text bytes.Buffer
	line := func(good bool, format string, args ...any) {
		mark := map[bool]string{true: "+", false: "-"}[good]
		fmt.Fprintf(&text, "[%s] %s\n", mark, fmt.Sprintf(format, args...))
	}
	line(s.Mail == MailFlows, "%s", s.Headline)
	for _, l := range s.Listeners {
		if l.Removed {
			continue
		}
		why := s.cutOff(l)
		line(why == "", "listener %s%s", l.Name, colon(why))
	}
	for _, b := range s.Backends {
		for _, server := range b.Servers {
			line(server.Up, "server %s of backend %s%s", server.Address, b.Name, colon(server.Error))
		}
	}
	for _, c := range s.Certificates {
		line(c.Problem == "", "certificate for %s%s", c.title(), colon(c.Problem))
	}
	return text.String()
}

// drain answers at once: whoever wants to see the end asks /status, until nobody
// answers any more.
func (s *Server) drain(w http.ResponseWriter, r *http.Request) {
	s.changed(r, "drain")
	s.Drain()
	status := s.status()
	answer(w, http.StatusAccepted, struct {
		State    State `json:"state"`
		Sessions int   `json:"sessions"`
	}{Draining, status.sessions()})
}

func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	s.changed(r, "reload")
	ctx, done := long(w, r)
	defer done()
	result := s.Reload(ctx)
	code := http.StatusOK
	if result.Result != ok {
		code = http.StatusConflict // with what is there; nothing was changed
	}
	answer(w, code, result)
}

// A Renewal is the answer to a request for one.
type Renewal struct {
	Name   string `json:"name"`
	Result string `json:"result"` // ok or failed
	Error  string `json:"error,omitempty"`
}

func (s *Server) renew(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("name")
	if name == "" {
		answer(w, http.StatusBadRequest, Renewal{Result: failed, Error: "say for which name: POST /certificates/renew?name=mail.example.org"})
		return
	}
	s.changed(r, "renew")
	ctx, done := long(w, r)
	defer done()
	err := s.Renew(ctx, name)
	result, code := Renewal{Name: name, Result: ok}, http.StatusOK
	if err != nil {
		result.Result, result.Error, code = failed, err.Error(), http.StatusBadGateway
	}
	if errors.Is(err, ErrNoSuchName) {
		code = http.StatusNotFound
	}
	answer(w, code, result)
}

// changed tells the log who has changed something.
func (s *Server) changed(r *http.Request, what string) {
	if s.Log != nil {
		s.Log.Info("admin: "+what, zap.String("client", r.RemoteAddr))
	}
}

// long gives a change the time that it needs. Whether the client waits for it
// does not matter to what was begun.
func long(w http.ResponseWriter, r *http.Request) (context.Context, context.CancelFunc) {
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(changeTimeout + writeTimeout))
	return context.WithTimeout(context.WithoutCancel(r.Context()), changeTimeout)
}

func plain(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	io.WriteString(w, text)
}

func answer(w http.ResponseWriter, code int, value any) {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil { // a histogram with a sum that is no number
		plain(w, http.StatusInternalServerError, err.Error()+"\n")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	w.Write(append(text, '\n'))
}
