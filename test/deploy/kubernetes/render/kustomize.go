package main

import (
	"fmt"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// kustomize builds each directory as kubectl kustomize does.
func kustomize(dirs []string) (map[string]string, error) {
	built := map[string]string{}
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionLegacy // namespaces first
	for _, dir := range dirs {
		resources, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), dir)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
		text, err := resources.AsYaml()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
		built[dir] = string(text)
	}
	return built, nil
}
