package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"

	"github.com/tributary-iot/tributary/device"
)

// bucketOf is the start of the partition a stream time belongs to.
func (s *Store) bucketOf(stored int64) int64 {
	return floorTo(stored, s.cfg.PartitionEvery.Microseconds())
}

// partitionFor finds or makes the partition of a bucket. One that outgrew its
// share of MaxBytes gets a successor for the same stretch of time, so that
// retention by bytes never has to drop nearly everything at once.
func (s *Store) partitionFor(tx *sql.Tx, bucket int64) (id int64, err error) {
	var bytes int64
	err = tx.QueryRow(`SELECT id, bytes FROM part WHERE start = ? ORDER BY id DESC LIMIT 1`, bucket).Scan(&id, &bytes)
	if err == nil && (s.cfg.MaxBytes == 0 || bytes < s.cfg.MaxBytes/8) || err != nil && !errors.Is(err, sql.ErrNoRows) {
		return id, err
	}
	res, err := tx.Exec(`INSERT INTO part(start, until, recv_min, recv_max, point_min, point_max, messages, bytes) VALUES(?, ?, ?, ?, ?, ?, 0, 0)`,
		bucket, bucket+s.cfg.PartitionEvery.Microseconds(), int64(math.MaxInt64), int64(math.MinInt64), int64(math.MaxInt64), int64(math.MinInt64))
	if err != nil {
		return 0, err
	}
	if id, err = res.LastInsertId(); err != nil {
		return 0, err
	}
	_, err = tx.Exec(fmt.Sprintf(partTables, id))
	return id, err
}

// retain drops partitions that are too old or make the file too large, and ended
// commands that nothing happened to for too long. Hot rows are never dropped.
func (s *Store) retain(ctx context.Context) error {
	if err := s.dropKeys(ctx); err != nil {
		return err
	}
	if s.cfg.MaxAge > 0 {
		cutoff := micros(s.cfg.Now().Add(-s.cfg.MaxAge))
		for {
			dropped, err := s.dropOldest(ctx, func(tx *sql.Tx) (id int64, err error) {
				err = tx.QueryRow(`SELECT id FROM part WHERE until <= ? ORDER BY until, id LIMIT 1`, cutoff).Scan(&id)
				return id, err
			})
			if err != nil {
				return err
			}
			if !dropped {
				break
			}
		}
	}
	if age := cmp.Or(s.cfg.CommandMaxAge, s.cfg.MaxAge); age > 0 {
		if err := s.dropCommands(ctx, micros(s.cfg.Now().Add(-age))); err != nil {
			return err
		}
	}
	for s.cfg.MaxBytes > 0 && s.stat.fileBytes.Load() > s.cfg.MaxBytes {
		dropped, err := s.dropOldest(ctx, func(tx *sql.Tx) (id int64, err error) { // the newest stays
			err = tx.QueryRow(`SELECT id FROM part WHERE id < (SELECT max(id) FROM part) ORDER BY until, id LIMIT 1`).Scan(&id)
			return id, err
		})
		if err != nil {
			return err
		}
		if !dropped {
			break
		}
	}
	return nil
}

// dropOldest drops the partition that choose names, if any.
func (s *Store) dropOldest(ctx context.Context, choose func(*sql.Tx) (int64, error)) (dropped bool, err error) {
	s.sealing.Lock()
	defer s.sealing.Unlock()
	err = inTx(ctx, s.writer, func(tx *sql.Tx) error {
		if err := s.checkOwner(tx); err != nil {
			return err
		}
		id, err := choose(tx)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		dropped = true
		if _, err := tx.Exec(fmt.Sprintf(`DROP TABLE chunk_%[1]d; DROP TABLE msgblock_%[1]d; DELETE FROM part WHERE id = %[1]d`, id)); err != nil {
			return err
		}
		return s.refreshStats(tx)
	})
	if err != nil {
		return false, fmt.Errorf("sqlite: dropping a partition: %w", err)
	}
	if dropped {
		s.stat.dropped.Add(1)
	}
	return dropped, nil
}

// dropCommands leaves those that may still be delivered, however long they wait:
// their end needs its beginning.
func (s *Store) dropCommands(ctx context.Context, cutoff int64) error {
	err := inTx(ctx, s.writer, func(tx *sql.Tx) error {
		if err := s.checkOwner(tx); err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM command WHERE touched < ? AND state NOT IN (?, ?)`, cutoff, int64(device.StateQueued), int64(device.StateSent)); err != nil {
			return err
		}
		_, err := tx.Exec(`DELETE FROM command_event WHERE stored < ?1
			AND NOT EXISTS(SELECT 1 FROM command c WHERE c.tenant = command_event.tenant AND c.id = command_event.command)`, cutoff)
		return err
	})
	if err != nil {
		return fmt.Errorf("sqlite: dropping old commands: %w", err)
	}
	return nil
}

// refreshStats reads what the transaction makes of the file's size.
func (s *Store) refreshStats(tx *sql.Tx) error {
	var pages, free, size, parts int64
	for _, q := range []struct {
		text string
		into *int64
	}{
		{"PRAGMA page_count", &pages}, {"PRAGMA freelist_count", &free}, {"PRAGMA page_size", &size},
		{"SELECT count(*) FROM part", &parts},
	} {
		if err := tx.QueryRow(q.text).Scan(q.into); err != nil {
			return err
		}
	}
	s.stat.fileBytes.Store((pages - free) * size)
	s.stat.partitions.Store(parts)
	return nil
}
