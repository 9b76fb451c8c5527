package storage

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

const (
	managedBy   = "app.kubernetes.io/managed-by"
	prefixLabel = "smtpseal-prefix" // which store of the namespace
	// underLabel and a number, from 1: the folder of that depth that a key is
	// in, as a hash. So the API server finds what is below a folder.
	underLabel = "smtpseal-under-"
	// maxUnder bounds the labels of a Secret. Below folders that are deeper we
	// search what the server finds ourselves; certmagic's keys have three.
	maxUnder = 6

	keyAnnotation      = "smtpseal-key"
	modifiedAnnotation = "smtpseal-modified"
	valueField         = "value"

	// pageSize bounds one answer of a listing, which carries values, too: some
	// tens of kilobytes a Secret at worst.
	pageSize = 100
)

// kubernetes keeps each value as a Secret of one namespace, and each lock as a
// Lease. Their names begin with Options.Prefix and end with a hash, because keys
// have octets that names may not have; the key itself is an annotation.
//
// The service account needs, in that namespace and nowhere else (a Role with a
// RoleBinding; the names cannot be told in advance):
//
//	apiGroups: [""]                     resources: [secrets]  verbs: [get, list, create, update, delete]
//	apiGroups: ["coordination.k8s.io"]  resources: [leases]   verbs: [get, create, update, delete]
//
// That opens every Secret of the namespace to smtpseal, so give it one of its
// own if there are others. Values lie in etcd as they are stored here, which is
// plain in most clusters unless storage.encryption_key is set.
type kubernetes struct {
	secrets secretResource
	leases  leaseResource
	prefix  string
	place   string // the namespace

	mu   sync.Mutex
	seen map[string]sighting // others' locks, by name
}

func (k *kubernetes) store(ctx context.Context, key string, value []byte) error {
	return again(ctx, func() error { return k.put(ctx, key, value) })
}

// put replaces what was there when it looked, so that nothing is lost of what
// others, people too, add to a Secret.
func (k *kubernetes) put(ctx context.Context, key string, value []byte) error {
	secret, err := k.get(ctx, key)
	if err != nil {
		return err
	}
	missing := secret == nil
	if missing {
		secret = &secretObject{ObjectMeta: meta.ObjectMeta{Name: k.name("", key)}, Type: "Opaque"}
	}
	secret.Data = map[string][]byte{valueField: value}
	secret.Labels = merged(secret.Labels, k.labels(key))
	secret.Annotations = merged(secret.Annotations, map[string]string{
		keyAnnotation: key, modifiedAnnotation: time.Now().UTC().Format(time.RFC3339Nano)})
	if missing {
		_, err = k.secrets.Create(ctx, secret)
		return k.explain("create", "secrets", err)
	}
	_, err = k.secrets.Update(ctx, secret)
	return k.explain("update", "secrets", err)
}

// get returns nil if there is none.
func (k *kubernetes) get(ctx context.Context, key string) (*secretObject, error) {
	secret, err := k.secrets.Get(ctx, k.name("", key))
	switch {
	case absent(err):
		return nil, nil
	case err != nil:
		return nil, k.explain("get", "secrets", err)
	case secret.Annotations[keyAnnotation] != key:
		return nil, fmt.Errorf("the Secret %s is not smtpseal's: remove it, or set another storage.prefix", secret.Name)
	}
	return secret, nil
}

func (k *kubernetes) load(ctx context.Context, key string) ([]byte, error) {
	secret, err := k.get(ctx, key)
	if err != nil {
		return nil, err
	}
	if secret == nil {
		return nil, fs.ErrNotExist
	}
	value := secret.Data[valueField]
	if len(value) > maxValue {
		return nil, errTooLong
	}
	return value, nil
}

