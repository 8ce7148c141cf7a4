// Package sqlite is the embedded store: one SQLite file, no service, no cgo.
//
// It does not use SQLite as a tree of points, which writes a whole page for
// every point. Batches are appended to the table hot as the stream's own bytes
// (hot.go) and kept in memory as a head, by device and series (head.go). Every
// so often the head is sealed (seal.go): sorted and written as per-series
// chunks (chunk.go) and per-device compressed blocks (block.go) into the tables
// of its partition of stream time (partition.go), and the hot rows go. Reads
// (view.go) join one snapshot of the file with the heads not yet in it.
// Commands and their events are few and stay plain rows (commands.go).
//
// Hot rows carry their epoch, and their ids are the store's own, so a new epoch
// needs no emptying of hot first: it is only another batch.
package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	_ "modernc.org/sqlite" // the database/sql driver "sqlite"

	"github.com/tributary-iot/tributary/storage"
)

// Config says where the store is and how it behaves; zero fields take the
// defaults in brackets.
type Config struct {
	Path           string        // the database file; its folder is made
	SealMessages   int           // seal after so many messages [100,000]
	SealBytes      int64         // ... or so many bytes of memory, which bounds what heads use to about twice it [128 MiB]
	SealEvery      time.Duration // ... or so long after the first of them [10 min]
	PartitionEvery time.Duration // stream time one partition holds; retention drops whole ones [24 h]
	MaxAge         time.Duration // partitions wholly older are dropped; 0 keeps all
	CommandMaxAge  time.Duration // ended commands that nothing happened to for so long are dropped; 0: MaxAge
	MaxBytes       int64         // while the file's used pages exceed it the oldest partition is dropped; 0: no bound

	// DedupWindow is how long after a message with a key, in stream time, the
	// same again is not stored. It takes about 50 bytes of the file a keyed
	// message, for one to one and a half windows; retention does not shorten it.
	// Negative: every message is stored. [7 days]
	DedupWindow time.Duration

	// Synchronous is SQLite's: FULL syncs every Write, so that a position once
	// answered is never taken back, which Store.Write promises. NORMAL saves
	// that sync and may lose the newest Writes in a power cut: right only where
	// the stream surely still holds them. [FULL]
	Synchronous string

	Logger     *slog.Logger          // [discards]
	Registerer prometheus.Registerer // [no metrics]
	Now        func() time.Time      // for retention [time.Now]
}

func (c Config) withDefaults() (Config, error) {
	if c.Path == "" {
		return c, errors.New("sqlite: Path is empty: name the database file")
	}
	set := func(v *int64, d int64) {
		if *v <= 0 {
			*v = d
		}
	}
	messages := int64(c.SealMessages)
	set(&messages, 100_000)
	c.SealMessages = int(messages)
	set(&c.SealBytes, 128<<20)
	set((*int64)(&c.SealEvery), int64(10*time.Minute))
	set((*int64)(&c.PartitionEvery), int64(24*time.Hour))
	if c.DedupWindow == 0 {
		c.DedupWindow = 7 * 24 * time.Hour
	}
	switch c.Synchronous {
	case "":
		c.Synchronous = "FULL"
	case "FULL", "NORMAL":
	default:
		return c, fmt.Errorf("sqlite: Synchronous is %q: use FULL or NORMAL", c.Synchronous)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c, nil
}

// Store is a storage.Store in one SQLite file. One Store owns a file at a
// time: opening it again fences the older one, whose writes then fail.
type Store struct {
	cfg    Config
	log    *slog.Logger
	writer *sql.DB // one connection
	reader *sql.DB // a few, query_only
	owner  string  // in table meta while this Store is the one to write
	met    *metrics
	stat   counters

	writing chan struct{} // held (one token) by whoever changes heads or hot rows
	sealing sync.Mutex    // held while a head is being written down
	stale   bool          // under writing: a commit's outcome is unknown, heads must be rebuilt
	lastHot int64         // under writing: id of the newest hot row
	hot     hotScratch    // under writing

	mu      sync.RWMutex  // guards the next three; never held across I/O
	line    lineup        // the heads
	room    chan struct{} // closed and replaced when the queue shrinks or sealing fails
	sealErr error         // why the last seal failed; nil when it did not

	recovered struct{ messages, keys int64 } // found unsealed by Open

	newest    atomic.Int64  // stream time of the newest message since Open, 0 for none
	ids       idCache       // under sealing
	kick      chan struct{} // wakes the sealer
	closing   chan struct{}
	closeOnce sync.Once
	closeErr  error
	loops     sync.WaitGroup
}

var _ storage.Store = (*Store)(nil)

// Open opens or makes the file and rebuilds the heads from its hot rows.
func Open(cfg Config) (*Store, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(cfg.Path), 0o700); err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	s := &Store{cfg: cfg, log: cfg.Logger, owner: rand.Text(), writing: make(chan struct{}, 1),
		kick: make(chan struct{}, 1), room: make(chan struct{}), closing: make(chan struct{})}
	if err := s.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("sqlite: open %s: %w", cfg.Path, err), s.closeFiles())
	}
	s.loops.Go(s.sealLoop)
	return s, nil
}

