package smtp

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
)

var mechanismsIn = regexp.MustCompile(`[^A-Za-z0-9_-]*[A-Za-z0-9_-]+`)

// slowEHLO is what Rules.EHLO promises, written on lines and words.
func slowEHLO(r *Rules, reply string) (edited string, chunking bool) {
	lines := strings.SplitAfter(reply, "\n")
	lines = lines[:len(lines)-1]
	kept := lines[:1]
	for _, line := range lines[1:] {
		text := strings.TrimRight(line, "\r\n")
		end := line[len(text):]
		text = text[min(4, len(text)):]
		word := strings.TrimLeft(text, " \t")
		if stop := strings.IndexAny(word, " \t=:"); stop >= 0 {
			word = word[:stop]
		}
		word = strings.ToUpper(word)
		switch word {
		case "STARTTLS", "XCLIENT", "XFORWARD", "X-ANONYMOUSTLS", "XEXCH50", "REQUIRETLS":
			continue
		case "CHUNKING":
			chunking = true
		case "AUTH":
			if r.Clear {
				continue
			}
			at := strings.Index(strings.ToUpper(text), "AUTH") + 4
			names := mechanismsIn.FindAllString(text[at:], -1)
			fit := ""
			for _, name := range names {
				bare := strings.ToUpper(strings.TrimLeft(name, " \t=,"))
				if !strings.HasSuffix(bare, "-PLUS") && (bare != "EXTERNAL" || r.External) {
					fit += name
				}
			}
			if fit == "" && len(names) > 0 {
				continue
			}
			if len(names) > 0 {
				tail := strings.TrimPrefix(text[at:], strings.Join(names, ""))
				line = line[:4] + text[:at] + fit + tail + end
			}
		}
		if word != "" && (word == "X-EXPS" || strings.HasPrefix(word, "XPROXY")) && len(r.Hide) > 0 {
			continue
		}
		kept = append(kept, line)
	}
	if r.Offer {
		kept = append(kept, "250 STARTTLS\r\n")
	}
	for i, line := range kept {
		text := strings.TrimRight(line, "\r\n")
		end := line[len(text):]
		switch {
		case i < len(kept)-1:
			edited += text[:3] + "-" + text[min(4, len(text)):] + end
		case len(text) == 3:
			edited += line
		default:
			edited += text[:3] + " " + text[4:] + end
		}
	}
	return edited, chunking
}

// editEHLO gives EHLO just the room that it asks for, and sees that it keeps to
// it: behind it may be another session's octets.
func editEHLO(t *testing.T, r *Rules, reply string) (string, bool) {
	t.Helper()
	const guard = "another session's"
	store := append([]byte(reply), bytes.Repeat([]byte{'?'}, MaxOffer)...)
	store = append(store, guard...)
	got, chunking := r.EHLO(store[: len(reply) : len(store)-len(guard)])
	if string(store[len(store)-len(guard):]) != guard || len(got) > 0 && &got[0] != &store[0] {
		t.Fatalf("%+v %q: it went beyond its room", *r, reply)
	}
	return string(got), chunking
}

func checkEHLO(t *testing.T, r *Rules, reply string) {
	t.Helper()
	want, wantChunking := slowEHLO(r, reply)
	got, chunking := editEHLO(t, r, reply)
	if got != want || chunking != wantChunking {
		t.Fatalf("%+v %q:\n got %q %v\nwant %q %v", *r, reply, got, chunking, want, wantChunking)
	}
	if tight, _ := r.EHLO([]byte(reply)[:len(reply):len(reply)]); string(tight) != want {
		t.Fatalf("%+v %q without room: %q", *r, reply, tight)
	}
	again, _ := editEHLO(t, &Rules{Clear: r.Clear, External: r.External, Hide: r.Hide}, got)
	if !r.Offer && again != got {
		t.Fatalf("%+v %q: a second edit changes %q to %q", *r, reply, got, again)
	}
}

// extensions are what a backend may announce, all kinds that matter.
var extensions = []string{"", "PIPELINING", "SIZE 1000", "STARTTLS", "xclient NAME ADDR", "XFORWARD", "X-ANONYMOUSTLS", "XEXCH50 2", "REQUIRETLS",
	"CHUNKING", "chunking x", "XCHUNKING", "AUTH PLAIN LOGIN", "auth EXTERNAL", "AUTH=PLAIN EXTERNAL LOGIN", "AUTH", "AUTH=", "AUTH ",
	"AUTH SCRAM-SHA-1-PLUS EXTERNAL PLAIN  X-OAUTH_2 ", "AUTH SCRAM-SHA-256-plus", "AUTHX EXTERNAL", "X-EXPS NTLM", "XPROXYFROM", " STARTTLS", "STARTTLSX"}

func ehloRules() (all []*Rules) {
	for i := range 8 {
		r := &Rules{Offer: i&1 != 0, Clear: i&1 != 0, External: i&2 != 0}
		if i&4 != 0 {
			r.Hide = Keywords{"X-EXPS", "XPROXY*"}
		}
		all = append(all, r)
	}
	return append(all, &Rules{Clear: true})
}

// Every reply of a greeting and up to three of the extensions, in any order.
func TestEHLOEveryReply(t *testing.T) {
	alphabet := make([]byte, len(extensions))
	for i := range alphabet {
		alphabet[i] = byte(i)
	}
	longest := 3
	if raceEnabled {
		longest = 2
	}
	rules := ehloRules()
	everyString(string(alphabet), longest, func(list []byte) {
		for _, end := range []string{"\r\n", "\n"} {
			reply := "mta.example.org at your service" + end
			for _, i := range list {
				reply += "\x00" + extensions[i] + end
			}
			lines := strings.Split(reply, "\x00")
			reply = ""
			for i, line := range lines {
				if i < len(lines)-1 {
					reply += "250-" + line
				} else {
					reply += "250 " + line
				}
			}
			for _, r := range rules {
				checkEHLO(t, r, reply)
			}
		}
	})
}

// RFC 5321 section 4.2 allows a code without text; an edit must give it room.
func TestEHLOBareCodes(t *testing.T) {
	for _, reply := range []string{"250\r\n", "250\n", "250 \r\n", "250-\r\n250\r\n", "250-a\n250\n", "250-a\r\n250-STARTTLS\r\n250\r\n", "250-\n250 AUTH PLAIN\n",
		"250-STARTTLS\r\n250 STARTTLS\r\n"} {
		for _, r := range ehloRules() {
			checkEHLO(t, r, reply)
		}
	}
}
