package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// copied is the one way in which files may come into the image: others would
// miss in the archive.
const copied = "--from=build /root-of-image /"

// parse reads what a Dockerfile says behind FROM scratch. An instruction that it
// does not know, or another form of one, is an error: nothing may be in one of
// the two images and miss in the other.
func parse(dockerfile string) (runs, error) {
	image := runs{ExposedPorts: map[string]struct{}{}, Volumes: map[string]struct{}{}, Labels: map[string]string{}}
	all := instructions(dockerfile)
	if strings.Contains(strings.ToLower(dockerfile), "# syntax=") {
		return image, errors.New("a line # syntax= makes a build pull a frontend")
	}
	final, copies := false, 0
	for _, i := range all {
		var err error
		switch {
		case i.word == "FROM":
			final = i.rest == "scratch"
		case !final: // what builds the files
		case i.word == "COPY" && i.rest == copied:
			copies++
		default:
			err = image.set(i.word, i.rest)
		}
		if err != nil {
			return image, fmt.Errorf("%s %s: %w", i.word, i.rest, err)
		}
	}
	if !final || copies != 1 {
		return image, errors.New("must end in FROM scratch and once COPY " + copied)
	}
	return image, nil
}

func (r *runs) set(word, rest string) (err error) {
	switch word {
	case "USER":
		r.User = rest
	case "VOLUME":
		r.Volumes[rest] = struct{}{}
	case "STOPSIGNAL":
		r.StopSignal = rest
	case "ENTRYPOINT":
		r.Entrypoint, err = words(rest)
	case "CMD":
		r.Cmd, err = words(rest)
	case "EXPOSE":
		for _, port := range strings.Fields(rest) {
			r.ExposedPorts[port+"/tcp"] = struct{}{}
		}
	case "LABEL":
		return r.label(rest)
	case "HEALTHCHECK":
		r.Healthcheck, err = health(rest)
	default:
		err = errors.New("is not known here: see dockerfile.go")
	}
	return err
}

var pair = regexp.MustCompile(`([a-z.]+)="([^"\\]*)"\s*`)

func (r *runs) label(rest string) error {
	if left := pair.ReplaceAllString(rest, ""); left != "" {
		return fmt.Errorf("%q is no name=\"value\"", left)
	}
	for _, m := range pair.FindAllStringSubmatch(rest, -1) {
		r.Labels[m[1]] = m[2]
	}
	return nil
}

func health(rest string) (*healthcheck, error) {
	flags, command, found := strings.Cut(rest, " CMD ")
	if !found {
		return nil, errors.New("has no CMD")
	}
	h := &healthcheck{}
	for _, flag := range strings.Fields(flags) {
		name, value, _ := strings.Cut(strings.TrimPrefix(flag, "--"), "=")
		into := map[string]*time.Duration{"interval": &h.Interval, "timeout": &h.Timeout, "start-period": &h.StartPeriod}[name]
		var err error
		switch {
		case into != nil:
			*into, err = time.ParseDuration(value)
		case name == "retries":
			h.Retries, err = strconv.Atoi(value)
		default:
			err = errors.New("is not known here")
		}
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", name, err)
		}
	}
	test, err := words(command)
	h.Test = append([]string{"CMD"}, test...)
	return h, err
}

// words are those of the JSON form. The other form needs a shell, which is not
// there.
func words(text string) (all []string, err error) {
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return nil, fmt.Errorf("is no JSON list: %w", err)
	}
	return all, nil
}

type instruction struct{ word, rest string }

// instructions joins lines that end in a backslash, and drops comments.
func instructions(dockerfile string) (all []instruction) {
	var line string
	for text := range strings.Lines(dockerfile) {
		text = strings.TrimSpace(text)
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		part, goesOn := strings.CutSuffix(text, `\`)
		if line += part; goesOn {
			continue
		}
		word, rest, _ := strings.Cut(line, " ")
		all = append(all, instruction{strings.ToUpper(word), strings.Join(strings.Fields(rest), " ")})
		line = ""
	}
	return all
}
