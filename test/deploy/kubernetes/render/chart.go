package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
)

// A rendering is what a chart comes to with some values.
type rendering struct {
	Manifests string   `json:"manifests"`
	Notes     string   `json:"notes"`
	Error     string   `json:"error"` // of the schema, or of a template
	Lint      []string `json:"lint"`  // all that is above information
}

// chartAnswers renders the chart with each of the values on standard input, a
// JSON object by name.
func chartAnswers(dir string) (map[string]rendering, error) {
	var cases map[string]map[string]any
	if err := json.NewDecoder(os.Stdin).Decode(&cases); err != nil {
		return nil, err
	}
	answers := map[string]rendering{}
	for name, values := range cases {
		one := rendering{}
		var err error
		if one.Manifests, one.Notes, err = template(dir, values); err != nil {
			one.Error = err.Error()
		}
		for _, m := range lint.AllWithKubeVersion(dir, values, "smtpseal", nil).Messages {
			if m.Severity > support.InfoSev {
				one.Lint = append(one.Lint, m.Error())
			}
		}
		answers[name] = one
	}
	return answers, nil
}

// template is helm template smtpseal DIRECTORY --namespace smtpseal.
func template(dir string, values map[string]any) (manifests, notes string, err error) {
	chart, err := loader.LoadDir(dir)
	if err != nil {
		return "", "", err
	}
	release := chartutil.ReleaseOptions{Name: "smtpseal", Namespace: "smtpseal", Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(chart, values, release, chartutil.DefaultCapabilities)
	if err != nil {
		return "", "", err
	}
	files, err := engine.Render(chart, all)
	if err != nil {
		return "", "", err
	}
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		switch content := strings.TrimSpace(files[name]); {
		case filepath.Base(name) == "NOTES.txt":
			notes = content
		case content != "":
			fmt.Fprintf(&text, "---\n# Source: %s\n%s\n", name, strings.TrimPrefix(content, "---\n"))
		}
	}
	return text.String(), notes, nil
}
