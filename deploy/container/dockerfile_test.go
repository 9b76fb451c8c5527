package main

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestTheDockerfileIsTheImage(t *testing.T) {
	text, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	got, err := parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	if got.User != "65532:65532" || !reflect.DeepEqual(got.Entrypoint, []string{"/usr/bin/smtpseal"}) || !reflect.DeepEqual(got.Cmd, []string{"run"}) || got.StopSignal != "SIGTERM" {
		t.Errorf("%+v", got)
	}
	want := &healthcheck{[]string{"CMD", "/usr/bin/smtpseal", "status", "--live"}, 30 * time.Second, 5 * time.Second, 10 * time.Second, 3}
	if !reflect.DeepEqual(got.Healthcheck, want) {
		t.Errorf("%+v", got.Healthcheck)
	}
	if len(got.ExposedPorts) != 6 || len(got.Labels) != 3 || len(got.Volumes) != 1 {
		t.Errorf("%+v", got)
	}
}

// What would be in one of the two images only is refused.
func TestDockerfilesThatTheArchiveWouldNotFollow(t *testing.T) {
	const start, end = "FROM golang AS build\nRUN anything at all\nFROM scratch\n", "COPY " + copied + "\n"
	for text, want := range map[string]string{
		start + end: "",
		start + end + "CMD [\"a\", \\\n  \"b\"]\n":             "",
		"# syntax=docker/dockerfile:1\n" + start + end:         "pull a frontend",
		"FROM debian\n" + end:                                  "must end in FROM scratch",
		start:                                                  "must end in FROM scratch",
		start + end + end:                                      "must end in FROM scratch",
		start + end + "FROM debian\n":                          "must end in FROM scratch",
		start + end + "COPY more /\n":                          "not known here",
		start + end + "ADD more /\n":                           "not known here",
		start + end + "RUN true\n":                             "not known here",
		start + end + "ENV A=b\n":                              "not known here",
		start + end + "CMD smtpseal run\n":                     "no JSON list",
		start + end + "LABEL a=b\n":                            "no name",
		start + end + "HEALTHCHECK NONE\n":                     "has no CMD",
		start + end + "HEALTHCHECK --interval=x CMD [\"a\"]\n": "invalid duration",
		start + end + "HEALTHCHECK --often=1s CMD [\"a\"]\n":   "not known here",
		start + end + "HEALTHCHECK --retries=1 CMD a\n":        "no JSON list",
	} {
		switch _, err := parse(text); {
		case want == "" && err != nil:
			t.Errorf("%s\n%v", text, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s\n%v, and not %q", text, err, want)
		}
	}
}
