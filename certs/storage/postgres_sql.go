package storage

import (
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// postgresSQL has the statements for one schema.
type postgresSQL struct {
	schema, values, locks             string // quoted
	there                             string
	queue, createSchema, createTables string
	store, load, remove, stat         string
	list, listAll                     string
	acquire, refresh, release         string
}

// newPostgresSQL writes the schema's name into the statements: a name cannot be
// an argument.
func newPostgresSQL(schema string) postgresSQL {
	quoted := pgx.Identifier{schema}.Sanitize()
	q := postgresSQL{schema: quoted, values: quoted + ".stored", locks: quoted + ".locks"}
	in := strings.NewReplacer("$SCHEMA", quoted, "$STORED", q.values, "$LOCKS", q.locks).Replace

	q.there = `SELECT to_regclass($1) IS NOT NULL AND to_regclass($2) IS NOT NULL, to_regnamespace($3) IS NOT NULL`

	// IF NOT EXISTS alone fails when two sessions make the same thing at once,
	// so they queue. What call sends of it is one message and thereby one
	// transaction: a process that is frozen cannot stop in the middle and hold
	// the others up.
	queue := fnv.New64a()
	queue.Write([]byte("smtpseal " + schema))
	q.queue = fmt.Sprintf("SELECT pg_advisory_xact_lock(%d);\n", int64(queue.Sum64()))
	q.createSchema = in("CREATE SCHEMA IF NOT EXISTS $SCHEMA;\n")
	q.createTables = in(`CREATE TABLE IF NOT EXISTS $STORED (
	key text COLLATE "C" PRIMARY KEY, value bytea NOT NULL, modified timestamptz NOT NULL);
CREATE TABLE IF NOT EXISTS $LOCKS (
	id text COLLATE "C" PRIMARY KEY, name text NOT NULL, owner text NOT NULL, expires timestamptz NOT NULL)`)

	q.store = in(`INSERT INTO $STORED (key, value, modified) VALUES ($1, $2, clock_timestamp())
ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value, modified = EXCLUDED.modified`)
	q.load = in(`SELECT octet_length(value), CASE WHEN octet_length(value) <= $2 THEN value END FROM $STORED WHERE key = $1`)
	// What lies below a key is a range: in the C collation "0" follows "/".
	q.remove = in(`DELETE FROM $STORED WHERE key = $1 OR (key >= $2 AND key < $3)`)
	// The key itself comes before what is below it.
	q.stat = in(`SELECT key = $1, CASE WHEN key = $1 THEN octet_length(value) ELSE 0 END, modified
FROM $STORED WHERE key = $1 OR (key >= $2 AND key < $3) ORDER BY key LIMIT 1`)
	q.list = in(`SELECT key FROM $STORED WHERE key = $2 OR (key >= $3 AND key < $4) LIMIT $1`)
	q.listAll = in(`SELECT key FROM $STORED LIMIT $1`)

	// now() would be when the statement began, which may have waited for the
	// row since. The owner's own row is taken again, so that a call whose
	// answer was lost can be repeated.
	q.acquire = in(`INSERT INTO $LOCKS AS held (id, owner, expires, name)
VALUES ($1, $2, clock_timestamp() + $3 * interval '1 millisecond', $4)
ON CONFLICT (id) DO UPDATE SET owner = EXCLUDED.owner, expires = clock_timestamp() + $3 * interval '1 millisecond'
WHERE held.expires < clock_timestamp() OR held.owner = EXCLUDED.owner`)
	q.refresh = in(`UPDATE $LOCKS SET expires = clock_timestamp() + $3 * interval '1 millisecond'
WHERE id = $1 AND owner = $2`)
	q.release = in(`DELETE FROM $LOCKS WHERE id = $1 AND owner = $2`)
	return q
}
