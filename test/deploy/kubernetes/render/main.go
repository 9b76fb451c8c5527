// Command render does what the tests of deploy/kubernetes and deploy/helm
// need of other people's tools, by the libraries those are made of: a helm and a
// kubectl, of which most is for talking to clusters, would take minutes to
// compile.
//
//	render chart DIRECTORY         helm lint and helm template, once for each values on standard input
//	render kustomize DIRECTORY …   kubectl kustomize
//	render restricted              the Pod Security Standards, of pods on standard input
//
// Answers are JSON, on standard output.
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "render:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	var answer any
	var err error
	switch {
	case len(args) == 2 && args[0] == "chart":
		answer, err = chartAnswers(args[1])
	case len(args) > 1 && args[0] == "kustomize":
		answer, err = kustomize(args[1:])
	case len(args) == 1 && args[0] == "restricted":
		answer, err = podSecurity()
	default:
		err = fmt.Errorf("chart DIRECTORY, kustomize DIRECTORY … or restricted, but got %q", args)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(answer)
}
