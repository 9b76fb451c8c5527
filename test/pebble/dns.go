package pebble

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"smtpseal/test/loopback"
)

// A DNS is a name server on a loopback address, for UDP and TCP. It has
// authority over everything:
//
//   - a name has the address 127.0.0.1 and no other, unless SetAddrs says so.
//     There is no AAAA, since Pebble would try ::1 only;
//   - a name's zone are its last two labels, unless SetZone says so;
//   - TXT and CNAME are what was set. No TTL is above a second.
type DNS struct {
	addr    string
	servers [2]*dns.Server
	done    sync.WaitGroup
	once    sync.Once

	mu    sync.Mutex // guards what follows; keys are fully qualified, in lower case
	addrs map[string][]netip.Addr
	txt   map[string][]string
	cname map[string]string
	zones map[string]bool
}

// ListenDNS starts one. The caller owes a Close.
func ListenDNS() (*DNS, error) {
	d := &DNS{
		addrs: map[string][]netip.Addr{}, txt: map[string][]string{},
		cname: map[string]string{}, zones: map[string]bool{},
	}
	// a port that is free for TCP may be taken for UDP
	var last error
	for range 10 {
		if last = d.listen(); last == nil {
			return d, nil
		}
	}
	return nil, last
}

func (d *DNS) listen() error {
	addr, err := loopback.Free("127.0.0.1")
	if err != nil {
		return err
	}
	packets, err := net.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	stream, err := net.Listen("tcp", addr)
	if err != nil {
		packets.Close()
		return err
	}
	d.addr = addr
	d.servers = [2]*dns.Server{{PacketConn: packets, Handler: d}, {Listener: stream, Handler: d}}
	for _, s := range d.servers {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		d.done.Go(func() { s.ActivateAndServe() })
		<-started // a Shutdown before that is an error
	}
	return nil
}

// Addr is host:port.
func (d *DNS) Addr() string { return d.addr }

// Close ends the server. It may be called more than once.
func (d *DNS) Close() {
	d.once.Do(func() {
		for _, s := range d.servers {
			s.Shutdown()
		}
		d.done.Wait()
	})
}

// SetAddrs gives name these addresses; none: no address at all.
func (d *DNS) SetAddrs(name string, addrs ...netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.addrs[canonical(name)] = addrs
}

// SetTXT gives name these texts instead of what it had.
func (d *DNS) SetTXT(name string, values ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.txt[canonical(name)] = slices.Clone(values)
}

// AddTXT gives name one text more.
func (d *DNS) AddTXT(name, value string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.txt[canonical(name)] = append(d.txt[canonical(name)], value)
}

// RemoveTXT takes one text away.
func (d *DNS) RemoveTXT(name, value string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name = canonical(name)
	d.txt[name] = slices.DeleteFunc(d.txt[name], func(v string) bool { return v == value })
}

// TXT returns what name has now.
func (d *DNS) TXT(name string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.txt[canonical(name)])
}

// SetCNAME makes name an alias; an empty target ends it.
func (d *DNS) SetCNAME(name, target string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if target == "" {
		delete(d.cname, canonical(name))
		return
	}
	d.cname[canonical(name)] = canonical(target)
}

// SetZone makes name the top of a zone, which SOA and NS tell.
func (d *DNS) SetZone(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.zones[canonical(name)] = true
}

func canonical(name string) string { return strings.ToLower(dns.Fqdn(name)) }

// ServeDNS answers one question.
func (d *DNS) ServeDNS(w dns.ResponseWriter, question *dns.Msg) {
	answer := new(dns.Msg)
	if len(question.Question) != 1 || question.Opcode != dns.OpcodeQuery {
		w.WriteMsg(answer.SetRcode(question, dns.RcodeNotImplemented))
		return
	}
	answer.SetReply(question)
	answer.Authoritative, answer.RecursionAvailable = true, true
	if err := d.answer(answer); err != nil {
		answer.Rcode = dns.RcodeServerFailure
	}
	w.WriteMsg(answer)
}

var errLoop = errors.New("too many aliases")

func (d *DNS) answer(m *dns.Msg) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	q := m.Question[0]
	name := canonical(q.Name)
	for hops := 0; d.cname[name] != ""; hops++ {
		if hops == 8 { // a loop of aliases
			return errLoop
		}
		m.Answer = append(m.Answer, &dns.CNAME{Hdr: header(name, dns.TypeCNAME), Target: d.cname[name]})
		if q.Qtype == dns.TypeCNAME {
			return nil
		}
		name = d.cname[name]
	}
	records := d.records(name, q.Qtype)
	m.Answer = append(m.Answer, records...)
	if len(records) == 0 { // RFC 2308 section 2.2: no such record
		m.Ns = append(m.Ns, d.soa(d.zone(name)))
	}
	return nil
}

func (d *DNS) records(name string, kind uint16) (records []dns.RR) {
	switch kind {
	case dns.TypeA, dns.TypeAAAA:
		addrs, set := d.addrs[name]
		if !set {
			addrs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
		}
		for _, a := range addrs {
			switch {
			case a.Is4() && kind == dns.TypeA:
				records = append(records, &dns.A{Hdr: header(name, kind), A: a.AsSlice()})
			case a.Is6() && kind == dns.TypeAAAA:
				records = append(records, &dns.AAAA{Hdr: header(name, kind), AAAA: a.AsSlice()})
			}
		}
	case dns.TypeTXT:
		for _, text := range d.txt[name] {
			records = append(records, &dns.TXT{Hdr: header(name, kind), Txt: pieces(text)})
		}
	case dns.TypeSOA:
		if d.zone(name) == name {
			records = append(records, d.soa(name))
		}
	case dns.TypeNS:
		if d.zone(name) == name {
			records = append(records, &dns.NS{Hdr: header(name, kind), Ns: below("ns", name)})
		}
	}
	return records
}

// pieces cuts a text into the strings of a record (RFC 1035 section 3.3).
func pieces(text string) (cut []string) {
	for len(text) > 255 {
		cut, text = append(cut, text[:255]), text[255:]
	}
	return append(cut, text)
}

func (d *DNS) zone(name string) string {
	for _, at := range dns.Split(name) {
		if d.zones[name[at:]] {
			return name[at:]
		}
	}
	labels := dns.Split(name)
	if len(labels) < 2 {
		return name
	}
	return name[labels[len(labels)-2]:]
}

func (d *DNS) soa(zone string) dns.RR {
	return &dns.SOA{
		Hdr: header(zone, dns.TypeSOA), Ns: below("ns", zone), Mbox: below("postmaster", zone),
		Serial: uint32(time.Now().Unix()), Refresh: 60, Retry: 60, Expire: 3600, Minttl: 1,
	}
}

func header(name string, kind uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: 1}
}

// below is label in zone, which may be the root.
func below(label, zone string) string { return label + "." + strings.TrimPrefix(zone, ".") }
