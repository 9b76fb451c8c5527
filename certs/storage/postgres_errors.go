package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const postgresShape = "write postgres://user:password@host:5432/database, with every octet of the password that is no letter or digit as % and two hex digits"

// postgresConfig reads the URL. What is wrong with one is said without quoting
// any of it: where a password ends is the first thing to be lost in a URL that
// is wrong.
func postgresConfig(url string) (*pgxpool.Config, error) {
	_, rest, found := strings.Cut(url, "://")
	if !found || !strings.HasPrefix(url, "postgres://") && !strings.HasPrefix(url, "postgresql://") {
		return nil, errors.New("storage.url is no URL of PostgreSQL: " + postgresShape)
	}
	// A password with one of these in it would become part of the host, the
	// database or a parameter, which errors of connecting do quote.
	if i := strings.IndexAny(rest, "/?#"); i >= 0 && strings.ContainsAny(rest[i:], "@#") {
		return nil, errors.New("storage.url has an @ or # where none can be: " + postgresShape)
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("storage.url: %s: %s", unquoted(err), postgresShape)
	}
	return config, nil
}

// inClear names a server that may be spoken to without encryption. That is also
// so without any sslmode, which means that TLS is tried and not demanded.
// Loopback and unix sockets are as good as encrypted.
func inClear(config *pgx.ConnConfig) string {
	all := append([]*pgconn.FallbackConfig{{Host: config.Host, Port: config.Port, TLSConfig: config.TLSConfig}}, config.Fallbacks...)
	for _, server := range all {
		network, _ := pgconn.NetworkAddress(server.Host, server.Port)
		addr, err := netip.ParseAddr(server.Host)
		local := network == "unix" || server.Host == "localhost" || err == nil && addr.IsLoopback()
		if server.TLSConfig == nil && !local {
			return server.Host
		}
	}
	return ""
}

// unquoted is what pgx has to say about a URL, without the URL and without what
// it says of its parts.
func unquoted(err error) string {
	var file *fs.PathError
	if errors.As(err, &file) { // of sslrootcert and the like
		return file.Error()
	}
	text := err.Error()
	if i := strings.LastIndex(text, "`: "); i >= 0 {
		text = text[i+len("`: "):]
		if end := strings.IndexAny(text, "(:"); end >= 0 {
			text = text[:end]
		}
		return strings.TrimSpace(text)
	}
	return "cannot be read"
}

// passing reports whether a second try has a chance at once.
func passing(err error) bool {
	switch sqlState(err) {
	case "", // no word of the server: the connection is gone
		undefinedTable, undefinedSchema, serializationFailure, deadlock, adminShutdown, crashShutdown:
		return !errors.Is(err, pgx.ErrNoRows)
	}
	return false
}

// Codes that we have an answer to (PostgreSQL, appendix A).
const (
	undefinedTable       = "42P01"
	undefinedSchema      = "3F000"
	undefinedDatabase    = "3D000"
	insufficient         = "42501"
	wrongPassword        = "28P01"
	notAllowedIn         = "28000"
	readOnly             = "25006"
	tooManyConnections   = "53300"
	serializationFailure = "40001"
	deadlock             = "40P01"
	adminShutdown        = "57P01"
	crashShutdown        = "57P02"
	startingUp           = "57P03"
)

// sqlState is the server's code for an error, "" if it is not the server's.
func sqlState(err error) string {
	var said *pgconn.PgError
	if errors.As(err, &said) {
		return said.Code
	}
	return ""
}

// postgresError says what happened and what to do. Errors of pgx name user,
// host and database, never the password.
func postgresError(err error) error {
	remedy := ""
	switch state := sqlState(err); {
	case state == insufficient:
		remedy = "grant the role of storage.url CREATE on the database, or SELECT, INSERT, UPDATE, DELETE on the tables stored and locks of the schema storage.prefix"
	case state == readOnly:
		remedy = "this server is a standby: name all servers in storage.url and add target_session_attrs=read-write"
	case state == wrongPassword || state == notAllowedIn:
		remedy = "check user and password in storage.url, and the server's pg_hba.conf"
	case state == undefinedDatabase:
		remedy = "create the database, or name another one in storage.url"
	case state == tooManyConnections:
		remedy = fmt.Sprintf("raise the server's max_connections: every process takes up to %d", postgresConns)
	case state == startingUp || state == adminShutdown:
		remedy = "the server is starting or stopping: this mends itself"
	case state != "":
	case errors.As(err, new(*pgconn.ConnectError)):
		remedy = "see whether the server runs and can be reached"
	}
	if remedy == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, remedy)
}
