package pipeline

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/device"
)

// Listing the bucket. The keys of a tenant are read shard by shard, as many
// shards at once as answer about a page, so that neither a tenant of ten nor one
// of a million costs more than what is shown.

// maxLastMessages is how many messages the server answers at once; when a
// request matches more, it answers none.
const maxLastMessages = 1024

// maxListRequest bounds a request, which lists a filter for each shard.
const maxListRequest = 64 << 10

// listTimeout bounds the wait for one message of an answer.
const listTimeout = 10 * time.Second

// errTooMany means that a request matched more than maxLastMessages.
var errTooMany = errors.New("pipeline: too many records for one answer")

// record is one key of the bucket with its value.
type record struct {
	shard int
	id    device.ID
	value []byte
	rev   uint64
}

// List calls each for the records of a tenant, in order of shards and, within
// one, of names. A cursor is the shard and the name of the last record shown.
func (r *Registry) List(ctx context.Context, tenant, cursor string, limit int, each func(device.ID, []byte, uint64) error) (next string, err error) {
	from, after, err := parseCursor(cursor)
	if err != nil {
		return "", err
	}
	last := ""
	widest := max(1, maxListRequest/(len(deviceRecordFilter(0, tenant))+len(`"",`)))
	for width := 1; from < shards; {
		width = min(width, widest, shards-from)
		found, err := r.inShards(ctx, tenant, from, width)
		if errors.Is(err, errTooMany) {
			width = max(1, width/2)
			continue
		}
		if err != nil {
			return "", err
		}
		for _, rec := range found {
			if rec.shard == from && rec.id.Device <= after {
				continue
			}
			if limit == 0 {
				return last, nil
			}
			limit--
			if err := each(rec.id, rec.value, rec.rev); err != nil {
				return "", err
			}
			last = fmt.Sprintf("%03x%s", rec.shard, rec.id.Device)
		}
		from, after = from+width, ""
		if len(found) < maxLastMessages/4 {
			width *= 2
		}
	}
	return "", nil
}

func parseCursor(cursor string) (shard int, after string, err error) {
	if cursor == "" {
		return 0, "", nil
	}
	n, err := strconv.ParseUint(cursor[:min(3, len(cursor))], 16, 16)
	if err != nil || len(cursor) < 4 {
		return 0, "", device.Errorf(device.Invalid, "this is no place in the list of devices; begin anew")
	}
	return int(n), cursor[3:], nil
}

// inShards reads a tenant's records of some shards, sorted.
func (r *Registry) inShards(ctx context.Context, tenant string, from, width int) ([]record, error) {
	filters := make([]string, width)
	for i := range filters {
		filters[i] = deviceRecordFilter(from+i, tenant)
	}
	found, err := r.lastMessages(ctx, filters)
	if errors.Is(err, errTooMany) && width == 1 {
		found, err = r.bigShard(ctx, filters[0])
	}
	slices.SortFunc(found, func(a, b record) int {
		return cmp.Or(cmp.Compare(a.shard, b.shard), cmp.Compare(a.id.Device, b.id.Device))
	})
	return found, err
}

// bigShard reads a shard that holds more than one answer does, by its keys.
func (r *Registry) bigShard(ctx context.Context, filter string) (all []record, err error) {
	s, err := r.b.rjs.Stream(ctx, DeviceStream)
	if err != nil {
		return nil, fmt.Errorf("pipeline: list devices: %w", err)
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return nil, fmt.Errorf("pipeline: list devices: %w", err)
	}
	subjects := make([]string, 0, len(info.State.Subjects))
	for subject := range info.State.Subjects {
		subjects = append(subjects, subject)
	}
	for some := range slices.Chunk(subjects, maxLastMessages/2) {
		found, err := r.lastMessages(ctx, some)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// lastMessages reads the records that match, deleted ones left out.
func (r *Registry) lastMessages(ctx context.Context, filters []string) (found []record, err error) {
	request, err := json.Marshal(map[string]any{"multi_last": filters, "batch": maxLastMessages})
	if err != nil {
		return nil, err
	}
	inbox := r.b.rnc.NewInbox()
	sub, err := r.b.rnc.SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("pipeline: list devices: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := r.b.rnc.PublishRequest("$JS.API.DIRECT.GET."+DeviceStream, inbox, request); err != nil {
		return nil, fmt.Errorf("pipeline: list devices: %w", err)
	}
	for {
		wait, cancel := context.WithTimeout(ctx, listTimeout)
		m, err := sub.NextMsgWithContext(wait)
		cancel()
		if err != nil {
			return nil, fmt.Errorf("pipeline: list devices: %w", err)
		}
		switch status := m.Header.Get("Status"); status {
		case "":
		case "204", "404": // the end, or nothing there
			return found, nil
		case "413":
			return nil, errTooMany
		default:
			return nil, fmt.Errorf("pipeline: list devices: NATS answered %s %s", status, m.Header.Get("Description"))
		}
		if rec, ok := recordOf(m); ok {
			found = append(found, rec)
		}
	}
}

func recordOf(m *nats.Msg) (rec record, ok bool) {
	id, err := parseDeviceKey(strings.TrimPrefix(m.Header.Get(jetstream.SubjectHeader), deviceBucketRoot))
	rev, errRev := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
	if err != nil || errRev != nil || marker(m.Header) {
		return rec, false
	}
	return record{shard: shardOf(id), id: id, value: m.Data, rev: rev}, true
}
