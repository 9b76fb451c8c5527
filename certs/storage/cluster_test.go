package storage

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	coordination "k8s.io/api/coordination/v1"
	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	k8stesting "k8s.io/client-go/testing"
)

const testNamespace = "mail"

// A cluster is client-go's fake clientset with what that leaves out and we rely
// on: resource versions that must match, preconditions of a delete, pages of a
// listing, and the size of a Secret. Our own client reaches it by HTTP.
type cluster struct {
	*fake.Clientset
	server  *httptest.Server
	mu      sync.Mutex
	version int
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{Clientset: fake.NewClientset()}
	c.server = httptest.NewServer(c.routes())
	t.Cleanup(c.server.Close)
	c.PrependReactor("create", "*", c.create)
	c.PrependReactor("update", "*", c.update)
	c.PrependReactor("delete", "*", c.remove)
	c.PrependReactor("list", "secrets", c.list)
	return c
}

// open returns a medium; more of them are more processes.
func (c *cluster) open(prefix string) *kubernetes {
	secrets, leases, err := openResources(&rest.Config{Host: c.server.URL, QPS: -1}, testNamespace)
	if err != nil {
		panic(err) // for no address that a server listens at
	}
	return &kubernetes{secrets: secrets, leases: leases, prefix: prefix, place: testNamespace, seen: map[string]sighting{}}
}

// process returns a Store over a medium of its own.
func (c *cluster) process(t *testing.T, o Options) Store {
	t.Helper()
	o.fill()
	m, err := encryption(c.open(o.Prefix), o.EncryptionKey)
	if err != nil {
		t.Fatal(err)
	}
	s := newStore(m, o)
	t.Cleanup(func() { s.Close() })
	return s
}

func (c *cluster) stamp(object runtime.Object) error {
	if secret, ok := object.(*core.Secret); ok {
		total := 0
		for _, value := range secret.Data {
			total += len(value)
		}
		if total > core.MaxSecretSize {
			return apierrors.NewInvalid(schema.GroupKind{Kind: "Secret"}, secret.Name, nil)
		}
	}
	accessor, err := meta.Accessor(object)
	if err != nil {
		return err
	}
	c.version++
	accessor.SetResourceVersion(fmt.Sprint(c.version))
	if accessor.GetUID() == "" {
		accessor.SetUID(types.UID(fmt.Sprint("uid-", c.version)))
	}
	return nil
}

func (c *cluster) create(action k8stesting.Action) (bool, runtime.Object, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	object := action.(k8stesting.CreateAction).GetObject().DeepCopyObject()
	if err := c.stamp(object); err != nil {
		return true, nil, err
	}
	return true, object, c.Tracker().Create(action.GetResource(), object, action.GetNamespace())
}

func (c *cluster) update(action k8stesting.Action) (bool, runtime.Object, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	object := action.(k8stesting.UpdateAction).GetObject().DeepCopyObject()
	given, _ := meta.Accessor(object)
	if err := c.unchanged(action, given.GetName(), given.GetUID(), given.GetResourceVersion()); err != nil {
		return true, nil, err
	}
	if err := c.stamp(object); err != nil {
		return true, nil, err
	}
	return true, object, c.Tracker().Update(action.GetResource(), object, action.GetNamespace())
}

func (c *cluster) remove(action k8stesting.Action) (bool, runtime.Object, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	remove := action.(k8stesting.DeleteActionImpl)
	if only := remove.DeleteOptions.Preconditions; only != nil {
		if err := c.unchanged(action, remove.Name, *only.UID, *only.ResourceVersion); err != nil {
			return true, nil, err
		}
	}
	return true, nil, c.Tracker().Delete(action.GetResource(), action.GetNamespace(), remove.Name)
}

// unchanged is optimistic concurrency, as the API server does it. Who sends no
// resource version wants none of it, which we always do.
func (c *cluster) unchanged(action k8stesting.Action, name string, uid types.UID, version string) error {
	there, err := c.Tracker().Get(action.GetResource(), action.GetNamespace(), name)
	if err != nil {
		return err
	}
	is, _ := meta.Accessor(there)
	if is.GetUID() != uid || is.GetResourceVersion() != version {
		return apierrors.NewConflict(action.GetResource().GroupResource(), name, fmt.Errorf("has %s, not %s", is.GetResourceVersion(), version))
	}
	return nil
}

func (c *cluster) list(action k8stesting.Action) (bool, runtime.Object, error) {
	options := action.(k8stesting.ListActionImpl)
	all, err := c.Tracker().List(action.GetResource(), options.Kind, action.GetNamespace())
	if err != nil {
		return true, nil, err
	}
	page := &core.SecretList{}
	items := all.(*core.SecretList).Items
	slices.SortFunc(items, func(a, b core.Secret) int { return strings.Compare(a.Name, b.Name) })
	for _, secret := range items {
		after := secret.Name > options.ListOptions.Continue
		if !after || !options.ListRestrictions.Labels.Matches(labelsOf(secret.Labels)) {
			continue
		}
		if limit := options.ListOptions.Limit; limit > 0 && int64(len(page.Items)) == limit {
			page.Continue = page.Items[len(page.Items)-1].Name
			break
		}
		page.Items = append(page.Items, secret)
	}
	return true, page, nil
}

type labelsOf map[string]string

func (l labelsOf) Has(label string) bool              { _, has := l[label]; return has }
func (l labelsOf) Get(label string) string            { return l[label] }
func (l labelsOf) Lookup(label string) (string, bool) { value, has := l[label]; return value, has }

// change is another process's hand on a Lease. Reactions may call it; clients
// they may not call, since the fake waits for reactions to end.
func (c *cluster) change(t *testing.T, name string, change func(*coordination.Lease)) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	leases := coordination.SchemeGroupVersion.WithResource("leases")
	there, err := c.Tracker().Get(leases, testNamespace, name)
	if err != nil {
		t.Error(err)
		return
	}
	held := there.(*coordination.Lease).DeepCopy()
	change(held)
	if err := errors.Join(c.stamp(held), c.Tracker().Update(leases, held, testNamespace)); err != nil {
		t.Error(err)
	}
}
