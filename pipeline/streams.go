package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// How long a stream remembers message ids, and so how long a publish of unknown
// outcome can be repeated without storing twice. The ids are ours, one for each
// commit; the devices' own keys are the store's business. Our own server may be
// silent for a minute before this process ends itself, and takes up then what
// was sent to it meanwhile: it remembers for as much longer. On a cluster each
// message has an id, and remembering costs about 150 bytes of each.
const (
	dedupWindow    = 30 * time.Second
	ownDedupWindow = 2 * time.Minute
)

func (b *Belt) dedupWindow() time.Duration {
	if b.opts.Server != nil {
		return ownDedupWindow
	}
	return dedupWindow
}

// epochKey is the stream metadata that overrides the epoch (see streamEpoch).
const epochKey = "tributary-epoch"

// defaultDeadLetterBytes bounds DEAD_LETTERS.
const defaultDeadLetterBytes = 256 << 20

// streamConfigs says how each stream must be. TELEMETRY has no byte limit on
// purpose: with one, the server walks every subject in flight for each message.
func (b *Belt) streamConfigs() []jetstream.StreamConfig {
	ours := func(name, root string) jetstream.StreamConfig {
		return jetstream.StreamConfig{
			Name: name, Subjects: []string{root + everything},
			Retention: jetstream.LimitsPolicy, Storage: jetstream.FileStorage, Discard: jetstream.DiscardOld,
			Replicas: b.opts.Replicas, Duplicates: b.dedupWindow(), AllowAtomicPublish: true, AllowDirect: true,
		}
	}
	dead := ours(DeadLetterStream, deadLetterRoot)
	dead.MaxBytes = b.opts.DeadLetterBytes
	topics := ours(TopicStream, topicRoot)
	topics.MaxBytes, topics.MaxMsgs = b.opts.TopicBytes, maxTopicMessages
	return append([]jetstream.StreamConfig{
		ours(TelemetryStream, telemetryRoot), ours(CommandStream, commandRoot),
		ours(CommandEventStream, commandEventRoot), dead, topics,
	}, b.lastValueConfigs(ours)...)
}

// makingPatience is how long the making of a stream may take: it is written to disk
// before it is answered, and a disk that others keep busy takes its time.
const makingPatience = time.Minute

// ensureStreams makes what is missing and checks what is there.
func (b *Belt) ensureStreams(ctx context.Context) error {
	for _, want := range b.streamConfigs() {
		if err := b.ensureStream(ctx, want); err != nil {
			return fmt.Errorf("stream %s: %w", want.Name, err)
		}
	}
	for _, want := range []jetstream.KeyValueConfig{
		{Bucket: DeviceBucket, Storage: jetstream.FileStorage}, {Bucket: TokenBucket, Storage: jetstream.FileStorage},
		{Bucket: BatchBucket, Storage: jetstream.FileStorage},
	} {
		want.History, want.Replicas = 1, b.opts.Replicas
		if err := b.ensureBucket(ctx, want); err != nil {
			return fmt.Errorf("bucket %s: %w", want.Bucket, err)
		}
	}
	return nil
}

func (b *Belt) ensureStream(ctx context.Context, want jetstream.StreamConfig) error {
	b.watch.keep(want.Name)
	ctx, cancel := context.WithTimeout(ctx, makingPatience)
	defer cancel()
	s, err := b.js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = b.js.CreateStream(ctx, want)
		return err
	}
	if err != nil {
		return err
	}
	have := s.CachedInfo().Config
	if err := mismatch(&have, &want); err != nil {
		return err
	}
	if err := keepsEnough(&have, want.Replicas); err != nil {
		return err
	}
	next := have
	next.AllowAtomicPublish, next.AllowDirect, next.Duplicates = true, true, want.Duplicates
	next.MaxBytes, next.MaxMsgs = want.MaxBytes, want.MaxMsgs
	if next.AllowAtomicPublish == have.AllowAtomicPublish && next.AllowDirect == have.AllowDirect && next.Duplicates == have.Duplicates &&
		limit(next.MaxBytes) == limit(have.MaxBytes) && limit(next.MaxMsgs) == limit(have.MaxMsgs) {
		return nil
	}
	b.log.Info("adjusting stream settings", "stream", want.Name)
	_, err = b.js.UpdateStream(ctx, next)
	return err
}

