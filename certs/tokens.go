package certs

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// A tokenStorage says when an answer to a CA's challenge cannot be read: to whoever
// asks, it would look as if there were none. That there is none is no news, since
// everybody may ask.
type tokenStorage struct {
	certmagic.Storage
	log *zap.Logger

	mu   sync.Mutex
	said time.Time
}

// tokenPause bounds the log lines: a CA asks from several places at once, and
// whoever else asks could fill the disk.
const tokenPause = time.Minute

// Load is certmagic's, which asks for tokens by the storage only what another
// process has put there.
func (s *tokenStorage) Load(ctx context.Context, key string) ([]byte, error) {
	value, err := s.Storage.Load(ctx, key)
	if !strings.Contains(key, "/challenge_tokens/") || errors.Is(err, fs.ErrNotExist) || ctx.Err() != nil {
		return value, err
	}
	wrong := err
	if err == nil && !json.Valid(value) {
		wrong = errors.New("it is cut off, or another program's")
	}
	if wrong != nil {
		s.report(key, wrong)
	}
	return value, err
}

func (s *tokenStorage) report(key string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.said.IsZero() && time.Since(s.said) < tokenPause {
		return
	}
	s.said = time.Now()
	s.log.Error("challenge not answered: its token in the storage cannot be read", zap.String("name", strings.TrimSuffix(key[strings.LastIndex(key, "/")+1:], ".json")),
		zap.Error(err), zap.String("remedy", "is the storage there, and has every replica the same storage.encryption_key?"))
}

func (s *tokenStorage) String() string { return where(s.Storage) }
