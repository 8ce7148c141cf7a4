package topic

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
)

// Log is the streams of topics and telemetry. It speaks in device words only,
// so that who keeps it need not know this room.
type Log interface {
	// Append stores p durably. done is called from another goroutine, and must
	// not block; an error of Append means that it is not called.
	Append(p *device.Publication, done func(error)) error

	// Known is a place in a source after which everything stands that is stored from
	// now on, unless the source is made anew. It costs nothing, and may be far behind on
	// a node that stores little.
	Known(src device.Source) device.Position

	// Find reports whether a source holds, on a topic and after a sequence, a
	// message of that mark; of telemetry, with that key.
	Find(ctx context.Context, src device.Source, tenant, topic, mark string, after uint64) (bool, error)

	// Cast tells p to whoever listens on any node now, and keeps nothing.
	Cast(p *device.Publication) error

	// Hear calls fn with every message Cast on topics of a tenant, those of one
	// publisher in order, from when it returns until stop is called. Cast may be what
	// calls it.
	Hear(ctx context.Context, tenant string, fn func(*device.Publication)) (stop func(), err error)

	// Share begins to read what a source holds for a group, as one of its readers on
	// any node: each message is offered to one of them, from one goroutine, never more
	// than it requested, and is its own until settle. What is Released, or held by a
	// reader that is detached or lost, is offered again to any. A group that is new
	// begins after a sequence, or now when that is 0. lost is called at most once: the
	// group was taken away. Errors: Busy (too many groups), Unavailable.
	Share(ctx context.Context, src device.Source, g device.Group, after uint64,
		offer func(a device.Arrival, settle func(device.OutcomeKind)), lost func(error)) (adapters.Feed, error)

	// HearShared calls fn with what is Cast on topics that a group's filter takes, as
	// Hear does, but each message is told to one of those who listen for the group.
	HearShared(ctx context.Context, g device.Group, fn func(*device.Publication)) (stop func(), err error)

	// KeepShare has a group outlive its last reader for so long at least. Without it
	// that is a minute.
	KeepShare(ctx context.Context, g device.Group, keep time.Duration) error

	// EndShare takes a group away, unless somebody reads for it on some node.
	EndShare(ctx context.Context, g device.Group) error

	// End is where a source ends now.
	End(ctx context.Context, src device.Source) (device.Position, error)

	// Follow calls fn with everything a source holds after a sequence and gets
	// later, in order, from one goroutine, until ctx ends.
	Follow(ctx context.Context, src device.Source, after uint64, fn func(device.Arrival)) error

	// Read calls each with what a source holds on a tenant's topics that the filters
	// take after a sequence, in order, until each answers false. Without that it
	// goes on at least to what was the end when it was called, and answers true. It
	// may call each for other topics too.
	Read(ctx context.Context, src device.Source, tenant string, filters []string, after uint64, each func(device.Arrival) bool) (whole bool, err error)

	// Get reads one message again; NotFound when it is not kept any more.
	Get(ctx context.Context, ref device.Ref) (*device.Publication, error)

	// Retain makes p the retained message of its topic, until it expires, or takes
	// away what is there when p has no payload. done is as in Append.
	Retain(p *device.Publication, done func(seq uint64, err error)) error

	// LastRetained is where the newest message stands that was retained, or taken
	// away a short time ago, on a topic that a filter takes; 0 for none.
	LastRetained(ctx context.Context, tenant, filter string) (uint64, error)

	// Retained calls each with the retained messages that a filter takes and that
	// stand at most at last, until it answers false; with all that were there when it
	// was called.
	Retained(ctx context.Context, tenant, filter string, last uint64, each func(device.Ref, *device.Publication) bool) error
}

// Sessions is the records of sessions that outlive their connection, and of wills.
type Sessions interface {
	// Incarnation is this life of this node, as records name it. An error says
	// that it may not act now.
	Incarnation() (string, error)

	// Lives reports whether an incarnation has not ended.
	Lives(incarnation string) bool

	// Elder reports whether this node does what one has to do for all.
	Elder() bool

	// Load answers a record and its revision, never a stale one; nil when there is
	// none.
	Load(ctx context.Context, key device.SessionKey) (*device.SessionRecord, uint64, error)

	// Save writes a record durably and answers its revision: an error of code
	// Conflict when the one before has not revision rev, Busy when there are too
	// many. A record that no node holds is removed some time after its expiry.
	Save(ctx context.Context, r *device.SessionRecord, rev uint64) (uint64, error)

	// Remove takes a record away, as Save would replace it.
	Remove(ctx context.Context, key device.SessionKey, rev uint64) error

	// Follow calls fn with every record there is and every change, in order, until
	// ctx ends; with nil for one that was taken away. ready is called once what
	// there was at first was told.
	Follow(ctx context.Context, ready func(), fn func(device.SessionKey, *device.SessionRecord)) error

	// Ask has another node let go of a session, and returns when it has.
	Ask(ctx context.Context, incarnation string, key device.SessionKey) error

	// Answer calls fn for every session this node is asked for, until stop; fn
	// returns when the session's record is written.
	Answer(fn func(device.SessionKey)) (stop func(), err error)
}

// Commands makes a command durable, as adapters.Topics.Send says.
type Commands interface {
	Send(ctx context.Context, c device.Command) (device.CommandRecord, error)
}

// Config is what the room may be told. The zero value of a field stands for
// its default.
type Config struct {
	MaxSubscriptions int           // of one session; 256
	QueueMessages    int           // waiting for one session that keeps up, before it is read for alone; 256
	QueueBytes       int           // the same in bytes; 1 MiB
	Readers          int           // sessions read for alone at a time; 32
	Timeout          time.Duration // of one operation on a stream; 10 s
	RetryAfter       time.Duration // when a stream fails; 500 ms
	AskTimeout       time.Duration // for another node to let go of a session; 5 s
	TakenFor         time.Duration // how long a record names what was acknowledged for a group: until the stream has written that down; 2 s
	TendEvery        time.Duration // between looks at wills, sessions of dead nodes, and what is to be saved; 1 s

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

func (c Config) withDefaults() Config {
	orElse(&c.MaxSubscriptions, 256)
	orElse(&c.QueueMessages, 256)
	orElse(&c.QueueBytes, 1<<20)
	orElse(&c.Readers, 32)
	orElse(&c.Timeout, 10*time.Second)
	orElse(&c.RetryAfter, 500*time.Millisecond)
	orElse(&c.AskTimeout, 5*time.Second)
	orElse(&c.TakenFor, 2*time.Second)
	orElse(&c.TendEvery, time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func orElse[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
