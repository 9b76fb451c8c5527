package kubernetes

import (
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// A rendering is an answer of render chart.
type rendering struct {
	Manifests, Notes, Error string
	Lint                    []string
}

// The least that must be said, in each of the two modes.
const (
	gateway = `
hostname: mail.example.org
image: {repository: registry.example.org/smtpseal}
backend: {servers: ["postfix.mail.svc:10025"]}
certificate: {source: certManager, issuer: {name: letsencrypt}}
`
	sidecar = `
mode: sidecar
hostname: mail.example.org
image: {repository: registry.example.org/smtpseal}
backend: {servers: ["127.0.0.1:10025"]}
certificate: {source: secret, secretName: mail-tls}
mta: {container: {image: registry.example.org/postfix:1.0.0, securityContext: {allowPrivilegeEscalation: false}}}
`
	byACME = "certificate: {source: acme, acme: {email: postmaster@example.org}}"
)

// charts are values for which the chart must be as good as the overlays.
var charts = map[string][]string{
	"gateway":          {gateway},
	"gateway-acme":     {gateway, byACME, "storage: {encryptionSecret: smtpseal-storage}", "listeners: {mx: true}"},
	"gateway-dns":      {gateway, `certificate: {source: acme, acme: {email: a@example.org, challenges: [dns-01], environmentSecret: dns, dns: {provider: digitalocean, auth_token: "env:TOKEN"}}}`, `names: ["*.example.org"]`},
	"gateway-proxy":    {gateway, "service: {clientAddress: proxy, proxyNetworks: [192.0.2.0/28]}"},
	"gateway-one-port": {gateway, "listeners: {submissions: false}", "drainSeconds: 300", "config: {limits: {max_sessions: 2000}}"},
	"sidecar":          {sidecar},
	"sidecar-acme": {sidecar, byACME, "storage: {namespace: kept, createNamespace: false}", "drainSeconds: 5",
		"mta: {volumes: [{name: more, secret: {secretName: more}}], volumeClaimTemplates: [{metadata: {name: queue}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}], container: {volumeMounts: [{name: queue, mountPath: /q}, {name: more, mountPath: /m}]}}"},
}

func TestChart(t *testing.T) {
	answers := rendered(t, charts)
	sets := map[string]*set{}
	for name := range charts {
		t.Run(name, func(t *testing.T) {
			answer := answers[name]
			if answer.Error != "" || len(answer.Lint) > 0 {
				t.Fatalf("%s\nlint: %q", answer.Error, answer.Lint)
			}
			if !strings.Contains(answer.Notes, "WARNING") || !strings.Contains(answer.Notes, "probe mail.example.org --relay") {
				t.Errorf("notes:\n%s", answer.Notes)
			}
			golden(t, "chart-"+name+".yaml", answer.Manifests)
			sets[name] = parse(t, answer.Manifests)
			sets[name].inspect(t)
		})
	}
	if !t.Failed() {
		allowed(t, sets)
		understood(t, sets)
	}
}

// Whoever sends no PROXY header has said that he knows what that means, and is
// told once more.
func TestChartWithoutProxyHeader(t *testing.T) {
	answer := rendered(t, map[string][]string{"": {gateway, "backend: {preset: exchange, serverTrustsNoPodAddress: true}"}})[""]
	if answer.Error != "" || !strings.Contains(answer.Notes, "it is an open relay") {
		t.Errorf("%s\n%s", answer.Error, answer.Notes)
	}
}

// What makes no sense is refused, at the key that is wrong.
func TestValuesThatMakeNoSense(t *testing.T) {
	const acme = gateway + "---" + byACME
	bad := map[string][]string{}
	wants := map[string]string{}
	for _, c := range []struct{ base, more, want string }{
		{"{}", "", "hostname"},
		{gateway, "mode: demon", "mode"},
		{gateway, "hostnames: [a]", "hostnames"},
		{gateway, "hostname: mail", "hostname"},
		{gateway, "hostname: mail_1.example.org", "hostname"},
		{gateway, "hostname: ''", "hostname"},
		{gateway, "names: [a.example.org, a.example.org]", "names"},
		{gateway, "names: ['*']", "names"},
		{gateway, "image: {repository: ''}", "image"},
		{gateway, "image: {tag: 'a b'}", "image"},
		{gateway, "image: {pullPolicy: Sometimes}", "image"},
		{gateway, "replicas: 1", "replicas"},
		{gateway, "replicas: '3'", "replicas"},
		{gateway, "listeners: {submissions: false, submission: false}", "listeners"},
		{gateway, "listeners: {smtps: true}", "listeners"},
		{gateway, "backend: {servers: []}", "servers"},
		{gateway, "backend: {servers: [postfix]}", "servers"},
		{gateway, "backend: {servers: ['127.0.0.1:25']}", "servers"},
		{gateway, "backend: {servers: ['localhost:25']}", "servers"},
		{gateway, "backend: {preset: qmail}", "preset"},
		{gateway, "backend: {relayCheck: 'off'}", "relayCheck"},
		{gateway, "backend: {proxyProtocol: 'off'}", "serverTrustsNoPodAddress"},
		{gateway, "backend: {preset: exchange}", "serverTrustsNoPodAddress"},
		{gateway, "backend: {preset: plain}", "serverTrustsNoPodAddress"},
		{gateway, "certificate: {source: letsencrypt}", "source"},
		{gateway, "certificate: {issuer: {name: ''}}", "issuer"},
		{gateway, "certificate: {issuer: {kind: Vault}}", "issuer"},
		{gateway, "certificate: {source: secret}", "secretName"},
		{gateway, "certificate: {source: acme}", "email"},
		{acme, "certificate: {acme: {email: nobody}}", "email"},
		{acme, "certificate: {acme: {directory: 'http://ca.example.org'}}", "directory"},
		{acme, "certificate: {acme: {challenges: []}}", "challenges"},
		{acme, "certificate: {acme: {challenges: [tls-alpn-01]}}", "challenges"},
		{acme, "certificate: {acme: {challenges: [http-01, dns-01]}}", "challenges"},
		{acme, "certificate: {acme: {challenges: [dns-01]}}", "dns"},
		{acme, "certificate: {acme: {challenges: [dns-01], dns: {provider: digitalocean, auth_token: in-a-configmap}}}", "auth_token"},
		{acme, "names: ['*.example.org']", "challenges"},
		{acme, "service: {clientAddress: proxy, proxyNetworks: [192.0.2.0/28]}", "challenges"},
		{acme, "storage: {namespace: Not_A_Name}", "storage"},
		{gateway, "service: {clientAddress: proxy}", "proxyNetworks"},
		{gateway, "service: {clientAddress: proxy, proxyNetworks: [0.0.0.0/0]}", "proxyNetworks"},
		{gateway, "service: {clientAddress: proxy, proxyNetworks: ['::/0']}", "proxyNetworks"},
		{gateway, "service: {clientAddress: proxy, proxyNetworks: [192.0.2.1]}", "proxyNetworks"},
		{gateway, "service: {proxyNetworks: [192.0.2.0/28]}", "proxyNetworks"},
		{gateway, "service: {type: NodePort}", "service"},
		{gateway, "drainSeconds: 1", "drainSeconds"},
		{gateway, "drainSeconds: 60s", "drainSeconds"},
		{gateway, "networkPolicy: {mta: {port: 0}}", "port"},
		{gateway, "networkPolicy: {mta: {podLabels: {app.kubernetes.io/name: null}}}", "podLabels"},
		{gateway, "networkPolicy: {monitoringNamespace: ''}", "monitoringNamespace"},
		{gateway, "mta: {container: {image: a}}", "container"},
		{gateway, "config: {admin: {listen: 'off'}}", "propertyName 'admin'"},
		{gateway, "config: {timeouts: {shutdown: 1h}}", "shutdown"},
		{gateway, "config: {backends: {mta: {relay_check: 'off'}}}", "relay_check"},
		{gateway, "config: {backends: {mta: {proxy_protocol: 'off'}}}", "proxy_protocol"},
		{gateway, "config: {backends: {other: {}}}", "other"},
		{sidecar, "mta: {container: {image: null}}", "container"},
		{sidecar, "mta: {container: {name: postfix}}", "container"},
		{sidecar, "mta: {container: {lifecycle: {}}}", "container"},
		{sidecar, "mta: {stopSeconds: 0}", "stopSeconds"},
		{sidecar, "backend: {servers: ['postfix.mail.svc:10025']}", "servers"},
		{sidecar, "backend: {servers: ['0.0.0.0:10025']}", "servers"},
	} {
		name := strings.TrimSpace(c.base + c.more)
		bad[name], wants[name] = append(strings.Split(c.base, "---"), c.more), c.want
	}
	for name, answer := range rendered(t, bad) {
		if !strings.Contains(answer.Error, "schema") || !strings.Contains(answer.Error, wants[name]) {
			t.Errorf("%s\nnot %q, but: %s", name, wants[name], answer.Error)
		}
	}
	if len(bad) < 60 {
		t.Errorf("%d cases, some have one name", len(bad))
	}
}

// rendered renders the chart with values that are laid one over the other.
func rendered(t *testing.T, cases map[string][]string) map[string]rendering {
	t.Helper()
	values := map[string]map[string]any{}
	for name, texts := range cases {
		values[name] = map[string]any{}
		for _, text := range texts {
			var more map[string]any
			must(t, yaml.Unmarshal([]byte(text), &more))
			lay(values[name], more)
		}
	}
	return asked[map[string]rendering](t, values, "chart", filepath.Join(tree, "deploy/helm/smtpseal"))
}

// lay is what helm does with several files of values.
func lay(under, over map[string]any) {
	for key, value := range over {
		below, isMap := under[key].(map[string]any)
		if above, both := value.(map[string]any); isMap && both {
			below = maps.Clone(below)
			lay(below, above)
			value = below
		}
		under[key] = value
	}
}
