package storage

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"
)

const (
	// postgresConns bounds what one process takes of the server's connections,
	// of which there are a hundred unless its operator has raised that.
	postgresConns = 4

	// postgresDial bounds connecting to one of several servers in the URL, so
	// that there is time left within a call for the next.
	postgresDial = 4 * time.Second

	// postgresName is the longest name of a schema; PostgreSQL silently cuts
	// longer ones, and two might become one (NAMEDATALEN).
	postgresName = 63
)

// postgres keeps values and locks as rows of two tables in a schema of its own,
// named by Options.Prefix. They are made on first use. All clocks are the
// server's.
//
// Its role needs CREATE on the database, once; or an administrator makes schema
// and tables, as in postgres_sql.go, and grants USAGE on the one and SELECT,
// INSERT, UPDATE, DELETE on the others.
//
// Statements are prepared neither by name nor in advance, so that a pooler
// (PgBouncer in transaction mode) may stand between.
type postgres struct {
	pool  *pgxpool.Pool
	sql   postgresSQL
	place string // for people

	mu    sync.Mutex
	ready bool // the tables have been seen
}

func openPostgres(_ context.Context, o Options) (medium, error) {
	if len(o.Prefix) > postgresName || strings.ContainsRune(o.Prefix, 0) {
		return nil, fmt.Errorf("a schema's name has at most %d octets: shorten storage.prefix", postgresName)
	}
	config, err := postgresConfig(o.URL)
	if err != nil {
		return nil, err
	}
	connect := config.ConnConfig
	if host := inClear(connect); host != "" {
		o.Log.Warn("keys may travel in clear to the PostgreSQL server",
			zap.String("host", host), zap.String("remedy", "add sslmode=verify-full to storage.url"))
	}
	if connect.ConnectTimeout == 0 {
		connect.ConnectTimeout = postgresDial
	}
	if connect.RuntimeParams["application_name"] == "" {
		connect.RuntimeParams["application_name"] = "smtpseal"
	}
	connect.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.MaxConns = postgresConns
	// The pool connects when it is asked, so a server that is away is no error.
	// Its goroutines end with close, not with the opener's context.
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return nil, err
	}
	place := fmt.Sprintf("postgres %s/%s, schema %s", connect.Host, connect.Database, o.Prefix)
	return &postgres{pool: pool, sql: newPostgresSQL(o.Prefix), place: place}, nil
}

// close waits for calls that are under way, which are bounded.
func (p *postgres) close() error {
	p.pool.Close()
	return nil
}

func (p *postgres) String() string { return p.place }

func (p *postgres) store(ctx context.Context, key string, value []byte) error {
	if value == nil {
		value = []byte{} // nil would be NULL
	}
	_, err := p.exec(ctx, p.sql.store, key, value)
	return err
}

func (p *postgres) load(ctx context.Context, key string) ([]byte, error) {
	var length int64
	var value []byte
	if err := p.row(ctx, p.sql.load, []any{&length, &value}, key, maxValue); err != nil {
		return nil, err
	}
	if length > maxValue {
		return nil, errTooLong
	}
	return value, nil
}

func (p *postgres) remove(ctx context.Context, key string) error {
	_, err := p.exec(ctx, p.sql.remove, key, key+"/", key+"0")
	return err
}

// stat knows folders as what has values below it.
func (p *postgres) stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	stat := certmagic.KeyInfo{Key: key}
	err := p.row(ctx, p.sql.stat, []any{&stat.IsTerminal, &stat.Size, &stat.Modified}, key, key+"/", key+"0")
	if err != nil {
		return certmagic.KeyInfo{}, err
	}
	if !stat.IsTerminal {
		return certmagic.KeyInfo{Key: key}, nil
	}
	return stat, nil
}

