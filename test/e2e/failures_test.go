package e2e

import (
	"bufio"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Who reads only the log, or only the status page, can tell each of the staged
// failures from all others by what docs/troubleshooting.md quotes, and is told
// what to do.
func TestFailuresCanBeToldApart(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var sights []sight
	staged := slices.Concat(backendFailures, certificateFailures, reloadFailures, limitFailures, clientFailures)
	t.Run("staged", func(t *testing.T) {
		for _, f := range staged {
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				s := &scene{t: t, dir: t.TempDir()}
				f.stage(s)
				seen := s.look(f.name)
				mu.Lock()
				defer mu.Unlock()
				sights = append(sights, seen)
			})
		}
	})
	if len(sights) != len(staged) {
		t.Fatalf("%d of %d failures could be staged", len(sights), len(staged))
	}
	rows := troubles(t)
	described := map[string]int{}
	inLog, onPage := 0, 0
	for _, r := range rows {
		name := r.check(t, sights)
		described[name]++
		if len(r.log) > 0 {
			inLog++
		}
		if len(r.page) > 0 {
			onPage++
		}
	}
	for _, f := range staged {
		if described[f.name] != 1 {
			t.Errorf("%s: %d rows in %s", f.name, described[f.name], troublesFile)
		}
	}
	t.Logf("%d failures; %d can be told by the log at info, %d by the page", len(staged), inLog, onPage)
	if inLog < 40 || onPage < 40 {
		t.Errorf("only %d by the log and %d by the page", inLog, onPage)
	}
}

const troublesFile = "../../docs/troubleshooting.md"

// A trouble is one row of the tables: words by where they stand.
type trouble struct {
	line              string
	log, debug, page  []string
	metrics           []string
	meaning, whatToDo string
}

var quotation = regexp.MustCompile("^(?:(log|debug log|page|metric): )?`([^`]+)`$")

// troubles reads the tables.
func troubles(t *testing.T) (all []trouble) {
	t.Helper()
	file, err := os.Open(troublesFile)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		line := lines.Text()
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| You see") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if len(cells) != 3 {
			t.Fatalf("%d cells: %s", len(cells), line)
		}
		r := trouble{line: line, meaning: cells[1], whatToDo: cells[2]}
		for item := range strings.SplitSeq(cells[0], "<br>") {
			parts := quotation.FindStringSubmatch(item)
			if parts == nil {
				t.Fatalf("what is %s?", item)
			}
			switch where, words := parts[1], parts[2]; where {
			case "log":
				r.log = append(r.log, words)
			case "debug log":
				r.debug = append(r.debug, words)
			case "page":
				r.page = append(r.page, words)
			case "metric":
				r.metrics = append(r.metrics, words)
			default:
				r.log, r.page = append(r.log, words), append(r.page, words)
			}
		}
		all = append(all, r)
	}
	return all
}

// check finds the one failure that a row is about, by the log and by the page,
// and returns its name.
func (r *trouble) check(t *testing.T, sights []sight) (name string) {
	t.Helper()
	var found []string
	about := func(where string, words []string, has func(*sight, string) bool) {
		if len(words) == 0 {
			return
		}
		var fit []string
		for i := range sights {
			if !slices.ContainsFunc(words, func(w string) bool { return !has(&sights[i], w) }) {
				fit = append(fit, sights[i].name)
			}
		}
		if len(fit) != 1 {
			t.Errorf("by the %s, %q is %q", where, words, fit)
		}
		found = append(found, fit...)
	}
	about("log", r.log, func(v *sight, w string) bool { return having(v.log, w) != nil })
	about("debug log", r.debug, func(v *sight, w string) bool { return having(v.debug, w) != nil })
	about("page", r.page, func(v *sight, w string) bool { return strings.Contains(v.page, w) })
	found = slices.Compact(slices.Sorted(slices.Values(found)))
	if len(found) != 1 || len(r.log)+len(r.debug) == 0 || r.meaning == "" || r.whatToDo == "" {
		t.Errorf("a row that is about %q: %s", found, r.line)
		return ""
	}
	for i := range sights {
		if v := &sights[i]; v.name == found[0] {
			r.checkAdvice(t, v)
		}
	}
	return found[0]
}

// checkAdvice: what is quoted comes with what to do, in both places; metrics are
// what they are said to be.
func (r *trouble) checkAdvice(t *testing.T, v *sight) {
	t.Helper()
	says := func(e entry) bool {
		return e.text("hint")+e.text("remedy")+e.text("right_port") != "" || strings.HasPrefix(e.text("message"), "configuration not reloaded")
	}
	lines := having(v.debug, slices.Concat(r.debug, r.log)[0])
	for _, words := range r.log {
		lines = append(lines, having(v.log, words)...)
	}
	if !slices.ContainsFunc(lines, says) {
		t.Errorf("%s: the log does not say what to do: %v", v.name, lines)
	}
	inStatus := func(words string) bool { return strings.Contains(v.status, words) }
	if len(r.page) > 0 && (!slices.ContainsFunc(r.page, inStatus) || !v.advised) {
		t.Errorf("%s: /status does not have %q, or does not say what to do:\n%s", v.name, r.page, v.status)
	}
	for _, m := range r.metrics {
		if !v.moved(m) {
			t.Errorf("%s: %s has not moved", v.name, m)
		}
	}
}
