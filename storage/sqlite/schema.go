package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"
)

// schemaVersion is raised with every change of the tables below; a file of a
// newer version is not touched.
const schemaVersion = 3

// All times in the file are microseconds since 1970, UTC.
const schema = `
CREATE TABLE IF NOT EXISTS meta(
  one    INTEGER PRIMARY KEY CHECK(one = 1),
  owner  TEXT NOT NULL,     -- of the Store that may write
  sealed INTEGER NOT NULL   -- number of the last seal in the file
);
CREATE TABLE IF NOT EXISTS stream_pos(
  stream TEXT PRIMARY KEY,
  epoch  INTEGER NOT NULL,
  seq    INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hot(
  id     INTEGER PRIMARY KEY,
  bucket INTEGER NOT NULL,  -- start of the partition its messages go to
  body   BLOB NOT NULL,     -- a block (block.go) of messages in stream order
  last   BLOB               -- a bit for each: of its channel only the newest is kept (last.go); NULL for none
);
CREATE TABLE IF NOT EXISTS part(
  id        INTEGER PRIMARY KEY, -- of its tables chunk_ID and msgblock_ID
  start     INTEGER NOT NULL,    -- stream time in [start, until)
  until     INTEGER NOT NULL,
  recv_min  INTEGER NOT NULL,    -- received times in it
  recv_max  INTEGER NOT NULL,
  point_min INTEGER NOT NULL,    -- measurement times in it
  point_max INTEGER NOT NULL,
  messages  INTEGER NOT NULL,
  bytes     INTEGER NOT NULL     -- of chunk and block bodies
);
CREATE TABLE IF NOT EXISTS keypart(
  id    INTEGER PRIMARY KEY, -- of its table key_ID (keys.go)
  start INTEGER NOT NULL,    -- stream time in [start, until)
  until INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS device(
  id     INTEGER PRIMARY KEY,
  tenant TEXT NOT NULL,
  name   TEXT NOT NULL,
  UNIQUE(tenant, name)
);
CREATE TABLE IF NOT EXISTS series(
  id        INTEGER PRIMARY KEY,
  device_id INTEGER NOT NULL,
  channel   TEXT NOT NULL,
  name      TEXT NOT NULL,
  time      INTEGER NOT NULL, -- from here on: its last value
  epoch     INTEGER NOT NULL,
  seq       INTEGER NOT NULL,
  unit      TEXT NOT NULL,
  kind      INTEGER NOT NULL, -- device.Kind: the chunks of a series may be of several
  value     ANY,
  UNIQUE(device_id, channel, name)
);
CREATE TABLE IF NOT EXISTS last_message(
  device_id INTEGER NOT NULL,
  channel   TEXT NOT NULL,
  seal      INTEGER NOT NULL,
  body      BLOB NOT NULL,    -- a block of one message (last.go)
  UNIQUE(device_id, channel)
);
CREATE TABLE IF NOT EXISTS command(
  tenant  TEXT NOT NULL,
  id      TEXT NOT NULL,
  device  TEXT NOT NULL,
  created INTEGER NOT NULL,
  state   INTEGER NOT NULL, -- of the newest event
  touched INTEGER NOT NULL, -- stream time of the newest event, for retention
  request BLOB NOT NULL,    -- devicepb.MarshalCommand
  PRIMARY KEY(tenant, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS command_newest ON command(tenant, created, id);
CREATE INDEX IF NOT EXISTS command_device ON command(tenant, device, created, id);
CREATE INDEX IF NOT EXISTS command_touched ON command(touched);
CREATE TABLE IF NOT EXISTS command_event(
  stream  TEXT NOT NULL,
  epoch   INTEGER NOT NULL,
  seq     INTEGER NOT NULL,
  tenant  TEXT NOT NULL,
  device  TEXT NOT NULL,
  command TEXT NOT NULL,
  stored  INTEGER NOT NULL,
  state   INTEGER NOT NULL,
  body    BLOB NOT NULL,    -- devicepb.MarshalCommandEvent
  request BLOB,             -- devicepb.MarshalCommand, on creating events
  PRIMARY KEY(stream, epoch, seq)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS command_event_command ON command_event(tenant, command);
CREATE INDEX IF NOT EXISTS command_event_tenant ON command_event(stream, tenant, epoch, seq);
CREATE INDEX IF NOT EXISTS command_event_stored ON command_event(stored);
`

