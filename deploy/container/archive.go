package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// A config is the image's, as OCI image-spec 1.1 and Docker have it. OCI has no
// health check; engines that know none pass it over.
type config struct {
	Created      time.Time `json:"created"`
	Architecture string    `json:"architecture"`
	OS           string    `json:"os"`
	Config       runs      `json:"config"`
	RootFS       struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// A runs says what a container does.
type runs struct {
	User         string              `json:"User"`
	ExposedPorts map[string]struct{} `json:"ExposedPorts"`
	Entrypoint   []string            `json:"Entrypoint"`
	Cmd          []string            `json:"Cmd"`
	Volumes      map[string]struct{} `json:"Volumes"`
	Labels       map[string]string   `json:"Labels"`
	StopSignal   string              `json:"StopSignal"`
	Healthcheck  *healthcheck        `json:"Healthcheck,omitempty"`
}

type healthcheck struct {
	Test        []string
	Interval    time.Duration // nanoseconds in JSON, as Docker has it
	Timeout     time.Duration
	StartPeriod time.Duration
	Retries     int
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

const oci = "application/vnd.oci.image."

// pack writes an OCI image layout, with a manifest.json for engines that know
// only Docker's archives.
func (o options) pack(files []file, image runs) error {
	rootfs, err := layer(files)
	if err != nil {
		return err
	}
	made := config{Created: epoch.UTC(), Architecture: o.arch, OS: "linux", Config: image}
	made.RootFS.Type, made.RootFS.DiffIDs = "layers", []string{digest(rootfs)}

	var members []member
	blob := func(mediaType string, text []byte) descriptor {
		members = append(members, member{path(text), text})
		return descriptor{MediaType: oci + mediaType, Digest: digest(text), Size: len(text)}
	}
	configText := asJSON(made)
	manifest := blob("manifest.v1+json", asJSON(map[string]any{
		"schemaVersion": 2,
		"mediaType":     oci + "manifest.v1+json",
		"config":        blob("config.v1+json", configText),
		"layers":        []descriptor{blob("layer.v1.tar", rootfs)},
	}))
	manifest.Annotations = map[string]string{"io.containerd.image.name": "docker.io/library/" + o.name, "org.opencontainers.image.ref.name": o.name}
	members = append(members,
		member{"index.json", asJSON(map[string]any{"schemaVersion": 2, "mediaType": oci + "index.v1+json", "manifests": []descriptor{manifest}})},
		member{"manifest.json", asJSON([]map[string]any{{"Config": path(configText), "RepoTags": []string{o.name}, "Layers": []string{path(rootfs)}}})},
		member{"oci-layout", asJSON(map[string]string{"imageLayoutVersion": "1.0.0"})},
	)
	out, err := os.Create(o.archive)
	if err != nil {
		return err
	}
	if err := writeMembers(out, members); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

func digest(text []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(text)) }

func path(text []byte) string { return fmt.Sprintf("blobs/sha256/%x", sha256.Sum256(text)) }

func asJSON(value any) []byte {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // nothing here that JSON has no word for
	}
	return text
}
