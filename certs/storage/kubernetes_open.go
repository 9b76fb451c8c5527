package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	// podNamespace is mounted into every pod that has a service account.
	podNamespace = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

	// client-go allows itself 5 requests a second after a burst of 10, which would
	// make a start with 1,000 certificates, three values each, last ten minutes.
	// The API server has its own defence, by priority and fairness.
	requestsPerSecond = 100
	requestsAtOnce    = 200

	// namespaceTerminating is the API server's cause for refusing to make
	// anything.
	namespaceTerminating meta.CauseType = "NamespaceTerminating"
)

func openKubernetes(_ context.Context, o Options) (medium, error) {
	config, namespace, err := kubernetesConfig(o)
	if err != nil {
		return nil, err
	}
	if wrong := validation.IsDNS1123Label(namespace); len(wrong) > 0 {
		return nil, fmt.Errorf("storage.namespace %q: %s", namespace, wrong[0])
	}
	if wrong := validation.IsDNS1123Label(o.Prefix); len(wrong) > 0 {
		return nil, fmt.Errorf("storage.prefix %q: %s", o.Prefix, wrong[0])
	}
	config.UserAgent = "smtpseal"
	config.QPS, config.Burst = requestsPerSecond, requestsAtOnce
	config.WarningHandler = rest.NoWarnings{} // they would go past our log
	secrets, leases, err := openResources(config, namespace)
	if err != nil {
		return nil, unusable(err)
	}
	return &kubernetes{secrets: secrets, leases: leases, prefix: o.Prefix, place: namespace, seen: map[string]sighting{}}, nil
}

// kubernetesConfig says which API server, as whom, and which namespace. Nothing
// is connected yet.
func kubernetesConfig(o Options) (*rest.Config, string, error) {
	if o.Kubeconfig != "" {
		return fromKubeconfig(o.Kubeconfig, o.Namespace)
	}
	config, err := rest.InClusterConfig()
	if errors.Is(err, rest.ErrNotInCluster) {
		return nil, "", errors.New("this is no pod: set storage.kubeconfig, or another storage.type")
	}
	if err != nil {
		return nil, "", fmt.Errorf("service account: %w: let the pod have one (automountServiceAccountToken)", err)
	}
	if o.Namespace != "" {
		return config, o.Namespace, nil
	}
	namespace, err := os.ReadFile(podNamespace)
	if err != nil {
		return nil, "", fmt.Errorf("the pod's namespace: %w: set storage.namespace", err)
	}
	return config, strings.TrimSpace(string(namespace)), nil
}

// fromKubeconfig takes the file's current context, and its namespace if none is
// given.
func fromKubeconfig(path, namespace string) (*rest.Config, string, error) {
	file := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: path}, &clientcmd.ConfigOverrides{})
	config, err := file.ClientConfig()
	if err != nil {
		return nil, "", fmt.Errorf("storage.kubeconfig %s: %w", path, unusable(err))
	}
	if namespace == "" {
		if namespace, _, err = file.Namespace(); err != nil {
			return nil, "", fmt.Errorf("storage.kubeconfig %s: %w", path, unusable(err))
		}
	}
	return config, namespace, nil
}

// unusable drops what an error may quote of a file with tokens and keys in it.
func unusable(err error) error {
	var file *fs.PathError
	if errors.As(err, &file) {
		return file
	}
	return errors.New("cannot be used: try it with kubectl --kubeconfig")
}

// again repeats a change that another's change came before, until it succeeds
// or the context ends. Everyone who is passed by has been passed by somebody who
// got on, so it ends.
func again(ctx context.Context, change func() error) error {
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := change()
		if !passedBy(err) {
			return err
		}
		if pause(ctx, wait) != nil {
			return err
		}
	}
}

// passedBy reports that an object was made, changed or removed since we looked.
func passedBy(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || absent(err) && !noNamespace(err)
}

// absent reports that the API server has no such object. The 404 of a gateway
// before it, or of a wrong path, is no answer: a certificate taken for missing
// would be ordered anew.
func absent(err error) bool {
	return apierrors.IsNotFound(err) && !apierrors.HasStatusCause(err, meta.CauseTypeUnexpectedServerResponse)
}

// noNamespace tells a missing namespace from a missing object.
func noNamespace(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && status.Status().Details != nil && status.Status().Details.Kind == "namespaces"
}

// explain adds to an answer of the API server what to do about it.
func (k *kubernetes) explain(verb, resource string, err error) error {
	remedy := ""
	switch {
	case err == nil:
		return nil
	case apierrors.HasStatusCause(err, namespaceTerminating):
		remedy = fmt.Sprintf("the namespace %s is being deleted: set another storage.namespace", k.place)
	case apierrors.IsForbidden(err):
		remedy = fmt.Sprintf("unless it names another reason, a Role in namespace %s must grant this service account the verb %s on %s", k.place, verb, resource)
	case apierrors.IsUnauthorized(err):
		remedy = "the API server does not know this service account: see its token, or storage.kubeconfig"
	case noNamespace(err):
		remedy = fmt.Sprintf("create the namespace %s, or set another storage.namespace", k.place)
	case apierrors.IsRequestEntityTooLargeError(err):
		remedy = "a Secret holds at most 1 MiB"
	default:
		return err
	}
	return fmt.Errorf("%w: %s", err, remedy)
}
