package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
)

// A kind is client-go's fake of one kind in one namespace, each of which has
// types of its own.
type kind struct {
	get    func(context.Context, string) (runtime.Object, error)
	create func(context.Context, runtime.Object) (runtime.Object, error)
	update func(context.Context, runtime.Object) (runtime.Object, error)
	remove func(context.Context, string, metav1.DeleteOptions) error
	list   func(context.Context, metav1.ListOptions) (runtime.Object, error)
}

// typed is what the fakes share.
type typed[T, L any] interface {
	Get(context.Context, string, metav1.GetOptions) (T, error)
	Create(context.Context, T, metav1.CreateOptions) (T, error)
	Update(context.Context, T, metav1.UpdateOptions) (T, error)
	Delete(context.Context, string, metav1.DeleteOptions) error
	List(context.Context, metav1.ListOptions) (L, error)
}

func kindOf[T, L runtime.Object](c typed[T, L]) kind {
	return kind{
		func(ctx context.Context, name string) (runtime.Object, error) {
			return c.Get(ctx, name, metav1.GetOptions{})
		},
		func(ctx context.Context, o runtime.Object) (runtime.Object, error) {
			return c.Create(ctx, o.(T), metav1.CreateOptions{})
		},
		func(ctx context.Context, o runtime.Object) (runtime.Object, error) {
			return c.Update(ctx, o.(T), metav1.UpdateOptions{})
		},
		c.Delete,
		func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return c.List(ctx, o) },
	}
}

// routes are the cluster as a process of its own sees it: the paths, media
// type and answers of the Kubernetes API's conventions, and its pedantry.
func (c *cluster) routes() http.Handler {
	mux := http.NewServeMux()
	for path, one := range map[string]struct {
		group schema.GroupVersion
		of    func(namespace string) kind
	}{
		"/api/v1/namespaces/{namespace}/secrets": {schema.GroupVersion{Version: "v1"},
			func(ns string) kind { return kindOf(c.CoreV1().Secrets(ns)) }},
		"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases": {schema.GroupVersion{Group: "coordination.k8s.io", Version: "v1"},
			func(ns string) kind { return kindOf(c.CoordinationV1().Leases(ns)) }},
	} {
		on := func(pattern string, do func(*http.Request, kind) (runtime.Object, error)) {
			mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
				o, err := do(r, one.of(r.PathValue("namespace")))
				reply(w, one.group, o, err)
			})
		}
		on("GET "+path, func(r *http.Request, k kind) (runtime.Object, error) {
			limit, err := strconv.ParseInt(r.FormValue("limit"), 10, 64)
			if err != nil {
				return nil, apierrors.NewBadRequest(err.Error())
			}
			return k.list(r.Context(), metav1.ListOptions{LabelSelector: r.FormValue("labelSelector"), Limit: limit, Continue: r.FormValue("continue")})
		})
		on("GET "+path+"/{name}", func(r *http.Request, k kind) (runtime.Object, error) { return k.get(r.Context(), r.PathValue("name")) })
		on("DELETE "+path+"/{name}", func(r *http.Request, k kind) (runtime.Object, error) {
			var options metav1.DeleteOptions
			if err := json.NewDecoder(r.Body).Decode(&options); err != nil || options.Kind != "DeleteOptions" {
				return nil, apierrors.NewBadRequest(fmt.Sprintf("%q are no options: %v", options.Kind, err))
			}
			return &metav1.Status{Status: metav1.StatusSuccess}, k.remove(r.Context(), r.PathValue("name"), options)
		})
		on("POST "+path, func(r *http.Request, k kind) (runtime.Object, error) {
			o, err := body(r, one.group)
			if err != nil {
				return nil, err
			}
			return k.create(r.Context(), o)
		})
		on("PUT "+path+"/{name}", func(r *http.Request, k kind) (runtime.Object, error) {
			o, err := body(r, one.group)
			if err != nil {
				return nil, err
			}
			return k.update(r.Context(), o)
		})
	}
	return mux
}

// body refuses what has no kind, another group, or another name than the path.
func body(r *http.Request, group schema.GroupVersion) (runtime.Object, error) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	o, is, err := scheme.Codecs.UniversalDeserializer().Decode(text, nil, nil)
	switch {
	case err != nil:
		return nil, apierrors.NewBadRequest(err.Error())
	case is.GroupVersion() != group || r.Header.Get("Content-Type") != "application/json":
		return nil, apierrors.NewBadRequest(fmt.Sprintf("%v as %s", is, r.Header.Get("Content-Type")))
	}
	if given, _ := meta.Accessor(o); r.PathValue("name") != "" && given.GetName() != r.PathValue("name") {
		return nil, apierrors.NewBadRequest("the name differs from the path's")
	}
	return o, nil
}

// reply writes an object or, if it is an error, its Status.
func reply(w http.ResponseWriter, group schema.GroupVersion, o runtime.Object, err error) {
	code := http.StatusOK
	if err != nil {
		var status apierrors.APIStatus
		if !errors.As(err, &status) {
			status = apierrors.NewInternalError(err)
		}
		is := status.Status()
		o, code = &is, int(is.Code)
	}
	if _, unversioned := o.(*metav1.Status); unversioned {
		group = schema.GroupVersion{Version: "v1"}
	}
	text, err := runtime.Encode(scheme.Codecs.LegacyCodec(group), o)
	if err != nil {
		text, code = []byte(err.Error()), http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	w.Write(text)
}
