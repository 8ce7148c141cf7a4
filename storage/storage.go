// Package storage states what a store must do: take batches of what the stream
// holds, exactly once per stream position, and answer questions about them.
// Stores are dumb and fast: the belt (package pipeline) knows retry, back-off
// and dead letters; a store writes this batch or says why not.
//
// Every engine is one folder below and proves itself with storagetest.Test.
// Engines may import device/devicepb, because what they keep of a message is
// the stream's own bytes (Message.Body).
//
// Times are compared, ordered and, but for those within a message's own body,
// kept in whole microseconds, rounded down: as PostgreSQL does. All messages of
// a store come from one stream; command events may come from several.
package storage

import (
	"context"
	"errors"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// Errors a store's Write answers; anything else is an outage, to be retried.
var (
	// ErrPosition means Batch.From is not the stored position: another writer
	// was here, or this one is behind. Read Position and go on from there.
	ErrPosition = errors.New("storage: batch does not start at the stored position")

	// ErrEpoch means Batch.Epoch is older than the stored one.
	ErrEpoch = errors.New("storage: batch is of an older epoch than the stored position")
)

// Store keeps what the streams hold.
type Store interface {
	Reader

	// Write stores the batch and moves the position of its stream to
	// {Epoch, To}, in one transaction, durable when it returns. The position
	// must equal {Epoch, From} (ErrPosition). A first batch of a higher epoch
	// has From 0 and is taken whatever the stored sequence was; rows of
	// the older epoch stay readable. A message with a key that repeats one stored
	// less than the store's dedup window before, in stream time (7 days unless
	// configured), with the same tenant, device, key and payload, is not stored
	// again, whatever its epoch, and counts as written: the position moves. With
	// another payload it is stored. A Message the engine cannot take at all
	// is its *device.Error of code Invalid, wrapped in a *BadMessage. The store
	// keeps no memory of the batch: its slices may be used again.
	Write(ctx context.Context, b Batch) error

	// Position is where the stream's next batch must start; zero for a
	// stream never written.
	Position(ctx context.Context, stream string) (device.Position, error)

	// Close seals nothing and loses nothing; a second call does nothing.
	Close() error
}

// BadMessage names the one message of a batch that can never be stored, so
// that the belt dead-letters it and goes on.
type BadMessage struct {
	Seq uint64
	Err error
}

func (e *BadMessage) Error() string { return "storage: message cannot be stored: " + e.Err.Error() }

// Unwrap gives the reason.
func (e *BadMessage) Unwrap() error { return e.Err }

// Batch is a stretch of one stream: everything after From up to and including
// To. Sequences may have gaps (purged or dead-lettered messages), so To may lie
// past the last row, and a batch may hold no row at all.
type Batch struct {
	Stream   string
	Epoch    uint64
	From, To uint64
	Messages []Message
	Events   []device.StoredEvent
}

// Message is one telemetry message to store, in stream order within a batch.
type Message struct {
	Seq      uint64
	StoredAt time.Time       // the stream's clock: partitions and retention go by it
	Message  *device.Message // decoded from Body
	Body     []byte          // the stream's own bytes: devicepb.MarshalMessage

	// Last says that the history of its device and channel is not worth keeping:
	// of the messages there that say so, Messages, After, Points and Buckets answer only
	// the one stored last, which stays whatever its age. Latest answers the last
	// value of each series, whichever of them brought it, and what carries a key
	// is stored once like any other. Messages of one channel should all say the
	// same; where that has changed, of points with equal time any may win.
	Last bool
}

// Reader answers questions. What Write returned for is visible at once.
type Reader interface {
	// Messages answers the newest q.Limit messages that match, oldest first,
	// ordered by (received time, position).
	Messages(ctx context.Context, q MessageQuery) (MessagePage, error)

	// After answers a tenant's messages after a position, in stream order: at
	// most q.Limit of them, and fewer when they are large; none only when there
	// are no more.
	After(ctx context.Context, q AfterQuery) ([]device.Stored, error)

	// Points answers the measurements of one series in [Since, Until), oldest
	// first, at most Limit of them, the newest when there are more. Of points
	// with equal time the one stored last wins. Kinds may be mixed.
	Points(ctx context.Context, q PointQuery) ([]Point, error)

	// Buckets answers the same points in buckets of equal length, oldest first,
	// without the empty ones: at most Limit of them, the newest when there are
	// more. Memory is bounded by Limit, not by how many points are in a bucket.
	Buckets(ctx context.Context, q BucketQuery) ([]Bucket, error)

	// Latest answers the last value of every series of one device (device set)
	// or of the tenant (device empty), ordered by device, channel, name.
	// A measurement dated more than 10 minutes after its stream time counts as
	// of its stream time, and is answered with it, so that a wrong clock does
	// not stick. Of equal times the one stored last wins. Devices without
	// values do not count against Limit.
	Latest(ctx context.Context, q LatestQuery) ([]LatestValue, error)

	// Command answers a command by id with its events, or an *device.Error of
	// code NotFound. devicename may be empty. Transitions stored before their
	// request wait unseen until it comes; a repeated request changes nothing.
	Command(ctx context.Context, tenant, devicename, id string) (device.CommandRecord, error)

	// Commands lists a tenant's commands, newest first, by (created, id).
	Commands(ctx context.Context, q CommandQuery) (CommandPage, error)

	// Events answers the command events of a tenant (and device, when set)
	// after a position, in stream order.
	Events(ctx context.Context, q EventQuery) ([]device.StoredEvent, error)
}

// MessageQuery asks for messages of one device.
type MessageQuery struct {
	Tenant, Device string
	Channel        *string   // nil: every channel
	Name           string    // only messages with this measurement; others of the message are left out
	Since, Until   time.Time // received time in [Since, Until); zero: unbounded
	Limit          int       // 1 to 10,000
	Cursor         string    // MessagePage.Next of the page before; the other fields unchanged
}

// MessagePage is one answer to a MessageQuery.
type MessagePage struct {
	Messages []device.Stored
	Next     string // asks for the messages before these; "" when there are none
}

// AfterQuery asks for messages of all devices of a tenant in stream order.
type AfterQuery struct {
	Tenant string
	After  device.Position // zero: from the first that is kept
	Limit  int             // 1 to 10,000
}

// PointQuery asks for one series.
type PointQuery struct {
	Tenant, Device, Channel, Name string
	Since, Until                  time.Time // measurement time; zero: unbounded
	Limit                         int       // 1 to 100,000
}

// Point is one value of a series.
type Point struct {
	Time  time.Time
	Value device.Value
}

// BucketQuery asks for one series in buckets.
type BucketQuery struct {
	Tenant, Device, Channel, Name string
	Since, Until                  time.Time     // measurement time; zero: unbounded
	Step                          time.Duration // length of a bucket: whole microseconds
	Limit                         int           // buckets, 1 to 10,000
}

// Bucket sums up the points of a series in [Start, Start+Step). Start is a
// whole number of steps after 1970-01-01 00:00 UTC, whatever Since is; the
// points are only those in [Since, Until), so the first and the last bucket may
// be cut by them.
type Bucket struct {
	Start       time.Time
	Count       int64 // points of any kind, at least 1
	First, Last Point

	// Numbers is how many of the points are doubles or integers, NaN left out.
	// The next three are of those, as doubles, and zero when there are none.
	// Points are added newest first, so that a sum is the same each time.
	Numbers       int64
	Min, Max, Sum float64
}

// LatestQuery asks for last values.
type LatestQuery struct {
	Tenant, Device string // Device "" asks for the whole tenant
	After          string // device name to start after; pages a whole tenant
	Limit          int    // devices, 1 to 1,000; ignored when Device is set
}

// LatestValue is the newest value of a series: (device, channel, name); its
// kind is the newest value's.
type LatestValue struct {
	Device, Channel string
	device.Measurement
	Position device.Position
}

// CommandQuery asks for commands.
type CommandQuery struct {
	Tenant, Device string                // Device "": all
	States         []device.CommandState // where they stand now; empty: all
	Limit          int                   // 1 to 1,000
	Cursor         string                // CommandPage.Next
	Key            string                // of the page, only those sent with this key; empty: all
}

// CommandPage is one answer to a CommandQuery.
type CommandPage struct {
	Records []device.CommandRecord
	Next    string
}

// EventQuery asks for command events in stream order.
type EventQuery struct {
	Tenant, Device string
	Stream         string
	After          device.Position
	Limit          int // 1 to 10,000
}
