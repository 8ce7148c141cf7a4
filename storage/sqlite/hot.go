package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"math"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	"github.com/tributary-iot/tributary/storage"
)

// splitRows copies the messages of a batch into hot rows: one for all, but cut
// where the stream's time enters another partition and where a row would grow
// too large. A small step back of the stream's clock stays in the partition.
func (s *Store) splitRows(epoch uint64, messages []storage.Message) []hotRow {
	if len(messages) == 0 {
		return nil
	}
	total := 0
	for i := range messages {
		total += len(messages[i].Body)
	}
	arena := make([]byte, 0, total) // one allocation; the caller keeps its buffers
	in := make([]incoming, len(messages))
	var rows []hotRow
	bucket, size := s.lineup().active.bucket, 0
	for i := range messages {
		m := &messages[i]
		at := len(arena)
		arena = append(arena, m.Body...)
		in[i] = incoming{msg: m.Message, last: m.Last, record: record{stored: micros(m.StoredAt), recv: micros(m.Message.ReceivedAt), body: arena[at:len(arena):len(arena)]}}
		in[i].pos = device.Position{Epoch: epoch, Seq: m.Seq}
		next := s.bucketOf(in[i].stored)
		if next < bucket && bucket-in[i].stored < clockSlack {
			next = bucket
		}
		if len(rows) == 0 || next != bucket || size+len(m.Body) > hotBlockBytes || len(rows[len(rows)-1].in) == hotMessages {
			rows, size = append(rows, hotRow{bucket: next, in: in[i:i]}), 0
		}
		bucket, size = next, size+len(m.Body)
		row := &rows[len(rows)-1]
		row.in = row.in[:len(row.in)+1]
	}
	for i := range rows {
		rows[i].id = s.lastHot + int64(i) + 1
	}
	return rows
}

func (s *Store) insertHot(tx *sql.Tx, rows []hotRow) error {
	h := &s.hot
	defer func() { clear(h.records[:cap(h.records)]) }() // whose bodies are the batch's
	for _, row := range rows {
		h.records = h.records[:0]
		for i := range row.in {
			h.records = append(h.records, row.in[i].record)
		}
		if _, err := tx.Exec(`INSERT INTO hot VALUES(?, ?, ?, ?)`, row.id, row.bucket, h.encode(h.records), lastBits(row.in)); err != nil {
			return err
		}
	}
	return nil
}

// lineup is the heads: full ones waiting to be sealed, oldest first, and the
// one that takes new messages.
type lineup struct {
	queue  []*head
	active *head
}

// lineup gives a copy that may be read at leisure: rotate makes a new queue.
func (s *Store) lineup() lineup {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.line
}

func (l *lineup) all() []*head {
	return append(append(make([]*head, 0, len(l.queue)+1), l.queue...), l.active)
}

// rotate puts the active head in the queue; the next begins in the same partition.
func (l *lineup) rotate() {
	full := l.active
	l.queue = append(l.queue[:len(l.queue):len(l.queue)], full)
	l.active = newHead(full.seal+1, full.bucket)
}

// open makes the active head one that takes messages of the bucket.
func (l *lineup) open(bucket int64) *head {
	if l.active.bucket != bucket && l.active.rows > 0 {
		l.rotate()
	}
	l.active.bucket = bucket
	return l.active
}

// closeFull rotates when the active head reached its bounds.
func (l *lineup) closeFull(cfg *Config) bool {
	full := l.active.rows >= cfg.SealMessages || l.active.bytes >= cfg.SealBytes
	if full {
		l.rotate()
	}
	return full
}

// committed shows the rows to readers. The caller holds writing, which is what
// alone changes heads.
func (s *Store) committed(rows []hotRow) {
	for _, row := range rows {
		s.lastHot = row.id
		s.newest.Store(max(s.newest.Load(), row.in[len(row.in)-1].stored))
		s.mu.Lock()
		active := s.line.open(row.bucket)
		s.mu.Unlock()
		active.add(row.id, row.in)
		s.mu.Lock()
		s.line.closeFull(&s.cfg)
		s.mu.Unlock()
	}
	if len(s.lineup().queue) > 0 {
		s.wakeSealer()
	}
}

// rebuild makes the heads anew from the file: at Open, and when it is not
// known whether a commit happened. The caller holds writing, or is Open.
func (s *Store) rebuild(ctx context.Context) error {
	s.sealing.Lock()
	defer s.sealing.Unlock()
	tx, err := s.writer.BeginTx(context.WithoutCancel(ctx), nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // it only read
	if err := s.checkOwner(tx); err != nil {
		return err
	}
	var sealed int64
	var bucket sql.NullInt64
	if err := tx.QueryRow(`SELECT sealed, (SELECT max(start) FROM part) FROM meta`).Scan(&sealed, &bucket); err != nil {
		return err
	}
	if !bucket.Valid {
		bucket.Int64 = math.MinInt64
	}
	line := lineup{active: newHead(sealed+1, bucket.Int64)}
	last, err := loadHot(tx, &line, &s.cfg)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.line = line
	s.mu.Unlock()
	s.ids.clear()
	s.lastHot, s.stale = last, false
	s.wakeSealer()
	return s.refreshStats(tx)
}

// loadHot fills the heads with the hot rows and answers the newest one's id.
func loadHot(tx *sql.Tx, line *lineup, cfg *Config) (last int64, err error) {
	rows, err := tx.Query(`SELECT id, bucket, body, last FROM hot ORDER BY id`)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var row hotRow
		var body, bits []byte
		if err := rows.Scan(&row.id, &row.bucket, &body, &bits); err != nil {
			return 0, err
		}
		if row.in, err = decodeHot(body, bits); err != nil {
			return 0, fmt.Errorf("hot row %d: %w", row.id, err)
		}
		line.open(row.bucket).add(row.id, row.in)
		line.closeFull(cfg)
		last = row.id
	}
	return last, rows.Err()
}

func decodeHot(body, bits []byte) ([]incoming, error) {
	records, err := decodeBlock(body)
	if err != nil {
		return nil, err
	}
	if bits != nil && len(bits) != (len(records)+7)/8 {
		return nil, damaged("a hot row has not a bit for each message")
	}
	in := make([]incoming, len(records))
	for i, r := range records {
		m, err := devicepb.UnmarshalMessage(r.body)
		if err != nil {
			return nil, fmt.Errorf("%w: message %d: %w", errDamaged, r.pos.Seq, err)
		}
		in[i] = incoming{record: r, msg: m, last: bits != nil && bits[i/8]>>(i%8)&1 == 1}
	}
	return in, nil
}
