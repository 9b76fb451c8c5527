package probe

import "fmt"

// A Status is how a check went.
type Status string

// Only Fail makes a run fail. A Note is neither good nor bad: what could not be
// asked, or what some like and others do not.
const (
	OK   Status = "ok"
	Warn Status = "warn"
	Fail Status = "fail"
	Note Status = "note"
)

// A Report is what was found. Its JSON is stable.
type Report struct {
	Endpoints []Endpoint `json:"endpoints"`
	Failures  int        `json:"failures"`
	Warnings  int        `json:"warnings"`
}

// An Endpoint is one port of one host. Mode is "" if nothing answered that
// would have told it.
type Endpoint struct {
	Address string  `json:"address"`
	Mode    Mode    `json:"mode"`
	Checks  []Check `json:"checks"`
}

// A Check is what one look has found. Title is how it should be, Detail how it
// is and what that means, Remedy what to do about it. Where all is well there is no
// remedy, and no detail if the title says it all.
type Check struct {
	ID     string `json:"id"`
	Status Status `json:"status"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Remedy string `json:"remedy"`
}

func (r *Report) count() {
	for _, e := range r.Endpoints {
		for _, c := range e.Checks {
			switch c.Status {
			case Fail:
				r.Failures++
			case Warn:
				r.Warnings++
			}
		}
	}
}

// A finding is what a check returns. The zero one means that there was nothing
// to look at, and is not reported.
type finding struct {
	status         Status
	detail, remedy string
	last           bool // no further check can be made
}

func good(format string, args ...any) finding {
	return finding{status: OK, detail: fmt.Sprintf(format, args...)}
}

func note(remedy, format string, args ...any) finding {
	return finding{status: Note, remedy: remedy, detail: fmt.Sprintf(format, args...)}
}

func warn(remedy, format string, args ...any) finding {
	return finding{status: Warn, remedy: remedy, detail: fmt.Sprintf(format, args...)}
}

func fail(remedy, format string, args ...any) finding {
	return finding{status: Fail, remedy: remedy, detail: fmt.Sprintf(format, args...)}
}

// ends makes a finding the last one.
func (f finding) ends() finding { f.last = true; return f }

// unknown is for a check whose way was blocked, which says nothing about what
// it was to look at.
func unknown(err error) finding {
	return warn("try again; a server that limits connections per client may have to know this one",
		"could not be checked: %s", printable(err.Error()))
}
