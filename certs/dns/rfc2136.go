package dns

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/libdns/libdns"
	"github.com/miekg/dns"
	"go.uber.org/zap"
)

// fudge is how many seconds the clocks may differ (RFC 8945 section 10).
const fudge = 300

// updateTimeout bounds one dynamic update: some servers sign the zone first.
const updateTimeout = 15 * time.Second

// tsigAlgorithms are those of RFC 8945 section 6 that are left when MD5 is gone.
// SHA-1 is for servers that know nothing else, and has to be named.
var tsigAlgorithms = map[string]string{
	"hmac-sha1":   dns.HmacSHA1,
	"hmac-sha224": dns.HmacSHA224,
	"hmac-sha256": dns.HmacSHA256,
	"hmac-sha384": dns.HmacSHA384,
	"hmac-sha512": dns.HmacSHA512,
}

// An updater changes zones by dynamic update (RFC 2136), signed by TSIG
// (RFC 8945), always by TCP: an update is repeated too easily by UDP. It writes
// records of any type.
type updater struct {
	server    string
	zone      string // or empty: as the caller says
	key       string // or empty: not signed
	algorithm string
	secret    string // base64
	dial      dialFunc
	now       func() time.Time
	log       *zap.Logger
}

func openRFC2136(settings Settings, log *zap.Logger) (Provider, error) {
	server, err := address(settings["nameserver"])
	if err != nil {
		return nil, err
	}
	u := &updater{server: server, dial: new(net.Dialer).DialContext, now: time.Now, log: log}
	if zone := settings["zone"]; zone != "" {
		u.zone = dns.CanonicalName(zone)
	}
	return u, u.setKey(settings)
}

func (u *updater) setKey(settings Settings) error {
	name, secret := settings["tsig_name"], settings["tsig_secret"]
	if name == "" && secret == "" {
		u.log.Warn("updates are not signed: whoever can send from this address can change the zone", zap.String("do", "set tsig_name and tsig_secret"))
		return nil
	}
	if name == "" || secret == "" {
		return errors.New("tsig_name and tsig_secret go together")
	}
	// Not the decoder's error: it says where, and so something about the secret.
	if raw, err := base64.StdEncoding.DecodeString(secret); err != nil || len(raw) == 0 {
		return errors.New("tsig_secret is not base64: use the key's text as in the name server's configuration")
	}
	algorithm := strings.ToLower(strings.TrimSuffix(settings["tsig_algorithm"], "."))
	if algorithm == "" {
		algorithm = "hmac-sha256"
	}
	var known bool
	if u.algorithm, known = tsigAlgorithms[algorithm]; !known {
		return fmt.Errorf("tsig_algorithm %q: use one of %s", algorithm, strings.Join(slices.Sorted(maps.Keys(tsigAlgorithms)), ", "))
	}
	u.key, u.secret = dns.CanonicalName(name), secret
	return nil
}

// ownZone is the zone of a name as far as the configuration says.
func (u *updater) ownZone(name string) string {
	if u.zone != "" && dns.IsSubDomain(u.zone, name) {
		return u.zone
	}
	return ""
}

// ownServer knows the zone best: it is asked before resolvers that the
// configuration does not name, and may be the only one that knows it.
func (u *updater) ownServer() string { return u.server }

func (u *updater) AppendRecords(ctx context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	return u.update(ctx, zone, records, (*dns.Msg).Insert)
}

// DeleteRecords removes exactly these values (RFC 2136 section 2.5.4), with no
// regard to their TTL, and no others of the same name.
func (u *updater) DeleteRecords(ctx context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	return u.update(ctx, zone, records, (*dns.Msg).Remove)
}

// update sends all records in one message: the server does all of it or nothing
// (RFC 2136 section 3.4.2.7).
func (u *updater) update(ctx context.Context, zone string, records []libdns.Record, put func(*dns.Msg, []dns.RR)) ([]libdns.Record, error) {
	if len(records) == 0 {
		return nil, nil
	}
	if u.zone != "" {
		zone = u.zone
	}
	zone = dns.CanonicalName(zone)
	var wanted []dns.RR
	for _, record := range records {
		rr, err := wire(record.RR(), zone)
		if err != nil {
			return nil, err
		}
		wanted = append(wanted, rr)
	}
	name := bare(wanted[0].Header().Name) + " " + dns.TypeToString[wanted[0].Header().Rrtype]
	message := new(dns.Msg).SetUpdate(zone)
	put(message, wanted)
	if err := u.send(ctx, message); err != nil {
		return nil, fmt.Errorf("update %s in zone %s at %s: %w", name, bare(zone), u.server, err)
	}
	u.log.Debug("zone updated", zap.String("zone", zone), zap.String("record", name), zap.Int("records", len(wanted)))
	return records, nil
}

