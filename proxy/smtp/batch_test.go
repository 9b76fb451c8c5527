package smtp

import (
	"fmt"
	"strings"
	"testing"
)

// grouped are the verbs behind which another command may share a batch (RFC
// 2920 section 3.1); ourVerbs are never the backend's to see as a command.
const (
	grouped  = " MAIL RCPT RSET "
	ourVerbs = " STARTTLS BDAT XCLIENT XFORWARD X-ANONYMOUSTLS XEXCH50 TURN ATRN LHLO "
)

// A slowCommand is one line as the reference has it.
type slowCommand struct {
	line, verb, word string
	bare             bool
}

func (c slowCommand) ours(r *Rules) bool {
	if strings.Contains(ourVerbs, " "+c.verb+" ") || c.verb == "AUTH" && r.Clear {
		return true
	}
	for _, hidden := range r.Hide {
		if prefix, any := strings.CutSuffix(hidden, "*"); any && strings.HasPrefix(strings.ToUpper(c.word), prefix) || strings.EqualFold(hidden, c.word) {
			return true
		}
	}
	return false
}

// slowCommands cuts b into its complete lines; bad says that what comes behind
// them is an error.
func slowCommands(b []byte) (all []slowCommand, bad bool) {
	for {
		n, bare, bad := slowLine(b)
		if n == 0 {
			return all, bad
		}
		line := string(b[:n])
		text := strings.TrimRight(line, "\r\n")
		all = append(all, slowCommand{line, slowVerb(text), slowWord(text), bare})
		b = b[n:]
	}
}

// slowNext says what Next must, of octets that are all there.
func slowNext(r *Rules, b []byte) (want Batch, verb string, bad bool) {
	commands, bad := slowCommands(b)
	want.Mail = -1
	if len(commands) == 0 {
		return want, "", bad
	}
	if commands[0].ours(r) {
		return Batch{Verdict: Ours, Len: len(commands[0].line), Commands: 1, Bare: commands[0].bare, Mail: -1}, commands[0].verb, false
	}
	want.Verdict = Forward
	for i, c := range commands {
		if i > 0 && (c.bare || c.verb == "EHLO" || c.ours(r)) {
			break
		}
		want.Len += len(c.line)
		want.Commands++
		switch c.verb {
		case "MAIL":
			want.Mail = i
		case "RSET", "HELO", "EHLO":
			want.Mail, want.Resets = -1, true
		}
		verb, want.Bare = c.verb, c.bare
		if c.bare || !strings.Contains(grouped, " "+c.verb+" ") {
			break
		}
	}
	return want, verb, false
}

func checkNext(t *testing.T, r *Rules, b []byte) {
	t.Helper()
	want, verb, bad := slowNext(r, b)
	got, err := r.Next(b)
	if (err != nil) != bad {
		t.Fatalf("%+v %q: %v, want bad %v", *r, b, err, bad)
	}
	if err != nil {
		return
	}
	if want.Verdict == Ours { // only Len and Last are promised
		want.Commands, want.Bare, want.Resets = got.Commands, got.Bare, got.Resets
	}
	if got.Last.Verb.String() != verb {
		t.Fatalf("%+v %q: last %q, want %q", *r, b, got.Last.Verb, verb)
	}
	got.Last = Command{}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("%+v %q:\n got %+v\nwant %+v", *r, b, got, want)
	}
}

// takeAll gives b to Next in the pieces that cuts make of it and returns all
// commands in order, with who is to answer each.
func takeAll(r *Rules, b []byte, cuts ...int) (all []string, bad bool) {
	from := 0
	for _, cut := range append(cuts, len(b)) {
		for {
			batch, err := r.Next(b[from:cut])
			if err != nil {
				return all, true
			}
			if batch.Verdict == More {
				break
			}
			who := "backend "
			if batch.Verdict == Ours {
				who = "we "
			}
			for _, line := range strings.SplitAfter(string(b[from:from+batch.Len]), "\n") {
				if line != "" {
					all = append(all, who+line)
				}
			}
			from += batch.Len
		}
	}
	return all, false
}

// words are what the alphabet of the test of Next is made of.
var nextWords = []string{"MAIL\r\n", "rcpt x\n", "RSET\r\n", "DATA\r\n", "EHLO\r\n", "HELO\n", " NOOP\r\n", "XCLIENT A\r\n", "STARTTLS\n",
	"BDAT 1\r\n", "AUTH\r\n", "XPROXYTO\r\n", "\r", "\n", "\x00", "R"}

func nextRules() []*Rules {
	return []*Rules{{}, {Clear: true, Offer: true}, {Hide: Keywords{"XPROXY*", "HELO"}}}
}

func TestNextEveryWordCutEverywhere(t *testing.T) {
	longest := 4
	if raceEnabled {
		longest = 3
	}
	alphabet := make([]byte, len(nextWords))
	for i := range alphabet {
		alphabet[i] = byte(i)
	}
	everyString(string(alphabet), longest, func(word []byte) {
		var b []byte
		for _, i := range word {
			b = append(b, nextWords[i]...)
		}
		for _, r := range nextRules() {
			checkNext(t, r, b)
			whole, wholeBad := takeAll(r, b)
			for cut := range b {
				if len(word) == longest && cut%3 != len(b)%3 {
					continue
				}
				got, bad := takeAll(r, b, cut)
				if bad != wholeBad || fmt.Sprint(got) != fmt.Sprint(whole) {
					t.Fatalf("%+v %q cut at %d:\n got %q %v\nwhole %q %v", *r, b, cut, got, bad, whole, wholeBad)
				}
			}
		}
	})
}

// Nothing denied may reach the backend in any spelling or company.
func TestNextDeniedVerbs(t *testing.T) {
	r := &Rules{Hide: Keywords{"X-EXPS", "XPROXY*"}}
	for _, verb := range append(strings.Fields(ourVerbs), "X-EXPS", "XPROXY", "XPROXYFROM") {
		for _, spelt := range []string{verb, strings.ToLower(verb), " " + verb, "\t" + verb, "\x0c" + verb, verb + "\t", verb + ":", verb + "=x"} {
			for _, company := range []string{"%s\r\n", "%s\n", "MAIL x\r\n%s\r\nRSET\r\n", "RSET\r\nRSET\r\n%s\n"} {
				line := fmt.Sprintf(company, spelt)
				all, bad := takeAll(r, []byte(line))
				for _, c := range all {
					if strings.HasPrefix(c, "backend ") && strings.Contains(c, spelt) || bad {
						t.Errorf("%q: %q %v", line, all, bad)
					}
				}
			}
		}
	}
}
