package sqlite

import (
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
	older    int64 // the newest time in any of the partitions after it in the list
}

// parts lists the partitions with times in [since, until), newest first; by
// is "recv" or "point".
func (v *view) parts(by string, since, until int64) (out []part, err error) {
	err = v.rows(func(r *sql.Rows) error {
		var p part
		if err := r.Scan(&p.id, &p.min, &p.max); err != nil {
			return err
		}
		out = append(out, p)
		return nil
	}, fmt.Sprintf(`SELECT id, %[1]s_min, %[1]s_max FROM part WHERE %[1]s_min < ? AND %[1]s_max >= ? ORDER BY %[1]s_max DESC`, by), until, since)
	for i := range out {
		out[i].older = math.MinInt64
		if i+1 < len(out) {
			out[i].older = out[i+1].max
		}
	}
	return out, err
}

// spanRef is a chunk or block that a read may have to look into.
type spanRef struct {
	t0, t1, seal int64
}

// spans lists the chunks or blocks of one owner in a partition that overlap
// [since, until), the one with the newest end first.
func (v *view) spans(table, owner string, ownerID, since, until int64) (out []spanRef, err error) {
	err = v.rows(func(r *sql.Rows) error {
		var s spanRef
		if err := r.Scan(&s.t0, &s.t1, &s.seal); err != nil {
			return err
		}
		out = append(out, s)
		return nil
	}, fmt.Sprintf(`SELECT t0, t1, seal FROM %s WHERE %s = ? AND t0 < ? AND t1 >= ?`, table, owner), ownerID, until, since)
	slices.SortFunc(out, func(a, b spanRef) int {
		switch {
		case a.t1 != b.t1:
			return compareDesc(a.t1, b.t1)
		case a.t0 != b.t0:
			return compareDesc(a.t0, b.t0)
		}
		return compareDesc(a.seal, b.seal)
	})
	return out, err
}

func compareDesc(a, b int64) int {
	if a > b {
		return -1
	}
	return 1
}

// body reads one chunk or block.
func (v *view) body(table, owner string, ownerID int64, s spanRef) (b []byte, err error) {
	err = v.tx.QueryRowContext(v.ctx, fmt.Sprintf(`SELECT body FROM %s WHERE %s = ? AND t0 = ? AND seal = ?`, table, owner), ownerID, s.t0, s.seal).Scan(&b)
	return b, err
}

// walk visits what the file holds of one owner, newest end first, until done
// says that nothing ending at a time, or before, is wanted any more.
func (v *view) walk(by, table, owner string, ownerID, since, until int64, done func(end int64) bool, visit func(seal int64, body []byte) error) error {
	parts, err := v.parts(by, since, until)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if done(p.max) {
			return nil
		}
		name := fmt.Sprintf("%s_%d", table, p.id)
		spans, err := v.spans(name, owner, ownerID, since, until)
		if err != nil {
			return err
		}
		for _, s := range spans {
			if done(s.t1) {
				break
			}
			body, err := v.body(name, owner, ownerID, s)
			if err != nil {
				return err
			}
			if err := visit(s.seal, body); err != nil {
				return fmt.Errorf("%s of %d at %d: %w", name, ownerID, s.t0, err)
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
