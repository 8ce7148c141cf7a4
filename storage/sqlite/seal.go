package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// sealLoop seals what is queued, what is old, and applies retention.
func (s *Store) sealLoop() {
	tick := time.NewTicker(min(s.cfg.SealEvery, time.Minute))
	defer tick.Stop()
	retry := time.NewTimer(time.Hour)
	defer retry.Stop()
	for {
		select {
		case <-s.closing:
			return
		case <-s.kick:
		case <-retry.C:
		case <-tick.C:
			s.rotateOld()
		}
		if err := s.sealQueue(context.Background()); err != nil {
			s.log.Error("sealing failed; it is tried again in a second", "error", err)
			retry.Reset(time.Second)
		}
	}
}

func (s *Store) wakeSealer() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// Seal seals every message committed before the call, for tools and tests:
// the store seals by itself.
func (s *Store) Seal(ctx context.Context) error {
	select {
	case s.writing <- struct{}{}:
	case <-s.closing:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	s.rotateAged(0)
	<-s.writing
	return s.sealQueue(ctx)
}

// rotateOld queues the active head when it is due. It never waits for a Write:
// that one may be waiting for the sealer to make room.
func (s *Store) rotateOld() {
	select {
	case s.writing <- struct{}{}:
		s.rotateAged(s.cfg.SealEvery)
		<-s.writing
	default:
	}
}

// rotateAged queues the active head when it holds something, and that long
// enough. The caller holds writing.
func (s *Store) rotateAged(age time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.line.active.rows > 0 && time.Since(s.line.active.born) >= age {
		s.line.rotate()
	}
}

// sealQueue seals the heads in the queue, one transaction each, then drops
// what retention says and lets the log be short again.
func (s *Store) sealQueue(ctx context.Context) error {
	for {
		if s.closed() {
			return nil
		}
		more, err := s.sealOldest(ctx)
		s.setSealErr(err)
		if err != nil {
			s.stat.sealErrors.Add(1)
			return err
		}
		if !more {
			return s.retain(ctx)
		}
	}
}

func (s *Store) setSealErr(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealErr = err
	if err != nil { // whoever waits for room must hear of it
		close(s.room)
		s.room = make(chan struct{})
	}
}

// sealOldest seals the oldest head of the queue; more is false when there was
// none.
func (s *Store) sealOldest(ctx context.Context) (more bool, err error) {
	s.sealing.Lock()
	defer s.sealing.Unlock()
	queue := s.lineup().queue
	if len(queue) == 0 {
		return false, nil
	}
	h, start := queue[0], time.Now()
	sealed, err := encodeHead(h) // before the transaction, so that it is short
	if err != nil {
		return false, err
	}
	if err = s.writeLast(ctx, sealed.devices); err == nil && s.cfg.DedupWindow > 0 {
		err = s.writeKeys(ctx, h.keys.sorted())
	}
	if err == nil {
		err = inTx(ctx, s.writer, func(tx *sql.Tx) error { return s.sealInto(tx, h, sealed) })
	}
	if errors.Is(err, errSealed) {
		err = nil
	}
	if err != nil {
		s.ids.clear() // it may hold ids of rows that were rolled back
		return false, fmt.Errorf("sqlite: seal %d: %w", h.seal, err)
	}
	s.mu.Lock()
	s.line.queue = append([]*head(nil), s.line.queue[1:]...)
	close(s.room)
	s.room = make(chan struct{})
	s.mu.Unlock()
	s.met.sealed(&s.stat, h.rows, time.Since(start))
	s.checkpoint(ctx)
	return true, nil
}

// writeLast finds or makes the rows of devices and series, with their last
// values, before the seal itself: these values are of committed messages, so
// the file may have them early, and short transactions let Writes in between.
func (s *Store) writeLast(ctx context.Context, devices []sealedDevice) error {
	const perTx = 2000
	for len(devices) > 0 {
		slice := devices[:min(perTx, len(devices))]
		devices = devices[len(slice):]
		err := inTx(ctx, s.writer, func(tx *sql.Tx) error {
			if err := s.checkOwner(tx); err != nil {
				return err
			}
			ids, err := s.ids.begin(tx)
			if err != nil {
				return err
			}
			defer ids.close()
			for i := range slice {
				if err := ids.assign(&slice[i]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// sealInto writes a head's chunks and blocks, and removes its hot rows; all of
// it or nothing.
func (s *Store) sealInto(tx *sql.Tx, h *head, sealed *sealedHead) error {
	res, err := tx.Exec(`UPDATE meta SET sealed = ? WHERE owner = ? AND sealed = ?`, h.seal, s.owner, h.seal-1)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n != 1 {
		return cmp.Or(err, s.whyNotSealed(tx, h))
	}
	part, err := s.partitionFor(tx, h.bucket)
	if err != nil {
		return err
	}
	if err := s.writeSealed(tx, h, sealed, part); err != nil {
		return err
	}
	if _, err := tx.Exec(`DELETE FROM hot WHERE id BETWEEN ? AND ?`, h.firstHot, h.lastHot); err != nil {
		return err
	}
	_, err = tx.Exec(`UPDATE part SET recv_min = min(recv_min, ?), recv_max = max(recv_max, ?),
		point_min = min(point_min, ?), point_max = max(point_max, ?), messages = messages + ?, bytes = bytes + ? WHERE id = ?`,
		sealed.recv.min, sealed.recv.max, sealed.points.min, sealed.points.max, h.rows, sealed.bytes, part)
	if err != nil {
		return err
	}
	return s.refreshStats(tx)
}

// errSealed says that the file has the seal: its commit happened the time before
// and only the answer was an error.
var errSealed = errors.New("sqlite: the seal is in the file already")

// whyNotSealed says why the seal before h is not the file's newest.
func (s *Store) whyNotSealed(tx *sql.Tx, h *head) error {
	if err := s.checkOwner(tx); err != nil {
		return err
	}
	var sealed int64
	if err := tx.QueryRow(`SELECT sealed FROM meta`).Scan(&sealed); err != nil {
		return err
	}
	if sealed == h.seal { // numbers are used once, and the owner is this store
		return errSealed
	}
	return damaged(fmt.Sprintf("the newest seal is %d, and %d is next", sealed, h.seal))
}

func (s *Store) writeSealed(tx *sql.Tx, h *head, sealed *sealedHead, part int64) error {
	blocks, err := tx.Prepare(fmt.Sprintf(`INSERT INTO msgblock_%d VALUES(NULL, ?, ?, ?, ?, ?, ?, ?, ?)`, part))
	if err != nil {
		return err
	}
	defer blocks.Close()
	chunks, err := tx.Prepare(fmt.Sprintf(`INSERT INTO chunk_%d VALUES(?, ?, ?, ?, ?, ?)`, part))
	if err != nil {
		return err
	}
	defer chunks.Close()
	for _, g := range sealed.groups {
		if err := insertBlocks(blocks, g.owner, h.seal, g.blocks); err != nil {
			return err
		}
	}
	for i := range sealed.devices {
		if err := writeDevice(&sealed.devices[i], h.seal, blocks, chunks); err != nil {
			return err
		}
	}
	return insertLast(tx, h.seal, sealed.devices)
}

func writeDevice(d *sealedDevice, seal int64, blocks, chunks *sql.Stmt) error {
	if err := insertBlocks(blocks, d.row, seal, d.blocks); err != nil {
		return err
	}
	for _, series := range d.series {
		for _, sp := range series.chunks {
			if _, err := chunks.Exec(series.row, sp.t0, seal, sp.t1, sp.n, sp.body); err != nil {
				return err
			}
		}
	}
	return nil
}

func insertBlocks(stmt *sql.Stmt, owner, seal int64, spans []span) error {
	for _, sp := range spans {
		var p0, p1 any
		if sp.points != nil {
			p0, p1 = sp.points.min, sp.points.max
		}
		if _, err := stmt.Exec(owner, sp.t0, sp.t1, p0, p1, seal, sp.n, sp.body); err != nil {
			return err
		}
	}
	return nil
}

// checkpoint moves the log into the file and makes it short; a reader in the
// way only means that it stays longer until the next time.
func (s *Store) checkpoint(ctx context.Context) {
	conn, err := s.writer.Conn(context.WithoutCancel(ctx))
	if err != nil {
		return
	}
	defer conn.Close()
	for _, q := range []string{"PRAGMA busy_timeout = 50", "PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA busy_timeout = 5000"} {
		if _, err := conn.ExecContext(context.WithoutCancel(ctx), q); err != nil {
			s.log.Warn("checkpoint", "error", err)
		}
	}
}

// waitRoom waits while heads hold twice what one may, or too many are queued.
func (s *Store) waitRoom(ctx context.Context) error {
	for {
		s.mu.RLock()
		line, room, sealErr := s.line, s.room, s.sealErr
		s.mu.RUnlock()
		var total int64
		for _, h := range line.all() {
			_, n := h.size()
			total += n
		}
		if len(line.queue) == 0 || total <= 2*s.cfg.SealBytes && len(line.queue) <= maxQueue {
			return nil
		}
		if sealErr != nil {
			return fmt.Errorf("sqlite: memory is full and cannot be sealed: %w", sealErr)
		}
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.closing:
			return errClosed
		}
	}
}

// maxQueue bounds how many heads wait: a backlog spread over many partitions
// makes many small ones.
const maxQueue = 64
