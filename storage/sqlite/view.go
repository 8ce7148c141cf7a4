package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// view is one consistent look at the store: a snapshot of the file, and the
// heads whose seals are not in that snapshot.
type view struct {
	ctx   context.Context
	tx    *sql.Tx
	heads []*head // oldest first
}

// read runs fn on a view. The heads are taken before the snapshot, which says
// up to which seal the file goes: a head sealed in between is seen in the file
// only, so nothing is missed and nothing doubled, and no lock is held.
func (s *Store) read(ctx context.Context, what string, fn func(*view) error) error {
	if s.closed() {
		return errClosed
	}
	line := s.lineup()
	start := time.Now()
	tx, err := s.reader.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("sqlite: %s: %w", what, err)
	}
	defer tx.Rollback() //nolint:errcheck // it only read
	v := &view{ctx: ctx, tx: tx}
	var sealed int64
	if err = tx.QueryRowContext(ctx, `SELECT sealed FROM meta`).Scan(&sealed); err == nil {
		for _, h := range line.all() {
			if h.seal > sealed {
				v.heads = append(v.heads, h)
			}
		}
		err = fn(v)
	}
	s.met.read(what, time.Since(start))
	var coded *device.Error
	if err == nil || errors.As(err, &coded) {
		return err
	}
	return fmt.Errorf("sqlite: %s: %w", what, err)
}

// rows runs a query and each on every row of it.
func (v *view) rows(each func(*sql.Rows) error, query string, args ...any) error {
	rows, err := v.tx.QueryContext(v.ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// deviceID answers 0 when the file does not know the device.
func (v *view) deviceID(id device.ID) (n int64, err error) {
	return v.one(`SELECT id FROM device WHERE tenant = ? AND name = ?`, id.Tenant, id.Device)
}

// one answers the single integer of a query, 0 when there is no row.
func (v *view) one(query string, args ...any) (n int64, err error) {
	err = v.tx.QueryRowContext(v.ctx, query, args...).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return n, err
}

// part is a partition as reads see it: id and the times of what it holds, by
// received time or by measurement time.
type part struct {
	id       int64
	min, max int64
}

// parts lists the partitions with times in [since, until), the one with the
// newest end first; by is "recv" or "point".
func (v *view) parts(by string, since, until int64) (out []part, err error) {
	err = v.rows(func(r *sql.Rows) error {
		var p part
		if err := r.Scan(&p.id, &p.min, &p.max); err != nil {
			return err
		}
		out = append(out, p)
		return nil
	}, fmt.Sprintf(`SELECT id, %[1]s_min, %[1]s_max FROM part WHERE %[1]s_min < ? AND %[1]s_max >= ? ORDER BY %[1]s_max DESC`, by), until, since)
	return out, err
}

// holding is one of the ways the file holds what reads look for: its table in
// every partition, and the times it is found by.
type holding struct {
	by   string // which bounds of a partition apply: recv or point
	list string // the spans of an owner that overlap [since, until)
	body string
	key  func(owner int64, s spanRef) []any // of body
}

func heldMessages() holding {
	return holding{"recv", `SELECT t0, t1, seal, id FROM msgblock_%d WHERE owner = ? AND t0 < ? AND t1 >= ?`,
		`SELECT body FROM msgblock_%d WHERE id = ?`, func(_ int64, s spanRef) []any { return []any{s.id} }}
}

func heldPoints() holding {
	return holding{"point", `SELECT t0, t1, seal, 0 FROM chunk_%d WHERE series_id = ? AND t0 < ? AND t1 >= ?`,
		`SELECT body FROM chunk_%d WHERE series_id = ? AND t0 = ? AND seal = ?`, func(owner int64, s spanRef) []any { return []any{owner, s.t0, s.seal} }}
}

func heldSparsePoints() holding {
	h := heldMessages()
	h.by, h.list = "point", `SELECT p0, p1, seal, id FROM msgblock_%d WHERE owner = ? AND p0 < ? AND p1 >= ?`
	return h
}

// spanRef is a chunk or block that a read may have to look into.
type spanRef struct {
	t0, t1, seal, id int64
}

// spans lists them, the one with the newest end first.
func (v *view) spans(query string, owner, since, until int64) (out []spanRef, err error) {
	err = v.rows(func(r *sql.Rows) error {
		var s spanRef
		if err := r.Scan(&s.t0, &s.t1, &s.seal, &s.id); err != nil {
			return err
		}
		out = append(out, s)
		return nil
	}, query, owner, until, since)
	slices.SortFunc(out, func(a, b spanRef) int {
		return cmp.Or(cmp.Compare(b.t1, a.t1), cmp.Compare(b.t0, a.t0), cmp.Compare(b.seal, a.seal), cmp.Compare(b.id, a.id))
	})
	return out, err
}

// body reads what a span is of.
func (v *view) body(h holding, part, owner int64, s spanRef) (body []byte, err error) {
	err = v.tx.QueryRowContext(v.ctx, fmt.Sprintf(h.body, part), h.key(owner, s)...).Scan(&body)
	return body, err
}

// walk visits what the file holds of one owner, newest end first within each
// partition, until done says that nothing ending at a time, or before, is
// wanted any more.
func (v *view) walk(h holding, owner, since, until int64, done func(end int64) bool, visit func(body []byte) error) error {
	parts, err := v.parts(h.by, since, until)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if done(p.max) {
			return nil
		}
		spans, err := v.spans(fmt.Sprintf(h.list, p.id), owner, since, until)
		if err != nil {
			return err
		}
		for _, s := range spans {
			if done(s.t1) {
				break
			}
			body, err := v.body(h, p.id, owner, s)
			if err != nil {
				return err
			}
			if err := visit(body); err != nil {
				return fmt.Errorf("partition %d, owner %d, at %d: %w", p.id, owner, s.t0, err)
			}
		}
	}
	return nil
}

// window is a half-open stretch of time in microseconds; a zero time is unbounded.
func window(since, until time.Time) (from, to int64) {
	from, to = math.MinInt64, math.MaxInt64
	if !since.IsZero() {
		from = ceilMicros(since)
	}
	if !until.IsZero() {
		to = ceilMicros(until)
	}
	return from, to
}

// ceilMicros rounds up: with stored times rounded down, [since, until) then
// holds exactly what it would at full precision of the bounds.
func ceilMicros(t time.Time) int64 {
	us := t.UnixMicro()
	if t.Nanosecond()%1000 != 0 {
		us++
	}
	return us
}

func checkLimit(n, highest int) error {
	if n < 1 || n > highest {
		return device.Errorf(device.Invalid, "limit is %d: it must be from 1 to %d", n, highest)
	}
	return nil
}

// Cursors are numbers and perhaps a text, opaque to callers.
func makeCursor(text string, numbers ...int64) string {
	var b []byte
	for _, n := range numbers {
		b = binary.AppendVarint(b, n)
	}
	return base64.RawURLEncoding.EncodeToString(append(b, text...))
}

func parseCursor(cursor string, numbers ...*int64) (text string, err error) {
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	in := cursorReader{b: b}
	for _, n := range numbers {
		*n = in.varint()
	}
	if err != nil || in.bad {
		return "", device.Errorf(device.Invalid, "the cursor is not one this store gave out")
	}
	return string(in.b), nil
}