// mismatch names a setting that we neither work with nor dare to change.
func mismatch(have, want *jetstream.StreamConfig) error {
	wrong := func(what string, is, must any) error {
		return fmt.Errorf("exists with %s %v, and we need %v: it was made or changed by somebody else; "+
			"change it back, or delete the stream if what it holds is not needed", what, is, must)
	}
	switch {
	case !slices.Equal(have.Subjects, want.Subjects):
		return wrong("subjects", have.Subjects, want.Subjects)
	case have.Retention != want.Retention:
		return wrong("retention", have.Retention, want.Retention)
	case have.Storage != want.Storage:
		return wrong("storage", have.Storage, want.Storage)
	case have.Discard != want.Discard:
		return wrong("discard policy", have.Discard, want.Discard)
	case have.MaxAge != 0:
		return wrong("maximum age", have.MaxAge, "none, because it would delete messages not stored yet")
	case limit(have.MaxMsgs) != 0 && limit(want.MaxMsgs) == 0:
		return wrong("a maximum of messages", have.MaxMsgs, "none")
	case limit(have.MaxMsgsPerSubject) != limit(want.MaxMsgsPerSubject):
		return wrong("a maximum of messages on a subject", have.MaxMsgsPerSubject, want.MaxMsgsPerSubject)
	case have.AllowMsgTTL != want.AllowMsgTTL:
		return wrong("lifetimes of messages allowed", have.AllowMsgTTL, want.AllowMsgTTL)
	case have.MaxBytes > 0 && want.MaxBytes <= 0:
		return wrong("maximum bytes", have.MaxBytes, "none, because it would delete messages not stored yet")
	case have.Sealed || have.NoAck || have.Mirror != nil:
		return wrong("sealed, no-ack or mirror", "set", "none of them")
	}
	return nil
}

// limit gives a stream limit, 0 for none (which JetStream also writes as -1).
func limit(n int64) int64 { return max(n, 0) }

// ensureBucket makes a bucket that takes atomic batches. Direct reads, which may
// be behind on a cluster, are for listings; single records are read from the leader.
func (b *Belt) ensureBucket(ctx context.Context, want jetstream.KeyValueConfig) error {
	b.watch.keep("KV_" + want.Bucket)
	ctx, cancel := context.WithTimeout(ctx, makingPatience)
	defer cancel()
	kv, err := b.js.KeyValue(ctx, want.Bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		_, err = b.js.CreateStream(ctx, jetstream.StreamConfig{
			Name: "KV_" + want.Bucket, Subjects: []string{"$KV." + want.Bucket + everything},
			MaxMsgsPerSubject: int64(want.History), Storage: want.Storage, Replicas: want.Replicas,
			Discard: jetstream.DiscardNew, AllowRollup: true, DenyDelete: true, MaxMsgSize: -1, MaxBytes: -1, MaxMsgs: -1,
			Duplicates: b.dedupWindow(), AllowAtomicPublish: true, AllowDirect: true,
		})
		return err
	}
	if err != nil {
		return err
	}
	status, err := kv.Status(ctx)
	if err != nil {
		return err
	}
	if status.TTL() != 0 {
		return fmt.Errorf("exists with a time to live of %s, and we need none", status.TTL())
	}
	stream, err := b.js.Stream(ctx, "KV_"+want.Bucket)
	if err != nil {
		return err
	}
	cfg := stream.CachedInfo().Config
	if err := keepsEnough(&cfg, want.Replicas); err != nil {
		return err
	}
	if cfg.AllowAtomicPublish && cfg.AllowDirect {
		return nil
	}
	cfg.AllowAtomicPublish, cfg.AllowDirect = true, true
	_, err = b.js.UpdateStream(ctx, cfg)
	return err
}

// streamEpoch numbers the incarnations of a stream: the time it was created,
// in milliseconds, unless the metadata holds a higher one, which is written
// when a store is found ahead of it (the clock went back).
func streamEpoch(info *jetstream.StreamInfo) uint64 {
	epoch := uint64(max(info.Created.UnixMilli(), 1))
	if n, err := strconv.ParseUint(info.Config.Metadata[epochKey], 10, 64); err == nil {
		epoch = max(epoch, n)
	}
	return epoch
}

// raiseEpoch writes a higher epoch into the stream's metadata.
func (b *Belt) raiseEpoch(ctx context.Context, info *jetstream.StreamInfo, epoch uint64) error {
	cfg := info.Config
	meta := map[string]string{}
	for k, v := range cfg.Metadata {
		meta[k] = v
	}
	meta[epochKey] = strconv.FormatUint(epoch, 10)
	cfg.Metadata = meta
	_, err := b.js.UpdateStream(ctx, cfg)
	return err
}
