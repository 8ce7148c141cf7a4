package main

import (
	"context"
	"time"

	"github.com/tributary-iot/tributary/api"
	"github.com/tributary-iot/tributary/command"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/pipeline"
	"github.com/tributary-iot/tributary/storage"
)

// history is where the command service finds what has left the streams: the
// store, once it holds everything the streams held when the question came.
type history struct {
	store     storage.Reader
	persister *pipeline.Persister
}

var _ command.History = history{}

// barrierTimeout bounds the wait for the store; then it answers what there is.
const barrierTimeout = time.Second

func (h history) caughtUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, barrierTimeout)
	defer cancel()
	h.persister.WaitStored(ctx)
}

// Command implements command.History.
func (h history) Command(ctx context.Context, tenant, devicename, id string) (device.CommandRecord, error) {
	h.caughtUp(ctx)
	return h.store.Command(ctx, tenant, devicename, id)
}

// Commands implements command.History.
func (h history) Commands(ctx context.Context, q storage.CommandQuery) (storage.CommandPage, error) {
	h.caughtUp(ctx)
	return h.store.Commands(ctx, q)
}

// stored says how far the store has the command streams, so that what has
// ended may leave them.
func (h history) stored(context.Context) (commands, events uint64, err error) {
	return h.persister.Stored(pipeline.CommandStream), h.persister.Stored(pipeline.CommandEventStream), nil
}

// liveFeed is the API's view of the telemetry stream.
type liveFeed struct{ belt *pipeline.Belt }

var _ api.Feed = liveFeed{}

// Follow implements api.Feed.
func (f liveFeed) Follow(ctx context.Context, tenant, devicename string, after *device.Position, fn func(device.Stored) error) error {
	return f.belt.Follow(ctx, pipeline.FeedQuery{Tenant: tenant, Device: devicename}, after, fn)
}
