package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"
)

// The parts of CycloneDX 1.6 that a list of modules needs.
type (
	bill struct {
		Format       string         `json:"bomFormat"`
		Spec         string         `json:"specVersion"`
		Version      int            `json:"version"`
		Metadata     metadata       `json:"metadata"`
		Components   []component    `json:"components"`
		Compositions []completeness `json:"compositions"`
	}
	metadata struct {
		Time      string    `json:"timestamp"`
		Component component `json:"component"`
	}
	component struct {
		Type       string     `json:"type"`
		Ref        string     `json:"bom-ref"`
		Name       string     `json:"name"`
		Version    string     `json:"version"`
		PURL       string     `json:"purl"`
		Hashes     []hash     `json:"hashes,omitempty"`
		Properties []property `json:"properties,omitempty"`
	}
	hash struct {
		Algorithm string `json:"alg"`
		Content   string `json:"content"`
	}
	property struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	completeness struct {
		Aggregate  string   `json:"aggregate"`
		Assemblies []string `json:"assemblies"`
	}
)

// sbom lists what the linker put into the program, which is less than what
// go.mod names. Which module asked for which is not in the program, so it is not
// said here.
func (p *built) sbom() ([]byte, error) {
	content, err := os.ReadFile(p.file)
	if err != nil {
		return nil, err
	}
	subject := module("application", "smtpseal", p.version)
	subject.Hashes = []hash{{"SHA-256", fmt.Sprintf("%x", sha256.Sum256(content))}}
	for _, s := range p.info.Settings {
		subject.Properties = append(subject.Properties, property{"smtpseal:build:" + s.Key, s.Value})
	}
	components := []component{module("library", "std", strings.TrimPrefix(p.info.GoVersion, "go"))}
	for _, m := range p.info.Deps {
		components = append(components, dependency(m))
	}
	b := bill{
		Format: "CycloneDX", Spec: "1.6", Version: 1,
		Metadata:     metadata{p.time.Format(time.RFC3339), subject},
		Components:   components,
		Compositions: []completeness{{"complete", []string{subject.Ref}}},
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(b); err != nil {
		return nil, err
	}
	return text.Bytes(), nil
}

// dependency is a module, or what it was replaced by. Its sum is that of go.sum,
// which is of no file, so it is not among the hashes.
func dependency(m *debug.Module) component {
	if m.Replace != nil {
		m = m.Replace
	}
	c := module("library", m.Path, m.Version)
	if m.Sum != "" {
		c.Properties = []property{{"smtpseal:go.sum", m.Sum}}
	}
	return c
}

func module(kind, path, version string) component {
	purl := "pkg:golang/" + path + "@" + strings.ReplaceAll(version, "+", "%2B")
	return component{Type: kind, Ref: purl, Name: path, Version: version, PURL: purl}
}
