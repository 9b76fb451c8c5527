package storage

import (
	"maps"

	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// coreGroup is that of Secrets, version 1.
var coreGroup = schema.GroupVersion{Version: "v1"}

// A secretObject is a Secret as the API server writes it. It is not k8s.io/api's
// because with one kind of that package a program has all of them in it, 3 MB
// that are never called. It has every field, so that an update loses none.
type secretObject struct {
	meta.TypeMeta   `json:",inline"`
	meta.ObjectMeta `json:"metadata,omitempty"`
	Type            string            `json:"type,omitempty"`
	Immutable       *bool             `json:"immutable,omitempty"`
	Data            map[string][]byte `json:"data,omitempty"`
}

// A secretPage is one page of a listing.
type secretPage struct {
	meta.TypeMeta `json:",inline"`
	meta.ListMeta `json:"metadata,omitempty"`
	Items         []secretObject `json:"items"`
}

// DeepCopyObject is what client-go asks of a kind. Values are not copied: they
// are replaced, never changed.
func (s *secretObject) DeepCopyObject() runtime.Object {
	c := *s
	s.ObjectMeta.DeepCopyInto(&c.ObjectMeta)
	c.Data = maps.Clone(s.Data)
	return &c
}

func (p *secretPage) DeepCopyObject() runtime.Object {
	c := *p
	c.Items = make([]secretObject, 0, len(p.Items))
	for i := range p.Items {
		c.Items = append(c.Items, *p.Items[i].DeepCopyObject().(*secretObject))
	}
	return &c
}
