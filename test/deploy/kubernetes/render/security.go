package main

import (
	"encoding/json"
	"os"

	core "k8s.io/api/core/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// podSecurity says, of each pod by name, what the levels of the Pod Security
// Standards have against it: by the code of the API server.
func podSecurity() (map[string]map[string]string, error) {
	var pods map[string]core.PodTemplateSpec
	if err := json.NewDecoder(os.Stdin).Decode(&pods); err != nil {
		return nil, err
	}
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return nil, err
	}
	answers := map[string]map[string]string{}
	for name, pod := range pods {
		answers[name] = map[string]string{}
		for _, level := range []api.Level{api.LevelBaseline, api.LevelRestricted} {
			result := policy.AggregateCheckResults(evaluator.EvaluatePod(api.LevelVersion{Level: level, Version: api.LatestVersion()}, &pod.ObjectMeta, &pod.Spec))
			if !result.Allowed {
				answers[name][string(level)] = result.ForbiddenReason() + ": " + result.ForbiddenDetail()
			}
		}
	}
	return answers, nil
}
