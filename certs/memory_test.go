package certs

import (
	"context"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/caddyserver/certmagic"
)

// A memory is a storage that fails or falls silent when it is told to. Under
// synctest all that waits in it waits durably.
type memory struct {
	mu      sync.Mutex
	values  map[string][]byte
	locks   map[string]chan struct{} // closed when it is free
	broken  error
	silent  bool
	stores  int
	touched int
}

func newMemory() *memory {
	return &memory{values: map[string][]byte{}, locks: map[string]chan struct{}{}}
}

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broken = err
}

func (m *memory) silence(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.silent = on
}

func (m *memory) writes() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stores
}

func (m *memory) calls() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.touched
}

// call waits for a silent storage, and locks m.
func (m *memory) call(ctx context.Context) error {
	m.mu.Lock()
	m.touched++
	if m.silent {
		m.mu.Unlock()
		<-ctx.Done()
		m.mu.Lock()
		return ctx.Err()
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return m.broken
}

func (m *memory) Lock(ctx context.Context, name string) error {
	for {
		err := m.call(ctx)
		held := m.locks[name]
		if err != nil || held == nil {
			if err == nil {
				m.locks[name] = make(chan struct{})
			}
			m.mu.Unlock()
			return err
		}
		m.mu.Unlock()
		select {
		case <-held:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (m *memory) Unlock(ctx context.Context, name string) error {
	defer m.mu.Unlock()
	err := m.call(ctx)
	if held := m.locks[name]; held != nil {
		close(held)
		delete(m.locks, name)
	}
	return err
}

func (m *memory) Store(ctx context.Context, key string, value []byte) error {
	defer m.mu.Unlock()
	if err := m.call(ctx); err != nil {
		return err
	}
	m.stores++
	m.values[key] = slices.Clone(value)
	return nil
}

func (m *memory) Load(ctx context.Context, key string) ([]byte, error) {
	defer m.mu.Unlock()
	if err := m.call(ctx); err != nil {
		return nil, err
	}
	value, ok := m.values[key]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return slices.Clone(value), nil
}

func (m *memory) Delete(ctx context.Context, key string) error {
	defer m.mu.Unlock()
	if err := m.call(ctx); err != nil {
		return err
	}
	for k := range m.values {
		if k == key || strings.HasPrefix(k, key+"/") {
			delete(m.values, k)
		}
	}
	return nil
}

func (m *memory) Exists(ctx context.Context, key string) bool {
	_, err := m.Load(ctx, key)
	return err == nil
}

func (m *memory) List(ctx context.Context, path string, recursive bool) ([]string, error) {
	defer m.mu.Unlock()
	if err := m.call(ctx); err != nil {
		return nil, err
	}
	var found []string
	for k := range m.values {
		rest, below := strings.CutPrefix(k, path+"/")
		if below && !recursive {
			rest, _, _ = strings.Cut(rest, "/")
		}
		if full := path + "/" + rest; below && !slices.Contains(found, full) {
			found = append(found, full)
		}
	}
	if found == nil {
		return nil, fs.ErrNotExist
	}
	slices.Sort(found)
	return found, nil
}

func (m *memory) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	value, err := m.Load(ctx, key)
	return certmagic.KeyInfo{Key: key, Size: int64(len(value)), IsTerminal: true}, err
}
