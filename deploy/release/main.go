// Command release makes of built programs what is published: archives, a bill of
// materials (SBOM) for each, and checksums. All of it is the same octets from the
// same source: times are the commit's, owners are root, nothing is random, and no
// word is about the machine that it was made on.
//
//	release version PROGRAM                        what it is called
//	release documents -o DIR PROGRAM               man/, completions/, third-party-licences
//	release archive -o DIR -documents DIR PROGRAM  one archive and one SBOM
//	release sums DIR                               SHA256SUMS of the files in it
//
// All that it says of a program it reads from the program itself.
package main

import (
	"debug/buildinfo"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("version, documents, archive or sums?")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	out := flags.String("o", "dist", "`directory` to write into")
	documents := flags.String("documents", "", "`directory` that release documents has written")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return fmt.Errorf("%s: one argument, not %d", args[0], flags.NArg())
	}
	if args[0] == "sums" {
		return writeSums(flags.Arg(0))
	}
	p, err := open(flags.Arg(0))
	if err != nil {
		return err
	}
	switch args[0] {
	case "version":
		_, err = fmt.Println(p.version)
	case "documents":
		err = p.document(*out)
	case "archive":
		err = p.publish(*out, *documents)
	default:
		err = fmt.Errorf("%s: no such command", args[0])
	}
	return err
}

// A built is a program, and what it says of itself.
type built struct {
	file     string
	info     *buildinfo.BuildInfo
	version  string // v1.2.3, or v0.0.0-TIME-COMMIT
	os, arch string
	revision string
	time     time.Time // of the commit; the epoch where there was no repository
}

func open(file string) (*built, error) {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return nil, err
	}
	p := &built{file: file, info: info, version: info.Main.Version, time: time.Unix(0, 0).UTC()}
	if p.version == "" || p.version == "(devel)" {
		p.version = "v0.0.0-devel" // built without a repository
	}
	for _, s := range info.Settings {
		if err := p.set(s); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	return p, nil
}

func (p *built) set(s debug.BuildSetting) (err error) {
	switch s.Key {
	case "GOOS":
		p.os = s.Value
	case "GOARCH":
		p.arch = s.Value
	case "vcs.revision":
		p.revision = s.Value
	case "vcs.time":
		p.time, err = time.Parse(time.RFC3339, s.Value)
	}
	return err
}

// name is that of everything about it, smtpseal-v1.2.3-linux-amd64.
func (p *built) name() string { return fmt.Sprintf("smtpseal-%s-%s-%s", p.version, p.os, p.arch) }