func (k *kubernetes) stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	secret, err := k.get(ctx, key)
	if err != nil {
		return certmagic.KeyInfo{}, err
	}
	if secret != nil {
		modified, err := time.Parse(time.RFC3339Nano, secret.Annotations[modifiedAnnotation])
		if err != nil { // somebody has removed it
			modified = secret.CreationTimestamp.Time
		}
		return certmagic.KeyInfo{Key: key, Modified: modified, Size: int64(len(secret.Data[valueField])), IsTerminal: true}, nil
	}
	inside, err := k.list(ctx, key, 1)
	if err == nil && len(inside) == 0 {
		err = fs.ErrNotExist
	}
	if err != nil {
		return certmagic.KeyInfo{}, err
	}
	return certmagic.KeyInfo{Key: key}, nil
}

func (k *kubernetes) keys(ctx context.Context, prefix string) ([]string, error) {
	secrets, err := k.list(ctx, prefix, maxKeys+1)
	if err != nil {
		return nil, err
	}
	if len(secrets) > maxKeys {
		return nil, errTooMany
	}
	var keys []string
	for _, key := range secrets {
		keys = append(keys, key)
	}
	if prefix == "" {
		return keys, nil
	}
	secret, err := k.get(ctx, prefix)
	if secret != nil {
		keys = append(keys, prefix)
	}
	return keys, err
}

func (k *kubernetes) remove(ctx context.Context, key string) error {
	secrets, err := k.list(ctx, key, maxKeys)
	if err != nil {
		return err
	}
	for name := range secrets {
		if err := k.discard(ctx, name); err != nil {
			return err
		}
	}
	return k.discard(ctx, k.name("", key))
}

func (k *kubernetes) discard(ctx context.Context, name string) error {
	err := k.secrets.Delete(ctx, name, nil)
	if absent(err) {
		return nil
	}
	return k.explain("delete", "secrets", err)
}

// list returns Secrets' names and keys below a folder, not the folder's own:
// most at least, if there are so many. A listing that lasts so long that the
// server has forgotten its beginning starts again.
func (k *kubernetes) list(ctx context.Context, prefix string, most int) (map[string]string, error) {
	selector := labels.SelectorFromSet(k.selected(prefix)).String()
	found := map[string]string{}
	var next string
	for {
		var page secretPage
		err := k.secrets.List(ctx, selector, next, &page)
		if next != "" && apierrors.IsResourceExpired(err) {
			next = ""
			continue
		}
		if err != nil {
			return nil, k.explain("list", "secrets", err)
		}
		for _, secret := range page.Items {
			key := secret.Annotations[keyAnnotation]
			if _, inside := within(prefix, key); inside && secret.Name == k.name("", key) {
				found[secret.Name] = key
			}
		}
		if next = page.Continue; next == "" || len(found) >= most {
			return found, nil
		}
	}
}

// close has nothing to do: connections are the process's, and idle ones end.
func (k *kubernetes) close() error { return nil }

func (k *kubernetes) String() string {
	return fmt.Sprintf("kubernetes namespace %s, prefix %s", k.place, k.prefix)
}

// name is DNS-1123 as the prefix is. 128 bits of the hash: nobody finds two keys
// of one name.
func (k *kubernetes) name(kind, key string) string { return k.prefix + "-" + kind + hashed(key) }

func hashed(text string) string {
	sum := sha256.Sum256([]byte(text))
	return fmt.Sprintf("%x", sum[:16])
}

// labels are those of a value: what selects it below each folder it is in.
func (k *kubernetes) labels(key string) map[string]string {
	set := k.selected("")
	for i, depth := 0, 1; depth <= maxUnder; depth++ {
		slash := strings.IndexByte(key[i:], '/')
		if slash < 0 {
			break
		}
		i += slash + 1
		set[fmt.Sprint(underLabel, depth)] = hashed(key[:i-1])
	}
	return set
}

// selected are the labels of all that is below a folder: its own folders', and
// itself.
func (k *kubernetes) selected(folder string) map[string]string {
	if folder != "" {
		return k.labels(folder + "/")
	}
	return map[string]string{managedBy: "smtpseal", prefixLabel: k.prefix}
}

func merged(old, set map[string]string) map[string]string {
	all := maps.Clone(set)
	for key, value := range old {
		if _, ours := set[key]; !ours {
			all[key] = value
		}
	}
	return all
}
