package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	coordination "k8s.io/api/coordination/v1"
	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	k8stesting "k8s.io/client-go/testing"
)

func TestKubernetesConformance(t *testing.T) {
	for name, key := range map[string]string{"plain": "", "encrypted": testKey} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			conform(t, func(t *testing.T) Store {
				return c.process(t, Options{EncryptionKey: key, Lease: testLease})
			})
		})
	}
}

// The longest key that certmagic makes here, and what names may not have.
const longKey = "certificates/acme-v02.api.letsencrypt.org-directory/wildcard_.Exämple.ORG/wildcard_.example.org.crt"

func TestKubernetesObjectsAreWhatTheAPIServerTakes(t *testing.T) {
	c := newCluster(t)
	s := c.process(t, Options{})
	deep := strings.Repeat("a/", 20) + "b"
	for _, key := range []string{"a", longKey, deep, strings.Repeat("ü", maxKey/2)} {
		if err := s.Store(t.Context(), key, []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Lock(t.Context(), longKey); err != nil {
		t.Fatal(err)
	}
	secrets, err := c.CoreV1().Secrets(testNamespace).List(t.Context(), meta.ListOptions{})
	if err != nil || len(secrets.Items) != 4 {
		t.Fatal(len(secrets.Items), err)
	}
	for _, secret := range secrets.Items {
		valid(t, secret.ObjectMeta)
		if secret.Type != core.SecretTypeOpaque {
			t.Errorf("%s is %s", secret.Name, secret.Type)
		}
	}
	leases, err := c.CoordinationV1().Leases(testNamespace).List(t.Context(), meta.ListOptions{})
	if err != nil || len(leases.Items) != 1 {
		t.Fatal(leases, err)
	}
	valid(t, leases.Items[0].ObjectMeta)
	if spec := leases.Items[0].Spec; *spec.LeaseDurationSeconds != 30 || spec.RenewTime == nil || *spec.HolderIdentity == "" {
		t.Errorf("%+v", spec)
	}
	if keys, err := s.List(t.Context(), strings.Repeat("a/", 18)+"a", true); err != nil || !slices.Contains(keys, deep) {
		t.Errorf("below a deep folder: %q %v", keys, err)
	}
}

func valid(t *testing.T, o meta.ObjectMeta) {
	t.Helper()
	wrong := validation.IsDNS1123Subdomain(o.Name)
	for key, value := range o.Labels {
		wrong = append(wrong, validation.IsQualifiedName(key)...)
		wrong = append(wrong, validation.IsValidLabelValue(value)...)
	}
	for key := range o.Annotations {
		wrong = append(wrong, validation.IsQualifiedName(key)...)
	}
	if len(wrong) > 0 {
		t.Errorf("%s: %v", o.Name, wrong)
	}
	if o.Labels["app.kubernetes.io/managed-by"] != "smtpseal" {
		t.Errorf("%s has labels %v", o.Name, o.Labels)
	}
}

func TestKubernetesKeepsWhatOthersAddToASecret(t *testing.T) {
	c := newCluster(t)
	k := c.open("p")
	if err := k.store(t.Context(), "a/b", []byte("1")); err != nil {
		t.Fatal(err)
	}
	secret, err := k.get(t.Context(), "a/b")
	if err != nil {
		t.Fatal(err)
	}
	secret.Labels["team"], secret.Annotations["note"] = "mail", "do not touch"
	if _, err := k.secrets.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	if err := k.store(t.Context(), "a/b", []byte("2")); err != nil {
		t.Fatal(err)
	}
	secret, err = k.get(t.Context(), "a/b")
	if err != nil || secret.Labels["team"] != "mail" || secret.Annotations["note"] != "do not touch" || string(secret.Data["value"]) != "2" {
		t.Error(secret, err)
	}
}

func TestKubernetesTouchesNoSecretOfOthers(t *testing.T) {
	c := newCluster(t)
	k := c.open("p")
	foreign := &secretObject{ObjectMeta: meta.ObjectMeta{Name: k.name("", "a")}, Data: map[string][]byte{"value": []byte("theirs")}}
	if _, err := k.secrets.Create(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	if err := k.store(t.Context(), "a", []byte("ours")); err == nil || !strings.Contains(err.Error(), "set another storage.prefix") {
		t.Error(err)
	}
	if value, err := k.load(t.Context(), "a"); err == nil {
		t.Errorf("loaded %q", value)
	}
	if keys, err := k.keys(t.Context(), ""); err != nil || len(keys) > 0 {
		t.Error(keys, err)
	}
	foreignLease := &coordination.Lease{ObjectMeta: meta.ObjectMeta{Name: k.name(lockKind, "l")}}
	if _, err := k.leases.Create(t.Context(), foreignLease); err != nil {
		t.Fatal(err)
	}
	if got, err := k.acquire(t.Context(), "l", "token", time.Second); got || err == nil {
		t.Error(got, err)
	}
}

func TestKubernetesPrefixesAreApart(t *testing.T) {
	c := newCluster(t)
	one, other := c.open("one"), c.open("other")
	if err := one.store(t.Context(), "a/b", []byte("1")); err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{"", "a"} {
		if keys, err := other.keys(t.Context(), prefix); err != nil || len(keys) > 0 {
			t.Error(keys, err)
		}
	}
	if err := other.remove(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := one.load(t.Context(), "a/b"); err != nil {
		t.Error(err)
	}
}

func TestKubernetesListsAllPages(t *testing.T) {
	c := newCluster(t)
	k := c.open("p")
	const many = 3*pageSize + 1
	for i := range many {
		if err := k.store(t.Context(), fmt.Sprintf("folder/%d", i), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	var pages, expired atomic.Int32
	c.PrependReactor("list", "secrets", func(action k8stesting.Action) (bool, runtime.Object, error) {
		options := action.(k8stesting.ListActionImpl).ListOptions
		if options.Limit != pageSize {
			t.Errorf("asked for %d at once", options.Limit)
		}
		// The server forgets the beginning of a listing after some minutes.
		if pages.Add(1) == 3 && expired.Add(1) == 1 {
			return true, nil, apierrors.NewResourceExpired("too old")
		}
		return false, nil, nil
	})
	if keys, err := k.keys(t.Context(), "folder"); err != nil || len(keys) != many || len(slices.Compact(slices.Sorted(slices.Values(keys)))) != many {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	if expired.Load() == 0 {
		t.Error("nothing expired")
	}
	pages.Store(10)
	if stat, err := k.stat(t.Context(), "folder"); err != nil || stat.IsTerminal || pages.Load() != 11 {
		t.Errorf("%+v %v after %d pages", stat, err, pages.Load()-10)
	}
	if err := k.remove(t.Context(), "folder"); err != nil {
		t.Error(err)
	}
	if _, err := k.stat(t.Context(), "folder"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// Whatever comes in between, a value is the one or the other, and every writer
// has written.
func TestKubernetesConflictsAreTriedAgain(t *testing.T) {
	secrets := schema.GroupResource{Resource: "secrets"}
	for name, inBetween := range map[string]error{
		"changed": apierrors.NewConflict(secrets, "x", errors.New("changed")),
		"made":    apierrors.NewAlreadyExists(secrets, "x"),
		"removed": apierrors.NewNotFound(secrets, "x"),
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			k := c.open("p")
			left := 3
			c.PrependReactor("*", "secrets", func(action k8stesting.Action) (bool, runtime.Object, error) {
				if action.GetVerb() != "create" && action.GetVerb() != "update" || left == 0 {
					return false, nil, nil
				}
				left--
				return true, nil, inBetween
			})
			for _, value := range []string{"1", "2"} {
				left = 3
				if err := k.store(t.Context(), "a", []byte(value)); err != nil {
					t.Error(err)
				}
				if got, err := k.load(t.Context(), "a"); err != nil || string(got) != value || left > 0 {
					t.Errorf("%q %v", got, err)
				}
			}
		})
	}
}

func TestKubernetesManyWriters(t *testing.T) {
	c := newCluster(t)
	var all sync.WaitGroup
	for i := range 8 {
		k := c.open("p")
		all.Go(func() {
			for j := range 10 {
				if err := k.store(t.Context(), "a", fmt.Append(nil, i, j)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

func TestKubernetesSaysWhichRightIsMissing(t *testing.T) {
	ctx := t.Context()
	for right, call := range map[string]func(*kubernetes) error{
		"get secrets":    func(k *kubernetes) error { _, err := k.load(ctx, "there"); return err },
		"create secrets": func(k *kubernetes) error { return k.store(ctx, "new", nil) },
		"update secrets": func(k *kubernetes) error { return k.store(ctx, "there", nil) },
		"list secrets":   func(k *kubernetes) error { _, err := k.keys(ctx, ""); return err },
		"delete secrets": func(k *kubernetes) error { return k.remove(ctx, "there") },
		"get leases":     func(k *kubernetes) error { _, err := k.acquire(ctx, "new", "t", time.Second); return err },
		"create leases":  func(k *kubernetes) error { _, err := k.acquire(ctx, "new", "t", time.Second); return err },
		"update leases":  func(k *kubernetes) error { _, err := k.refresh(ctx, "there", "t", time.Second); return err },
		"delete leases":  func(k *kubernetes) error { _, err := k.release(ctx, "there", "t"); return err },
	} {
		c := newCluster(t)
		k := c.open("p")
		if err := k.store(ctx, "there", nil); err != nil {
			t.Fatal(err)
		}
		if got, err := k.acquire(ctx, "there", "t", time.Second); !got || err != nil {
			t.Fatal(got, err)
		}
		verb, resource, _ := strings.Cut(right, " ")
		c.PrependReactor(verb, resource, func(action k8stesting.Action) (bool, runtime.Object, error) {
			return true, nil, apierrors.NewForbidden(action.GetResource().GroupResource(), "", errors.New("no rule"))
		})
		err := call(k)
		if want := fmt.Sprintf("a Role in namespace mail must grant this service account the verb %s on %s", verb, resource); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", right, err)
		}
		if errors.Is(err, fs.ErrNotExist) || !apierrors.IsForbidden(err) {
			t.Errorf("%s: taken for something else: %v", right, err)
		}
	}
}

// The package's comment promises these and no more.
func TestKubernetesNeedsNoOtherRights(t *testing.T) {
	c := newCluster(t)
	s := c.process(t, Options{})
	ctx := t.Context()
	for _, key := range []string{"a/b", "a/b", "a/c"} {
		if err := s.Store(ctx, key, []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	s.Load(ctx, "a/b")
	s.List(ctx, "", true)
	s.Exists(ctx, "a")
	if got, err := s.TryLock(ctx, "l"); !got || err != nil {
		t.Fatal(got, err)
	}
	if err := errors.Join(s.Unlock(ctx, "l"), s.Delete(ctx, "a")); err != nil {
		t.Fatal(err)
	}
	granted := map[string][]string{"secrets": {"get", "list", "create", "update", "delete"}, "leases": {"get", "create", "update", "delete"}}
	for _, action := range c.Actions() {
		if !slices.Contains(granted[action.GetResource().Resource], action.GetVerb()) || action.GetNamespace() != testNamespace {
			t.Errorf("%s %s in %s", action.GetVerb(), action.GetResource().Resource, action.GetNamespace())
		}
	}
}

func TestKubernetesMissingNamespaceIsTold(t *testing.T) {
	c := newCluster(t)
	c.PrependReactor("create", "*", func(k8stesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, testNamespace)
	})
	err := c.open("p").store(t.Context(), "a", nil)
	if err == nil || !strings.Contains(err.Error(), "create the namespace mail") {
		t.Error(err)
	}
	if _, err := c.open("p").acquire(t.Context(), "l", "t", time.Second); err == nil {
		t.Error("no error")
	}
}

// The times in a Lease come from a machine whose clock may say anything. What
// counts is whether it changes while we look.
func TestKubernetesLocksAreNotJudgedByClocks(t *testing.T) {
	for name, clock := range map[string]time.Duration{"slow": -24 * time.Hour, "fast": 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			holder, thief := c.open("p"), c.open("p")
			if got, err := holder.acquire(t.Context(), "l", "holder", time.Second); !got || err != nil {
				t.Fatal(got, err)
			}
			began := time.Now()
			for beat := 0; time.Since(began) < 3*time.Second; beat++ {
				if got, err := thief.acquire(t.Context(), "l", "thief", time.Second); got || err != nil {
					t.Fatalf("stolen from the living after %v: %v", time.Since(began), err)
				}
				c.change(t, holder.name(lockKind, "l"), func(l *coordination.Lease) {
					l.Spec.RenewTime = &meta.MicroTime{Time: time.Now().Add(clock)}
				})
				time.Sleep(100 * time.Millisecond)
			}
			// Now it is dead: a second, as it promised, from when we notice.
			thief.acquire(t.Context(), "l", "thief", time.Minute)
			began = time.Now()
			for got := false; !got; time.Sleep(10 * time.Millisecond) {
				var err error
				if got, err = thief.acquire(t.Context(), "l", "thief", time.Minute); err != nil || time.Since(began) > 5*time.Second {
					t.Fatal(got, err)
				}
			}
			if took := time.Since(began); took < 900*time.Millisecond {
				t.Errorf("stolen after %v", took)
			}
			if ours, err := holder.refresh(t.Context(), "l", "holder", time.Second); ours || err != nil {
				t.Error(ours, err)
			}
			if ours, err := holder.release(t.Context(), "l", "holder"); ours || err != nil {
				t.Error(ours, err)
			}
			if ours, err := thief.release(t.Context(), "l", "thief"); !ours || err != nil {
				t.Error(ours, err)
			}
		})
	}
}

// Between looking at a Lease and changing it the thief may have come.
func TestKubernetesLateHolderChangesNothing(t *testing.T) {
	for _, late := range []string{"refresh", "release"} {
		c := newCluster(t)
		holder, thief := c.open("p"), c.open("p")
		if got, err := holder.acquire(t.Context(), "l", "holder", time.Second); !got || err != nil {
			t.Fatal(got, err)
		}
		c.PrependReactor("*", "leases", func(action k8stesting.Action) (bool, runtime.Object, error) {
			if action.GetVerb() != "get" {
				c.change(t, thief.name(lockKind, "l"), func(l *coordination.Lease) { own(l, "thief", time.Minute) })
			}
			return false, nil, nil
		})
		var ours bool
		var err error
		if late == "refresh" {
			ours, err = holder.refresh(t.Context(), "l", "holder", time.Second)
		} else {
			ours, err = holder.release(t.Context(), "l", "holder")
		}
		if ours || err != nil {
			t.Errorf("%s: %v %v", late, ours, err)
		}
		if held, err := thief.lease(t.Context(), "l"); err != nil || holderOf(held) != "thief" {
			t.Errorf("%s: now %v has it, %v", late, held, err)
		}
	}
}

func TestKubernetesOneOfManyTakesALock(t *testing.T) {
	c := newCluster(t)
	var all sync.WaitGroup
	var holders atomic.Int32
	for i := range 8 {
		k := c.open("p")
		all.Go(func() {
			if got, err := k.acquire(t.Context(), "l", fmt.Sprint(i), time.Minute); err != nil {
				t.Error(err)
			} else if got {
				holders.Add(1)
			}
		})
	}
	all.Wait()
	if holders.Load() != 1 {
		t.Errorf("%d have it", holders.Load())
	}
}

const kubeconfigText = `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://%s"}}]
users: [{name: u, user: {token: h1dden}}]
contexts: [{name: x, context: {cluster: c, user: u, namespace: from-context}}]
current-context: x
`

func kubeconfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestKubernetesOpensWhileTheServerIsAway(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	path := kubeconfig(t, fmt.Sprintf(kubeconfigText, addr))
	for _, silent := range []bool{true, false} {
		if !silent {
			listener.Close()
		}
		s, err := Open(t.Context(), Options{Type: "kubernetes", Kubeconfig: path})
		if err != nil {
			t.Fatal(err)
		}
		if name := fmt.Sprint(s); !strings.Contains(name, "from-context") {
			t.Errorf("it is %q", name)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		began := time.Now()
		_, err = s.Load(ctx, "a")
		cancel()
		if err == nil || errors.Is(err, fs.ErrNotExist) || time.Since(began) > 3*time.Second || strings.Contains(err.Error(), "h1dden") {
			t.Errorf("silent %v: %v after %v", silent, err, time.Since(began))
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestKubernetesSettings(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	good := kubeconfig(t, fmt.Sprintf(kubeconfigText, "127.0.0.1:1"))
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{}, "set storage.kubeconfig"},
		{Options{Kubeconfig: "/nowhere/kubeconfig"}, "/nowhere/kubeconfig: no such file"},
		{Options{Kubeconfig: kubeconfig(t, "users: [{name: u, user: {token: h1dden")}, "cannot be used"},
		{Options{Kubeconfig: kubeconfig(t, "users: h1dden")}, "cannot be used"},
		{Options{Kubeconfig: kubeconfig(t, "")}, "cannot be used"},
		{Options{Kubeconfig: good, Namespace: "No Namespace"}, "storage.namespace"},
		{Options{Kubeconfig: good, Prefix: "Two_Words"}, "storage.prefix"},
	} {
		c.o.Type = "kubernetes"
		s, err := Open(t.Context(), c.o)
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "h1dden") {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}