// partTables holds the tables of one partition. Chunks are kept by series (no
// rowid); blocks are large, so their rows have one and a small index. A block's
// owner is a device's id, or a group of devices that send little (sparse.go):
// those have no chunks, and p0 and p1 are the measurement times in the block.
const partTables = `
CREATE TABLE chunk_%[1]d(series_id INTEGER, t0 INTEGER, seal INTEGER, t1 INTEGER, n INTEGER, body BLOB,
  PRIMARY KEY(series_id, t0, seal)) WITHOUT ROWID;
CREATE TABLE msgblock_%[1]d(id INTEGER PRIMARY KEY, owner INTEGER, t0 INTEGER, t1 INTEGER, p0 INTEGER, p1 INTEGER, seal INTEGER, n INTEGER, body BLOB);
CREATE INDEX msgblock_%[1]d_owner ON msgblock_%[1]d(owner, t0, t1, p0, p1, seal);`

func writerPragmas(synchronous string) []string {
	return []string{
		"busy_timeout(5000)",
		"journal_mode(WAL)",
		"synchronous(" + synchronous + ")",
		"journal_size_limit(67108864)",
		"wal_autocheckpoint(8000)", // 32 MB: hot pages are rewritten in the log more often than in the file
		"cache_size(-16000)",
	}
}

var readerPragmas = []string{"busy_timeout(5000)", "query_only(1)", "cache_size(-4000)"}

// openPool opens the file with the pragmas on each of at most n connections.
func openPool(path string, n int, pragmas []string, txlock string) (*sql.DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	// A URI, so that any character may stand in a path.
	dsn := (&url.URL{Scheme: "file", Path: filepath.ToSlash(abs),
		RawQuery: url.Values{"_pragma": pragmas, "_txlock": {txlock}}.Encode()}).String()
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	if err := db.Ping(); err != nil {
		return nil, errorsJoinClose(err, db)
	}
	return db, nil
}

// migrate makes the tables and takes the file over for owner.
func migrate(ctx context.Context, db *sql.DB, owner string) error {
	return inTx(ctx, db, func(tx *sql.Tx) error {
		var version int
		if err := tx.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
			return err
		}
		if version > schemaVersion {
			return fmt.Errorf("the file has schema %d, this program knows up to %d: use a newer release", version, schemaVersion)
		}
		if version == 2 {
			if _, err := tx.Exec(`ALTER TABLE hot ADD COLUMN last BLOB`); err != nil {
				return err
			}
		}
		for _, q := range []string{schema, fmt.Sprintf("PRAGMA user_version = %d", schemaVersion)} {
			if _, err := tx.Exec(q); err != nil {
				return err
			}
		}
		_, err := tx.Exec(`INSERT INTO meta VALUES(1, ?1, 0) ON CONFLICT DO UPDATE SET owner = ?1`, owner)
		return err
	})
}

// inTx runs fn in a transaction that cannot be cut half way by the caller's
// context: what it does is short, and a commit must have one outcome.
func inTx(ctx context.Context, db *sql.DB, fn func(*sql.Tx) error) error {
	tx, err := db.BeginTx(context.WithoutCancel(ctx), nil)
	if err != nil {
		return err
	}
	if err := fn(tx); err != nil {
		return errorsJoinRollback(err, tx)
	}
	if err := tx.Commit(); err != nil {
		return &commitError{err}
	}
	return nil
}

// commitError is a COMMIT that failed: the transaction may be in the file or not.
type commitError struct{ err error }

func (e *commitError) Error() string { return "commit: " + e.err.Error() }
func (e *commitError) Unwrap() error { return e.err }

func errorsJoinRollback(err error, tx *sql.Tx) error {
	if rerr := tx.Rollback(); rerr != nil {
		return fmt.Errorf("%w (and rolling back: %v)", err, rerr)
	}
	return err
}

func errorsJoinClose(err error, db *sql.DB) error {
	if cerr := db.Close(); cerr != nil {
		return fmt.Errorf("%w (and closing: %v)", err, cerr)
	}
	return err
}