func (p *postgres) keys(ctx context.Context, prefix string) ([]string, error) {
	statement, args := p.sql.list, []any{maxKeys + 1, prefix, prefix + "/", prefix + "0"}
	if prefix == "" {
		statement, args = p.sql.listAll, args[:1]
	}
	var keys []string
	err := p.call(ctx, func(ctx context.Context) error {
		rows, err := p.pool.Query(ctx, statement, args...)
		if err != nil {
			return err
		}
		keys, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if len(keys) > maxKeys {
		return nil, errTooMany
	}
	return keys, err
}

func (p *postgres) acquire(ctx context.Context, name, token string, lease time.Duration) (bool, error) {
	return p.changed(ctx, p.sql.acquire, lockID(name), token, lease.Milliseconds(), readable(name))
}

func (p *postgres) refresh(ctx context.Context, name, token string, lease time.Duration) (bool, error) {
	return p.changed(ctx, p.sql.refresh, lockID(name), token, lease.Milliseconds())
}

func (p *postgres) release(ctx context.Context, name, token string) (bool, error) {
	return p.changed(ctx, p.sql.release, lockID(name), token)
}

func (p *postgres) changed(ctx context.Context, statement string, args ...any) (bool, error) {
	rows, err := p.exec(ctx, statement, args...)
	return err == nil && rows == 1, err
}

// lockID stands for a lock's name, which may be longer than an index takes, and
// no text to PostgreSQL.
func lockID(name string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(name))) }

// readable is what people see of a lock's name.
func readable(name string) string {
	const most = 200
	return strings.ToValidUTF8(strings.ReplaceAll(name[:min(len(name), most)], "\x00", ""), "")
}

func (p *postgres) exec(ctx context.Context, statement string, args ...any) (rows int64, err error) {
	err = p.call(ctx, func(ctx context.Context) error {
		tag, err := p.pool.Exec(ctx, statement, args...)
		rows = tag.RowsAffected()
		return err
	})
	return rows, err
}

// row reads one row, which may not be there.
func (p *postgres) row(ctx context.Context, statement string, into []any, args ...any) error {
	err := p.call(ctx, func(ctx context.Context) error {
		return p.pool.QueryRow(ctx, statement, args...).Scan(into...)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return fs.ErrNotExist
	}
	return err
}

// call runs one statement. All of ours can be repeated, so a connection that a
// restarting server has cut is worth a second try, and so are tables that
// somebody has dropped.
func (p *postgres) call(ctx context.Context, statement func(context.Context) error) error {
	err := p.try(ctx, statement)
	if err != nil && ctx.Err() == nil && passing(err) {
		err = p.try(ctx, statement)
	}
	if err == nil || errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	return postgresError(err)
}

func (p *postgres) try(ctx context.Context, statement func(context.Context) error) error {
	if err := p.ensure(ctx); err != nil {
		return err
	}
	err := statement(ctx)
	switch sqlState(err) {
	case undefinedTable, undefinedSchema:
		p.mu.Lock()
		p.ready = false
		p.mu.Unlock()
	case readOnly:
		// The server has become a standby; a new connection may find the new
		// primary.
		p.pool.Reset()
	}
	return err
}

// ensure makes the tables, once. It looks first, so that a role which may not
// make any can use those that an administrator has made for it.
func (p *postgres) ensure(ctx context.Context) error {
	p.mu.Lock()
	ready := p.ready
	p.mu.Unlock()
	if ready {
		return nil
	}
	var tables, schema bool
	err := p.pool.QueryRow(ctx, p.sql.there, p.sql.values, p.sql.locks, p.sql.schema).Scan(&tables, &schema)
	if err != nil {
		return err
	}
	if !tables {
		// CREATE SCHEMA IF NOT EXISTS wants the right to make one even if it is
		// there.
		create := p.sql.queue + p.sql.createTables
		if !schema {
			create = p.sql.queue + p.sql.createSchema + p.sql.createTables
		}
		err := p.pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
			return conn.Conn().PgConn().Exec(ctx, create).Close()
		})
		if err != nil {
			return fmt.Errorf("make the tables: %w", err)
		}
	}
	p.mu.Lock()
	p.ready = true
	p.mu.Unlock()
	return nil
}
