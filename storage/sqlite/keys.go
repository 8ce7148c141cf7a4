package sqlite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/storage"
)

// A message that carries a key is stored once: one of the same tenant, device,
// key and payload, whose stream time is less than DedupWindow after the one
// that was stored, only moves the position. What was stored is known from the
// heads, and for sealed messages from the tables key_ID, one for each stretch of
// stream time (table keypart), which outlive the partitions of the messages.
// They are filled when a head is sealed, sorted: so a page of the tree is
// written once a seal, not once a message. Messages without a key cost nothing.

// keyed is a message's key, and with it its payload, as far as it matters.
type keyed struct {
	key     [16]byte // hash of tenant, device and key
	payload [16]byte // hash of the payload
}

// keyedAt is one that was stored, at a stream time.
type keyedAt struct {
	keyed
	stored int64
}

func keyedOf(m *device.Message) keyed {
	var k keyed
	b := make([]byte, 0, 256)
	for _, s := range []string{m.Tenant, m.Device, m.Key} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	name, payload := sha256.Sum256(b), sha256.Sum256(m.Payload)
	copy(k.key[:], name[:])
	copy(k.payload[:], payload[:])
	return k
}

// keySet is the keyed messages of a head.
type keySet struct {
	at   map[keyed]int64
	keys map[[16]byte]struct{}
}

// keyOverhead is about what one keyed message takes in a keySet.
const keyOverhead = 150

func (s *keySet) add(k keyed, stored int64) {
	if s.at == nil {
		s.at, s.keys = map[keyed]int64{}, map[[16]byte]struct{}{}
	}
	s.at[k], s.keys[k.key] = stored, struct{}{}
}

// known is what is to be found out of a message's key.
type known struct {
	same  bool // stored before, with this payload
	other bool // stored before, with another payload
}

// repeats counts messages: those not stored again, and those stored although
// another payload had their key.
type repeats struct{ dropped, reused uint64 }

// dropRepeats answers the messages without those that are stored already. The
// caller holds writing, so that no head grows meanwhile. The slice given is left
// as it is.
func (s *Store) dropRepeats(ctx context.Context, tx *sql.Tx, messages []storage.Message) (kept []storage.Message, n repeats, err error) {
	if s.cfg.DedupWindow <= 0 || !slices.ContainsFunc(messages, func(m storage.Message) bool { return m.Message.Key != "" }) {
		return messages, n, nil
	}
	var asked []keyedAt
	index := make([]int, len(messages)) // of a message in asked
	for i := range messages {
		if m := &messages[i]; m.Message.Key != "" {
			index[i] = len(asked)
			asked = append(asked, keyedAt{keyedOf(m.Message), micros(m.StoredAt)})
		}
	}
	found, err := s.lookUp(ctx, tx, asked)
	if err != nil {
		return nil, n, err
	}
	kept = make([]storage.Message, 0, len(messages))
	var batch keySet
	for i := range messages {
		if messages[i].Message.Key != "" {
			a, is := asked[index[i]], found[index[i]]
			is.add(&batch, a, s.window())
			if is.same {
				n.dropped++
				continue
			}
			if is.other {
				n.reused++
			}
			batch.add(a.keyed, a.stored)
		}
		kept = append(kept, messages[i])
	}
	return kept, n, nil
}

func (s *Store) window() int64 { return s.cfg.DedupWindow.Microseconds() }

// add learns what a set knows of a.
func (k *known) add(set *keySet, a keyedAt, window int64) {
	if stored, ok := set.at[a.keyed]; ok && a.stored-stored < window {
		k.same = true
		return
	}
	_, ok := set.keys[a.key]
	k.other = k.other || ok
}

// lookUp asks heads and file. The heads are taken after the transaction began,
// whose writing keeps the sealer from changing both in between.
func (s *Store) lookUp(ctx context.Context, tx *sql.Tx, asked []keyedAt) ([]known, error) {
	line := s.lineup()
	found := make([]known, len(asked))
	oldest := asked[0].stored
	for i, a := range asked {
		oldest = min(oldest, a.stored)
		for _, h := range line.all() {
			found[i].add(&h.keys, a, s.window())
		}
	}
	v := &view{ctx: ctx, tx: tx}
	var tables []int64
	err := v.rows(func(r *sql.Rows) error {
		var id int64
		err := r.Scan(&id)
		tables = append(tables, id)
		return err
	}, `SELECT id FROM keypart WHERE until > ?`, oldest-s.window())
	for _, id := range tables {
		for at := 0; err == nil && at < len(asked); at += keysAsked {
			err = v.keys(id, asked, at, found, s.window())
		}
	}
	return found, err
}

// keysAsked is how many keys one statement asks for.
const keysAsked = 64

// keysQuery looks each key up with its payload, and then, when that is not
// there, without: both are steps down the same branch of the tree.
const keysQuery = `WITH asked(n, k, p) AS (VALUES %s)
	SELECT n, stored, CASE WHEN stored IS NULL THEN EXISTS(SELECT 1 FROM key_%[2]d o WHERE o.k = asked.k) ELSE 1 END
	FROM asked LEFT JOIN key_%[2]d t ON t.k = asked.k AND t.p = asked.p`

