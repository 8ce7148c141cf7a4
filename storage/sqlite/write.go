package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	"github.com/tributary-iot/tributary/storage"
)

// errFenced is what an older Store of the same file gets.
var errFenced = errors.New("sqlite: the file was opened by another store, which owns it now: close this one")

var errClosed = device.Errorf(device.Unavailable, "the store is closed")

// hotRow is what of a batch becomes one row of hot: messages of one partition.
type hotRow struct {
	id     int64
	bucket int64
	in     []incoming
}

// Write stores the batch. It copies what it keeps: the batch may be reused.
func (s *Store) Write(ctx context.Context, b storage.Batch) error {
	if err := checkBatch(&b); err != nil {
		return err
	}
	select {
	case s.writing <- struct{}{}:
	case <-s.closing:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.writing }()
	if err := s.prepareWrite(ctx); err != nil {
		return err
	}
	start := time.Now()
	var rows []hotRow
	var repeated repeats
	err := inTx(ctx, s.writer, func(tx *sql.Tx) (err error) {
		if err := s.advance(tx, &b); err != nil {
			return err
		}
		if b.Messages, repeated, err = s.dropRepeats(ctx, tx, b.Messages); err != nil {
			return err
		}
		rows = s.splitRows(b.Epoch, b.Messages)
		if err := s.insertHot(tx, rows); err != nil {
			return err
		}
		return insertEvents(tx, b.Stream, b.Epoch, b.Events)
	})
	if err != nil {
		var unknown *commitError
		s.stale = s.stale || errors.As(err, &unknown)
		return wrapWrite(err)
	}
	s.committed(rows)
	s.wrote(&b, time.Since(start))
	s.stat.repeats.Add(repeated.dropped)
	s.stat.reused.Add(repeated.reused)
	return nil
}

// prepareWrite makes the heads true again after a commit of unknown outcome,
// and waits while more is unsealed than memory should hold.
func (s *Store) prepareWrite(ctx context.Context) error {
	if s.closed() {
		return errClosed
	}
	if s.stale {
		if err := s.rebuild(ctx); err != nil {
			return fmt.Errorf("sqlite: reading the hot rows again: %w", err)
		}
	}
	return s.waitRoom(ctx)
}

func wrapWrite(err error) error {
	if errors.Is(err, storage.ErrPosition) || errors.Is(err, storage.ErrEpoch) || errors.Is(err, errFenced) {
		return err
	}
	return fmt.Errorf("sqlite: write: %w", err)
}

// checkBatch refuses what can never be stored.
func checkBatch(b *storage.Batch) error {
	if b.Stream == "" || b.From > b.To || b.To > math.MaxInt64 || b.Epoch > math.MaxInt64 {
		return device.Errorf(device.Invalid, "batch of stream %q from %d to %d in epoch %d is not a stretch of a stream", b.Stream, b.From, b.To, b.Epoch)
	}
	last := b.From
	for i := range b.Messages {
		m := &b.Messages[i]
		if m.Seq <= last || m.Seq > b.To {
			return device.Errorf(device.Invalid, "message %d is out of order or outside (%d, %d]", m.Seq, b.From, b.To)
		}
		last = m.Seq
		if err := checkMessage(m); err != nil {
			return &storage.BadMessage{Seq: m.Seq, Err: err}
		}
	}
	last = b.From
	for i := range b.Events {
		p := b.Events[i].Position
		if p.Epoch != b.Epoch || p.Seq <= last || p.Seq > b.To {
			return device.Errorf(device.Invalid, "event %d of epoch %d is out of order or outside (%d, %d] of epoch %d", p.Seq, p.Epoch, b.From, b.To, b.Epoch)
		}
		last = p.Seq
	}
	return nil
}

func checkMessage(m *storage.Message) error {
	switch {
	case m.Message == nil || len(m.Body) == 0:
		return device.Errorf(device.Invalid, "message has no content")
	case len(m.Body) > maxBodyBytes:
		return device.Errorf(device.Invalid, "message is %d bytes long, the store takes %d", len(m.Body), maxBodyBytes)
	}
	return m.Message.ID().Validate()
}

