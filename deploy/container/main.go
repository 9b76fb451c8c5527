// Command container makes the image of smtpseal without a container engine.
//
//	container -root DIRECTORY   what is in the image, as the Dockerfile copies it
//	container -o FILE           the whole image, an archive for docker load and
//	                            podman load that is an OCI layout as well
//
// What the image runs, and as whom, is read from the Dockerfile, so that both ways
// lead to the same. The same tree, compiler and CA roots make the same octets.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

func main() {
	var o options
	flag.StringVar(&o.root, "root", "", "write the image's files into `DIRECTORY`, which must not be there yet")
	flag.StringVar(&o.archive, "o", "", "write the image into `FILE`")
	flag.StringVar(&o.roots, "roots", "/etc/ssl/certs/ca-certificates.crt", "`FILE` with the certificates of public CAs")
	flag.StringVar(&o.name, "name", "smtpseal:latest", "the image's `NAME:TAG`")
	flag.StringVar(&o.dockerfile, "f", "deploy/container/Dockerfile", "the Dockerfile")
	flag.StringVar(&o.binary, "binary", "", "a static smtpseal; default: one is built")
	flag.StringVar(&o.arch, "arch", "amd64", "amd64 or arm64")
	flag.Parse()
	if err := o.run(); err != nil {
		fmt.Fprintln(os.Stderr, "container:", err)
		os.Exit(1)
	}
}

type options struct{ root, archive, roots, name, dockerfile, binary, arch string }

func (o options) run() error {
	if (o.root == "") == (o.archive == "") {
		return fmt.Errorf("either -root DIRECTORY or -o FILE")
	}
	work, err := os.MkdirTemp("", "container")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if o.binary == "" {
		o.binary = filepath.Join(work, "smtpseal")
		if err := o.build(); err != nil {
			return err
		}
	}
	files, err := contents(o.binary, o.roots)
	if err != nil {
		return err
	}
	if o.root != "" {
		return unpack(o.root, files)
	}
	text, err := os.ReadFile(o.dockerfile)
	if err != nil {
		return err
	}
	image, err := parse(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", o.dockerfile, err)
	}
	return o.pack(files, image)
}

// build is make build.
func (o options) build() error {
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", o.binary, "./cmd/smtpseal")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+o.arch)
	cmd.Stderr = os.Stderr
	return cmd.Run()
}