func (u *updater) send(ctx context.Context, message *dns.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, updateTimeout)
	defer cancel()
	if u.key != "" {
		message.SetTsig(u.key, u.algorithm, fudge, u.now().Unix())
	}
	answer, err := u.dial.exchange(ctx, "tcp", u.server, message, u.secret)
	if answer == nil {
		return fmt.Errorf("%w: is it the primary of the zone, and does it take updates by TCP?", err)
	}
	name := bare(message.Ns[0].Header().Name)
	switch tsig := answer.IsTsig(); {
	case answer.Rcode != dns.RcodeSuccess:
		return fmt.Errorf("update refused: %w", u.refusal(answer, name))
	case err != nil:
		return fmt.Errorf("the answer's signature: %w: is tsig_secret right, and nobody between?", err)
	case u.key != "" && tsig == nil:
		return errors.New("the answer is not signed: is this the name server?")
	}
	return nil
}

// refusal explains the codes of RFC 2136 section 2.2 and RFC 8945 section 3. The
// TSIG errors come with NOTAUTH, and mean the key, not the zone.
func (u *updater) refusal(answer *dns.Msg, name string) error {
	code := dns.RcodeToString[answer.Rcode]
	if tsig := answer.IsTsig(); tsig != nil && tsig.Error != dns.RcodeSuccess {
		switch tsig.Error {
		case dns.RcodeBadKey:
			return fmt.Errorf("BADKEY: the server has no key %s with %s: compare tsig_name and tsig_algorithm", bare(u.key), bare(u.algorithm))
		case dns.RcodeBadSig:
			return fmt.Errorf("BADSIG: tsig_secret is not the server's for key %s", bare(u.key))
		case dns.RcodeBadTime:
			return fmt.Errorf("BADTIME: the clocks differ%s: set this machine's or the server's", u.skew(tsig))
		}
		code = dns.RcodeToString[int(tsig.Error)]
	}
	switch answer.Rcode {
	case dns.RcodeNotAuth:
		return fmt.Errorf("%s: is the server the primary of the zone, and the TSIG key allowed to write %s?", code, name)
	case dns.RcodeRefused:
		return fmt.Errorf("%s: is %s allowed to write %s (update-policy, allow-update)?", code, u.signer(), name)
	case dns.RcodeNotZone, dns.RcodeNXRrset, dns.RcodeNameError:
		return fmt.Errorf("%s: %s is not in this zone: is the setting zone right?", code, name)
	case dns.RcodeServerFailure:
		return fmt.Errorf("%s: see the server's log: may it write the zone and its journal?", code)
	case dns.RcodeNotImplemented, dns.RcodeFormatError:
		return fmt.Errorf("%s: does this server know dynamic updates (RFC 2136)?", code)
	}
	return errors.New(code)
}

func (u *updater) signer() string {
	if u.key == "" {
		return "an update without a TSIG key"
	}
	return "TSIG key " + bare(u.key)
}

// skew is how far the server's clock is from ours: with BADTIME it sends its own
// (RFC 8945 section 5.2.3).
func (u *updater) skew(tsig *dns.TSIG) string {
	raw, err := hex.DecodeString(tsig.OtherData)
	if err != nil || len(raw) != 6 {
		return ""
	}
	theirs, err := strconv.ParseInt(tsig.OtherData, 16, 64)
	if err != nil {
		return ""
	}
	return " by " + u.now().Sub(time.Unix(theirs, 0)).Abs().Round(time.Second).String()
}

// wire makes a record for the wire of one of any type, whose data is as in a
// zone file; of TXT it is the text alone.
func wire(rr libdns.RR, zone string) (dns.RR, error) {
	name := dns.CanonicalName(libdns.AbsoluteName(rr.Name, zone))
	if !dns.IsSubDomain(zone, name) {
		return nil, fmt.Errorf("%s is not in zone %s: is the setting zone right?", bare(name), bare(zone))
	}
	kind, ok := dns.StringToType[rr.Type]
	if !ok {
		return nil, fmt.Errorf("unknown record type %q", rr.Type)
	}
	header := dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: uint32(max(0, rr.TTL.Seconds()))}
	if kind == dns.TypeTXT {
		return &dns.TXT{Hdr: header, Txt: textStrings(rr.Data)}, nil
	}
	record, err := dns.NewRR(header.String() + rr.Data)
	if err != nil || record == nil {
		return nil, fmt.Errorf("%s record %q does not parse: %v", rr.Type, rr.Data, err)
	}
	return record, nil
}

// textStrings cuts a text into what fits into one string each (RFC 1035
// section 3.3), escaped as miekg/dns has it.
func textStrings(text string) []string {
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	var parts []string
	for len(text) > 255 {
		parts, text = append(parts, escape.Replace(text[:255])), text[255:]
	}
	return append(parts, escape.Replace(text))
}