// advance moves the stream's position, or says why the batch does not fit.
func (s *Store) advance(tx *sql.Tx, b *storage.Batch) error {
	res, err := tx.Exec(`UPDATE stream_pos SET seq = ?1 WHERE stream = ?2 AND epoch = ?3 AND seq = ?4
		AND EXISTS(SELECT 1 FROM meta WHERE owner = ?5)`, int64(b.To), b.Stream, int64(b.Epoch), int64(b.From), s.owner)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 1 {
		return err
	}
	if err := s.checkOwner(tx); err != nil {
		return err
	}
	have, err := position(tx, b.Stream)
	if err != nil {
		return err
	}
	want := device.Position{Epoch: b.Epoch, Seq: b.From}
	switch {
	case b.Epoch < have.Epoch:
		return fmt.Errorf("%w: epoch %d, the store is at %d", storage.ErrEpoch, b.Epoch, have.Epoch)
	case b.Epoch > have.Epoch && b.From == 0, want == have:
		_, err := tx.Exec(`INSERT INTO stream_pos VALUES(?1, ?2, ?3) ON CONFLICT DO UPDATE SET epoch = ?2, seq = ?3`,
			b.Stream, int64(b.Epoch), int64(b.To))
		return err
	}
	return fmt.Errorf("%w: the batch starts at %d of epoch %d, the store is at %d of epoch %d",
		storage.ErrPosition, want.Seq, want.Epoch, have.Seq, have.Epoch)
}

func (s *Store) checkOwner(tx *sql.Tx) error {
	var owner string
	if err := tx.QueryRow(`SELECT owner FROM meta`).Scan(&owner); err != nil {
		return err
	}
	if owner != s.owner {
		return errFenced
	}
	return nil
}

type queryRower interface {
	QueryRow(query string, args ...any) *sql.Row
}

func position(q queryRower, stream string) (device.Position, error) {
	var epoch, seq int64
	err := q.QueryRow(`SELECT epoch, seq FROM stream_pos WHERE stream = ?`, stream).Scan(&epoch, &seq)
	if errors.Is(err, sql.ErrNoRows) {
		return device.Position{}, nil
	}
	return device.Position{Epoch: uint64(epoch), Seq: uint64(seq)}, err
}

// Position is where the stream's next batch must start.
func (s *Store) Position(ctx context.Context, stream string) (device.Position, error) {
	if s.closed() {
		return device.Position{}, errClosed
	}
	pos, err := position(dbQuery{ctx, s.reader}, stream)
	if err != nil {
		return pos, fmt.Errorf("sqlite: position of %s: %w", stream, err)
	}
	return pos, nil
}

// dbQuery gives a pool the context-free face of a transaction.
type dbQuery struct {
	ctx context.Context
	db  *sql.DB
}

func (q dbQuery) QueryRow(query string, args ...any) *sql.Row {
	return q.db.QueryRowContext(q.ctx, query, args...)
}

// insertEvents stores the command events of a batch.
func insertEvents(tx *sql.Tx, stream string, epoch uint64, events []device.StoredEvent) error {
	for i := range events {
		e := &events[i]
		var request []byte
		if e.Request != nil {
			request = devicepb.MarshalCommand(e.Request)
		}
		_, err := tx.Exec(`INSERT INTO command_event VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, stream, int64(epoch), int64(e.Position.Seq),
			e.Tenant, e.Device, e.Command, micros(e.StoredAt), int64(e.State), devicepb.MarshalCommandEvent(&e.CommandEvent), request)
		if err != nil {
			return err
		}
		if err := touchCommand(tx, e, request); err != nil {
			return err
		}
	}
	return nil
}

// micros is t as the file keeps it.
func micros(t time.Time) int64 { return t.UnixMicro() }

// fromMicros undoes micros, in UTC.
func fromMicros(us int64) time.Time { return time.UnixMicro(us).UTC() }