func (s *Store) open() (err error) {
	if s.writer, err = openPool(s.cfg.Path, 1, writerPragmas(s.cfg.Synchronous), "immediate"); err != nil {
		return err
	}
	ctx := context.Background()
	if err := migrate(ctx, s.writer, s.owner); err != nil {
		return err
	}
	if s.reader, err = openPool(s.cfg.Path, 4, readerPragmas, "deferred"); err != nil {
		return err
	}
	if s.met, err = newMetrics(s.cfg.Registerer, s); err != nil {
		return err
	}
	if err := s.rebuild(ctx); err != nil {
		return err
	}
	line := s.lineup()
	for _, h := range line.all() {
		s.recovered.messages += int64(h.rows)
		s.recovered.keys += int64(len(h.keys.at))
	}
	return nil
}

// Recovered is what Open found unsealed and read into memory: messages, and the
// keys among them.
func (s *Store) Recovered() (messages, keys int64) { return s.recovered.messages, s.recovered.keys }

// Close stops the sealer, after the seal it may be in, and closes the file.
// What was not sealed is in the hot rows; nothing is lost.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		close(s.closing)
		s.loops.Wait()
		s.writing <- struct{}{} // kept: a Write in progress ends first, none follows
		s.met.unregister(s.cfg.Registerer)
		s.closeErr = s.closeFiles()
	})
	return s.closeErr
}

func (s *Store) closed() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

func (s *Store) closeFiles() error {
	var errs []error
	for _, db := range []*sql.DB{s.reader, s.writer} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// Size is what the file's pages in use take, and what they may (Config.MaxBytes), in bytes.
func (s *Store) Size() (held, most int64) { return s.stat.fileBytes.Load(), s.cfg.MaxBytes }

// Stats counts what the store did since Open and holds now.
type Stats struct {
	Messages, Events  uint64 // committed since Open
	Sealed, Seals     uint64 // messages sealed, and seals, since Open
	HotRows           int64  // messages not yet sealed
	HotBytes          int64  // memory they take, estimated
	FileBytes         int64  // pages in use: data, not free space
	Partitions        int64
	PartitionsDropped uint64
	Repeats           uint64 // keyed messages that were stored already, since Open
	KeysReused        uint64 // messages stored whose key another payload had, since Open
	SealErrors        uint64
	SealSeconds       float64 // all seals together
	SlowestWrite      time.Duration
}

type counters struct {
	messages, events, sealed, seals, dropped, sealErrors, repeats, reused atomic.Uint64
	fileBytes, partitions, sealNanos, worstWrite                          atomic.Int64
}

// Stats is cheap: it reads counters.
func (s *Store) Stats() Stats {
	c := &s.stat
	out := Stats{
		Messages: c.messages.Load(), Events: c.events.Load(), Sealed: c.sealed.Load(), Seals: c.seals.Load(),
		FileBytes: c.fileBytes.Load(), Partitions: c.partitions.Load(), PartitionsDropped: c.dropped.Load(),
		Repeats: c.repeats.Load(), KeysReused: c.reused.Load(), SealErrors: c.sealErrors.Load(), SealSeconds: time.Duration(c.sealNanos.Load()).Seconds(),
		SlowestWrite: time.Duration(c.worstWrite.Load()),
	}
	line := s.lineup()
	for _, h := range line.all() {
		rows, bytes := h.size()
		out.HotRows += int64(rows)
		out.HotBytes += bytes
	}
	return out
}
