package certs

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"smtpseal/test/pebble"
)

// syncBuffer is what a log is written to.
type syncBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *syncBuffer) Sync() error { return nil }

// Nothing secret is in the log, not at debug level either, of an issuance, a
// renewal and failures.
func TestNoSecretIsLogged(t *testing.T) {
	t.Parallel()
	hmac := base64.RawURLEncoding.EncodeToString([]byte("a key of thirty-two octets, or so"))
	ca := pebble.Start(t, pebble.Options{EAB: map[string]string{"kid-1": hmac}})
	o := withNames(acmeOptions(t, ca), "secret.example.org")
	o.ACME.Directories[0].EABKeyID, o.ACME.Directories[0].EABKey = "kid-1", hmac
	var log syncBuffer
	o.Log = zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), &log, zapcore.DebugLevel))
	r := startACME(t, ca, o)
	r.awaitReady(t)
	if accounts := ca.Accounts(); len(accounts) != 1 || !accounts[0].EAB {
		t.Errorf("accounts %+v", accounts)
	}
	must(t, r.Renew(t.Context(), "secret.example.org"))
	ca.Answer5xx()
	if r.Renew(t.Context(), "secret.example.org") == nil {
		t.Error("renewed by a CA in trouble")
	}
	o.Log.Info("options", zap.Any("acme", *o.ACME), zap.Any("directories", o.ACME.Directories))
	r.end()
	r.end = nil
	said := log.String() + fmt.Sprintf("%v %+v %#v", o.ACME, *o.ACME, o.ACME.Directories)
	if !strings.Contains(said, "certmagic") {
		t.Error("certmagic was not heard at debug level")
	}
	secrets := []string{hmac}
	must(t, filepath.WalkDir(path(o), func(at string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(at) != ".key" {
			return err
		}
		data, err := os.ReadFile(at)
		must(t, err)
		block, _ := pem.Decode(data)
		lines := strings.Split(string(data), "\n")
		secrets = append(secrets, lines[1], base64.StdEncoding.EncodeToString(block.Bytes)[60:100])
		return nil
	}))
	if len(secrets) < 5 {
		t.Fatalf("only %d secrets", len(secrets))
	}
	for _, secret := range secrets {
		if strings.Contains(said, secret) {
			t.Errorf("the log has %.8s…", secret)
		}
	}
}
