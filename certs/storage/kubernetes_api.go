package storage

import (
	"context"
	"strconv"

	coordination "k8s.io/api/coordination/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
)

// client-go's typed clients know every kind of every API group, so that a
// program with one of them has them all in it. These know two kinds and send
// JSON; requests, their repetition and credentials are client-go's.

// An object is what the API server keeps.
type object[T any] interface {
	*T
	runtime.Object
	meta.Object
}

// A resource is the objects of one kind in one namespace. Errors are those of
// the API server, for apierrors to tell apart.
type resource[T any, P object[T]] struct {
	client    rest.Interface
	plural    string // in paths
	namespace string
}

type (
	secretResource = resource[secretObject, *secretObject]
	leaseResource  = resource[coordination.Lease, *coordination.Lease]
)

// openResources connects nothing yet.
func openResources(config *rest.Config, namespace string) (secretResource, leaseResource, error) {
	secrets, err := restClient(config, "/api", coreGroup, map[string]runtime.Object{"Secret": &secretObject{}, "SecretList": &secretPage{}})
	if err != nil {
		return secretResource{}, leaseResource{}, err
	}
	leases, err := restClient(config, "/apis", coordination.SchemeGroupVersion, map[string]runtime.Object{"Lease": &coordination.Lease{}})
	return secretResource{secrets, "secrets", namespace}, leaseResource{leases, "leases", namespace}, err
}

// restClient returns a client of one group, which knows the given kinds of it.
func restClient(config *rest.Config, path string, group schema.GroupVersion, kinds map[string]runtime.Object) (rest.Interface, error) {
	scheme := runtime.NewScheme()
	for name, kind := range kinds {
		scheme.AddKnownTypeWithName(group.WithKind(name), kind)
	}
	meta.AddToGroupVersion(scheme, group) // what a delete asks for, and errors
	ours := rest.CopyConfig(config)
	ours.APIPath, ours.GroupVersion = path, &group
	ours.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	return rest.RESTClientFor(ours)
}

func (r resource[T, P]) Get(ctx context.Context, name string) (P, error) {
	return r.answer(ctx, r.at(r.client.Get()).Name(name))
}

func (r resource[T, P]) Create(ctx context.Context, o P) (P, error) {
	return r.answer(ctx, r.at(r.client.Post()).Body(o))
}

// Update replaces an object, unless it has changed since it was read: the
// resource version in it says when that was.
func (r resource[T, P]) Update(ctx context.Context, o P) (P, error) {
	return r.answer(ctx, r.at(r.client.Put()).Name(o.GetName()).Body(o))
}

// Delete removes an object; only as it was, if that is not nil.
func (r resource[T, P]) Delete(ctx context.Context, name string, unchanged *meta.Preconditions) error {
	return r.at(r.client.Delete()).Name(name).Body(&meta.DeleteOptions{Preconditions: unchanged}).Do(ctx).Error()
}

// List reads the next page into a list of the kind. The first one continues "".
func (r resource[T, P]) List(ctx context.Context, selector, next string, into runtime.Object) error {
	page := r.at(r.client.Get()).Param("labelSelector", selector).Param("limit", strconv.Itoa(pageSize))
	if next != "" {
		page.Param("continue", next)
	}
	return page.Do(ctx).Into(into)
}

func (r resource[T, P]) at(q *rest.Request) *rest.Request {
	return q.Namespace(r.namespace).Resource(r.plural)
}

func (r resource[T, P]) answer(ctx context.Context, q *rest.Request) (P, error) {
	into := P(new(T))
	return into, q.Do(ctx).Into(into)
}
