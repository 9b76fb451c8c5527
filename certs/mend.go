package certs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/caddyserver/certmagic"
)

// mend makes of what is in the storage something that certmagic can renew: it
// gives up for ever at a pair that is half or mixed. What is broken goes; a good
// key stays, or comes back from memory, for TLSA records may name it. The caller
// has this certificate's lock.
func (m *managed) mend(ctx context.Context) error {
	keys := 0
	for _, i := range m.config.Issuers {
		good, err := m.mendPair(ctx, i.IssuerKey())
		if err != nil {
			return err
		}
		if good {
			keys++
		}
	}
	held := m.certificate()
	if keys > 0 || held == nil || !m.config.ReusePrivateKeys {
		return nil
	}
	key, err := certmagic.PEMEncodePrivateKey(held.PrivateKey)
	if err != nil {
		return fmt.Errorf("key in use: %w", err)
	}
	return m.storage.Store(ctx, siteKey(m.config.Issuers[0].IssuerKey(), m.name), key)
}

// mendPair reports whether a CA's folder has a good key.
func (m *managed) mendPair(ctx context.Context, issuer string) (bool, error) {
	key, err := m.storage.Load(ctx, siteKey(issuer, m.name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("load key: %w", err)
	}
	_, broken := certmagic.PEMDecodePrivateKey(key)
	if broken != nil {
		if err := m.storage.Delete(ctx, siteKey(issuer, m.name)); err != nil {
			return false, fmt.Errorf("remove broken key: %w", err)
		}
	}
	_, err = m.pair(ctx, issuer)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errBroken) {
		return false, err
	}
	if err == nil {
		err = m.mendMeta(ctx, issuer)
		return err == nil, err
	}
	return broken == nil, m.forsake(ctx, issuer)
}

// mendMeta writes what certmagic wants to find beside a certificate, and reads
// nothing from that we need.
func (m *managed) mendMeta(ctx context.Context, issuer string) error {
	at := certmagic.StorageKeys.SiteMeta(issuer, m.name)
	meta, err := m.storage.Load(ctx, at)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if json.Unmarshal(meta, &certmagic.CertificateResource{}) == nil {
		return nil
	}
	return m.storage.Store(ctx, at, fmt.Appendf(nil, "{\"sans\":[%q]}", m.name))
}

// forsake removes a certificate, but not its key.
func (m *managed) forsake(ctx context.Context, issuer string) error {
	for _, at := range []string{siteCert(issuer, m.name), certmagic.StorageKeys.SiteMeta(issuer, m.name)} {
		if err := m.storage.Delete(ctx, at); err != nil {
			return fmt.Errorf("remove certificate: %w", err)
		}
	}
	return nil
}

// supersede removes the certificates of other CAs that look newer than c, which
// is: one CA dates back by an hour, the next one does not. Without this another
// process, or the next start, would prefer them.
func (m *managed) supersede(ctx context.Context, c *stored) {
	for _, i := range m.config.Issuers {
		issuer := i.IssuerKey()
		if issuer == c.issuer {
			continue
		}
		if other, err := m.pair(ctx, issuer); err == nil && !newer(c.Certificate, other.Certificate) {
			m.forsake(ctx, issuer)
		}
	}
}

// formerly looks for a certificate of a CA that is not configured any more. It
// is served until the new CA has issued one, and its key lives on.
func (m *managed) formerly(ctx context.Context, folders []string) error {
	var newest *stored
	for _, issuer := range folders {
		if m.configured(issuer) || !m.kind.has(issuer) {
			continue
		}
		c, err := m.pair(ctx, issuer)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errBroken) {
			continue
		}
		if err != nil {
			return err
		}
		if newest == nil || newer(c.Certificate, newest.Certificate) {
			newest = c
		}
	}
	if newest != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.hold(newest)
	}
	return nil
}

// folders lists the CAs that have certificates in a storage, but for internal
// ones.
func folders(ctx context.Context, storage certmagic.Storage) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, storageTimeout)
	defer cancel()
	all, err := storage.List(ctx, "certificates", false)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return nil, err
	}
	var names []string
	for _, path := range all {
		name := path[strings.LastIndex(path, "/")+1:]
		if !strings.HasPrefix(name, internalFolder) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}