var keysValues = strings.Repeat("(?,?,?),", keysAsked-1) + "(?,?,?)"

func (v *view) keys(id int64, asked []keyedAt, at int, found []known, window int64) error {
	args := make([]any, 0, 3*keysAsked)
	for n := at; n < at+keysAsked; n++ {
		a := &asked[min(n, len(asked)-1)] // the last again and again: one statement for all
		args = append(args, min(n, len(asked)-1), a.key[:], a.payload[:])
	}
	return v.rows(func(r *sql.Rows) error {
		var n int
		var stored sql.NullInt64
		var other bool
		if err := r.Scan(&n, &stored, &other); err != nil {
			return err
		}
		if stored.Valid && asked[n].stored-stored.Int64 < window {
			found[n].same = true
		} else if other && !stored.Valid {
			found[n].other = true
		}
		return nil
	}, fmt.Sprintf(keysQuery, keysValues, id), args...)
}

// sorted gives the keys of a queued head in the order of the tree.
func (s *keySet) sorted() []keyedAt {
	out := make([]keyedAt, 0, len(s.at))
	for k, stored := range s.at {
		out = append(out, keyedAt{k, stored})
	}
	slices.SortFunc(out, func(a, b keyedAt) int { return bytes.Compare(a.key[:], b.key[:]) })
	return out
}

// writeKeys writes the keys of a head before the seal itself, as writeLast does:
// they are of committed messages, and written twice they are the same.
func (s *Store) writeKeys(ctx context.Context, keys []keyedAt) error {
	const perTx = 2000
	for len(keys) > 0 {
		slice := keys[:min(perTx, len(keys))]
		keys = keys[len(slice):]
		err := inTx(ctx, s.writer, func(tx *sql.Tx) error {
			if err := s.checkOwner(tx); err != nil {
				return err
			}
			return s.insertKeys(tx, slice)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) insertKeys(tx *sql.Tx, keys []keyedAt) error {
	into := map[int64]*sql.Stmt{} // by start of the stretch
	for _, k := range keys {
		start := floorTo(k.stored, s.keyStretch())
		if into[start] == nil {
			id, err := s.keyPart(tx, start)
			if err != nil {
				return err
			}
			stmt, err := tx.Prepare(fmt.Sprintf(`INSERT INTO key_%d VALUES(?, ?, ?) ON CONFLICT DO UPDATE SET stored = max(stored, excluded.stored)`, id))
			if err != nil {
				return err
			}
			defer stmt.Close()
			into[start] = stmt
		}
		if _, err := into[start].Exec(k.key[:], k.payload[:], k.stored); err != nil {
			return err
		}
	}
	return nil
}

// keyStretch is the stream time one table of keys holds. With half the window
// at most three are looked into; they are dropped whole.
func (s *Store) keyStretch() int64 { return max(s.window()/2, 1) }

// keyPart finds or makes the table of keys that begins at start.
func (s *Store) keyPart(tx *sql.Tx, start int64) (id int64, err error) {
	until := start + s.keyStretch()
	err = tx.QueryRow(`SELECT id FROM keypart WHERE start = ? AND until = ?`, start, until).Scan(&id)
	if err == nil || !errors.Is(err, sql.ErrNoRows) {
		return id, err
	}
	res, err := tx.Exec(`INSERT INTO keypart(start, until) VALUES(?, ?)`, start, until)
	if err != nil {
		return 0, err
	}
	if id, err = res.LastInsertId(); err != nil {
		return 0, err
	}
	_, err = tx.Exec(fmt.Sprintf(`CREATE TABLE key_%d(k BLOB, p BLOB, stored INTEGER, PRIMARY KEY(k, p)) WITHOUT ROWID`, id))
	return id, err
}

// dropKeys drops the tables whose keys nobody will ask for: those a window
// before the stream's newest time, and before now, since a backlog may be old.
func (s *Store) dropKeys(ctx context.Context) error {
	newest := s.newest.Load()
	if newest == 0 {
		return nil
	}
	cutoff := min(newest, micros(s.cfg.Now())) - max(s.window(), 0)
	s.sealing.Lock()
	defer s.sealing.Unlock()
	err := inTx(ctx, s.writer, func(tx *sql.Tx) error {
		if err := s.checkOwner(tx); err != nil {
			return err
		}
		for {
			var id int64
			err := tx.QueryRow(`SELECT id FROM keypart WHERE until <= ? LIMIT 1`, cutoff).Scan(&id)
			if errors.Is(err, sql.ErrNoRows) {
				return nil
			}
			if err == nil {
				_, err = tx.Exec(fmt.Sprintf(`DROP TABLE key_%[1]d; DELETE FROM keypart WHERE id = %[1]d`, id))
			}
			if err != nil {
				return err
			}
		}
	})
	if err != nil {
		return fmt.Errorf("sqlite: dropping old keys: %w", err)
	}
	return nil
}
