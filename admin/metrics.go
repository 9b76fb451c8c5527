package admin

import (
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// The results of handshakes, renewals and reloads.
const (
	ok     = "ok"
	failed = "failed"
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("smtpseal_"+name, help, labels, nil)
}

// The names, labels and meanings of our metrics. They are a contract: people
// write alerts with them.
var (
	buildInfo        = desc("build_info", "Always 1; the labels say which program this is.", "version", "commit", "go")
	ready            = desc("ready", "Whether clients should be sent here, 1 or 0, as /readyz says.")
	draining         = desc("draining", "Whether it was told to stop and finishes what is under way, 1 or 0.")
	sessionsTotal    = desc("sessions_total", "Sessions that have ended, by how.", "listener", "outcome")
	sessions         = desc("sessions", "Sessions under way, by what they are doing.", "listener", "phase")
	handshakesTotal  = desc("handshakes_total", "TLS handshakes. The version is empty where none was agreed on.", "listener", "version", "result")
	handshakeSeconds = desc("handshake_seconds", "Time that completed TLS handshakes took, in seconds.")
	messagesTotal    = desc("messages_total", "Messages that a backend has accepted.", "listener")
	bytesTotal       = desc("bytes_total", "Bytes from clients (in) and to clients (out), without TLS.", "listener", "direction")
	backendUp        = desc("backend_up", "Whether a server can be used, 1 or 0; 1 also as long as nothing is known.", "backend", "server")
	openRelay        = desc("backend_open_relay", "Whether a backend was seen to take mail from strangers for foreign domains, 1 or 0; 0 also where nobody has asked it.", "backend")
	dialSeconds      = desc("backend_dial_seconds", "Time to connect to a backend, in seconds.")
	notBefore        = desc("certificate_not_before_seconds", "Unix time in seconds at which the life of the certificate for a name began; of several the first; 0 if there is none.", "name")
	notAfter         = desc("certificate_not_after_seconds", "Unix time in seconds at which the certificate for a name ends; of several the first; 0 if there is none.", "name")
	certProblem      = desc("certificate_problem", "Whether somebody should look at a certificate, 1 or 0; /status says why.", "name")
	renewalsTotal    = desc("certificate_renewals_total", "Tries to obtain or renew a certificate.", "name", "result")
	reloadsTotal     = desc("config_reloads_total", "Reloads of the configuration. A failed one has changed nothing.", "result")
	reloadOK         = desc("config_last_reload_ok", "Whether the last reload of the configuration succeeded, 1 or 0; 1 also where there was none.")
	violationsTotal  = desc("violations_total", "Sessions that ended because someone broke the rules, by kind.", "kind")
	leftOutTotal     = desc("proxy_left_out_total", "Facts about clients that did not fit into a PROXY header.")
)

// collector turns one Status into metrics, each time that it is asked.
type collector struct{ status func() Status }

// Describe says nothing, on purpose: what there is to collect follows from the
// configuration, which may change.
func (c collector) Describe(chan<- *prometheus.Desc) {}

func (c collector) Collect(out chan<- prometheus.Metric) {
	s := c.status()
	m := sums{}
	m.gauge(buildInfo, 1, s.Build.Version, s.Build.Commit, s.Build.Go)
	m.gauge(ready, truth(s.Ready))
	m.gauge(draining, truth(s.State == Draining))
	for _, l := range s.Listeners {
		m.listener(l)
	}
	for _, b := range s.Backends {
		m.set(openRelay, prometheus.GaugeValue, truth(b.Warning != ""), []string{b.Name}, more)
		for _, server := range b.Servers {
			m.gauge(backendUp, truth(server.Up), b.Name, server.Address)
		}
	}
	m.certificates(s.Certificates)
	m.count(reloadsTotal, s.Reloads.OK, ok)
	m.count(reloadsTotal, s.Reloads.Failed, failed)
	m.gauge(reloadOK, truth(s.Reloads.Last.Result != failed))
	for kind, n := range s.Violations {
		m.count(violationsTotal, n, kind)
	}
	m.count(leftOutTotal, s.ProxyLeftOut)
	m.send(out)
	sendHistogram(out, handshakeSeconds, s.HandshakeSeconds)
	sendHistogram(out, dialSeconds, s.DialSeconds)
}

// Two scrapes at once are enough for two Prometheus; more would only wait for
// each other's locks.
const maxScrapes = 2

// metricsHandler has a registry of its own: what others register with the
// global one is not ours to show. OpenMetrics is left out, because there the
// family of the counter sessions_total and the gauge sessions are one name.
func metricsHandler(status func() Status) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collector{status},
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes})
}

