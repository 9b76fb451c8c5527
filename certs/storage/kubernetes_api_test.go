package storage

import (
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// From storage.kubeconfig to the wire and back.
func TestKubernetesAsksAsTheKubeconfigSays(t *testing.T) {
	c := newCluster(t)
	var asked atomic.Int32
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Header.Get("Authorization") != "Bearer h1dden" || r.Header.Get("User-Agent") != "smtpseal" ||
			!strings.Contains(r.URL.Path, "/namespaces/from-context/") {
			t.Errorf("%s %s as %q, %q", r.Method, r.URL.Path, r.Header.Get("Authorization"), r.Header.Get("User-Agent"))
		}
		c.routes().ServeHTTP(w, r)
	}))
	defer server.Close()
	ca := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	text := strings.Replace(kubeconfigText, `"http://%s"`, `"%s", certificate-authority-data: `+ca, 1)
	path := kubeconfig(t, fmt.Sprintf(text, server.URL))
	s, err := Open(t.Context(), Options{Type: "kubernetes", Kubeconfig: path})
	must(t, err)
	defer s.Close()
	must(t, s.Store(t.Context(), "a", []byte("x")))
	must(t, s.Lock(t.Context(), "l"))
	must(t, s.Unlock(t.Context(), "l"))
	if value, err := s.Load(t.Context(), "a"); string(value) != "x" || err != nil || asked.Load() == 0 {
		t.Errorf("%q %v", value, err)
	}
}

// What is between us and the API server speaks, too.
func TestKubernetesAnswersThatAreNotTheServers(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		header string
		body   string
		want   string // in the error; "": what was stored in the end
	}{
		"busy":            {status: 429, header: "0", body: "slow down"},
		"away":            {status: 503, header: "0", body: "try again"},
		"a gateway":       {status: 502, body: "<html>bad gateway</html>", want: "server"},
		"a login page":    {status: 200, body: "<html>sign in</html>", want: "invalid"},
		"another kind":    {status: 200, body: `{"kind":"Pod","apiVersion":"v1"}`, want: "Pod"},
		"unauthorized":    {status: 401, body: "", want: "does not know this service account"},
		"no such version": {status: 404, body: "404 page not found", want: "could not find"},
	} {
		t.Run(name, func(t *testing.T) {
			k := newCluster(t)
			medium := k.open("p")
			must(t, medium.store(t.Context(), "a", []byte("x")))
			good, once := k.server.Config.Handler, new(atomic.Bool)
			k.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if c.want == "" && once.Swap(true) {
					good.ServeHTTP(w, r)
					return
				}
				if c.header != "" {
					w.Header().Set("Retry-After", c.header)
				}
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(c.status)
				fmt.Fprint(w, c.body)
			})
			value, err := medium.load(t.Context(), "a")
			switch {
			case c.want == "":
				if string(value) != "x" || err != nil {
					t.Errorf("%q %v", value, err)
				}
			case err == nil || !strings.Contains(err.Error(), c.want):
				t.Errorf("%q %v", value, err)
			case errors.Is(err, fs.ErrNotExist):
				t.Errorf("taken for a missing value: %v", err)
			}
		})
	}
}

// An update writes the whole Secret, so what we do not know would be lost.
func TestSecretHasEveryField(t *testing.T) {
	ours := jsonNames(reflect.TypeFor[secretObject]())
	for name := range jsonNames(reflect.TypeFor[core.Secret]()) {
		if !ours[name] && name != "stringData" { // which no answer has
			t.Errorf("no %s", name)
		}
	}
}

func jsonNames(t reflect.Type) map[string]bool {
	names := map[string]bool{}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names[name] = true
	}
	return names
}

func TestCopiesOfSecretsAreApart(t *testing.T) {
	page := &secretPage{Items: []secretObject{{ObjectMeta: meta.ObjectMeta{Labels: map[string]string{"a": "1"}}, Data: map[string][]byte{"v": nil}}}}
	c := page.DeepCopyObject().(*secretPage)
	c.Items[0].Labels["a"], c.Items[0].Data["w"] = "2", nil
	if page.Items[0].Labels["a"] != "1" || len(page.Items[0].Data) != 1 {
		t.Errorf("%+v", page)
	}
}

// What brings every kind of every API group is 18 MB of program.
func TestNoMoreOfKubernetesThanIsUsed(t *testing.T) {
	deps, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dep := range strings.Lines(string(deps)) {
		if dep = strings.TrimSpace(dep); dep == "k8s.io/api/core/v1" || strings.HasPrefix(dep, "k8s.io/client-go/kubernetes") {
			t.Errorf("%s is linked", dep)
		}
	}
}