// A series is one metric with one set of labels.
type series struct {
	desc   *prometheus.Desc
	labels [3]string
	n      int // of the labels
}

// sums has a value for each series. Two of the same would make Prometheus
// refuse the whole answer, so they are added up (a listener with two addresses
// may come as two).
type sums map[series]sum

type sum struct {
	kind  prometheus.ValueType
	value float64
}

// set uses how two values of one series become one.
func (m sums) set(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels []string, both func(a, b float64) float64) {
	key := series{desc: d, n: len(labels)}
	copy(key.labels[:], labels)
	if old, twice := m[key]; twice {
		value = both(old.value, value)
	}
	m[key] = sum{kind, value}
}

func add(a, b float64) float64  { return a + b }
func less(a, b float64) float64 { return min(a, b) }
func more(a, b float64) float64 { return max(a, b) }

func (m sums) count(d *prometheus.Desc, n int64, labels ...string) {
	m.set(d, prometheus.CounterValue, float64(n), labels, add)
}

// gauge is for what is the same twice, or where the worse, 0, is told.
func (m sums) gauge(d *prometheus.Desc, value float64, labels ...string) {
	m.set(d, prometheus.GaugeValue, value, labels, less)
}

func (m sums) listener(l Listener) {
	for outcome, n := range l.Ended {
		m.count(sessionsTotal, n, l.Name, outcome)
	}
	for phase, n := range l.Sessions {
		m.set(sessions, prometheus.GaugeValue, float64(n), []string{l.Name, phase}, add)
	}
	for _, h := range l.Handshakes {
		m.count(handshakesTotal, h.Count, l.Name, h.Version, h.Result)
	}
	m.count(messagesTotal, l.Messages, l.Name)
	m.count(bytesTotal, l.BytesIn, l.Name, "in")
	m.count(bytesTotal, l.BytesOut, l.Name, "out")
}

// certificates are told by name, of which one may have several certificates
// (one a type of key), and one certificate several.
func (m sums) certificates(all []Certificate) {
	for _, c := range all {
		for _, name := range c.Names {
			m.gauge(notBefore, unix(c.NotBefore), name)
			m.gauge(notAfter, unix(c.NotAfter), name)
			m.set(certProblem, prometheus.GaugeValue, truth(c.Problem != ""), []string{name}, more)
			m.count(renewalsTotal, c.Renewals.OK, name, ok)
			m.count(renewalsTotal, c.Renewals.Failed, name, failed)
		}
	}
}

// unix is a time of a certificate. None is 0, so that an alert on the time that
// is left goes off.
func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.Unix())
}

// send hands everything over. Text that is no UTF-8 would make the whole answer
// an error.
func (m sums) send(out chan<- prometheus.Metric) {
	for key, s := range m {
		labels := key.labels[:key.n]
		for i, text := range labels {
			labels[i] = strings.ToValidUTF8(text, "\ufffd")
		}
		out <- valid(key.desc)(prometheus.NewConstMetric(key.desc, s.kind, s.value, labels...))
	}
}

// valid makes an error part of the answer.
func valid(d *prometheus.Desc) func(prometheus.Metric, error) prometheus.Metric {
	return func(metric prometheus.Metric, err error) prometheus.Metric {
		if err != nil {
			return prometheus.NewInvalidMetric(d, err)
		}
		return metric
	}
}

func sendHistogram(out chan<- prometheus.Metric, d *prometheus.Desc, h Histogram) {
	buckets := map[float64]uint64{}
	for i, bound := range h.Bounds[:min(len(h.Bounds), len(h.Counts))] {
		buckets[bound] = h.Counts[i]
	}
	out <- valid(d)(prometheus.NewConstHistogram(d, h.Count, h.Sum, buckets))
}

func truth(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
