package main

import (
	"context"

	"github.com/tributary-iot/tributary/api"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/pipeline"
)

// storedCommands says how far the store has the command streams, so that what
// has ended may leave them.
func storedCommands(p *pipeline.Persister) func(context.Context) (commands, events uint64, err error) {
	return func(context.Context) (commands, events uint64, err error) {
		return p.Stored(pipeline.CommandStream), p.Stored(pipeline.CommandEventStream), nil
	}
}

// liveFeed is the API's view of the telemetry stream.
type liveFeed struct{ belt *pipeline.Belt }

var _ api.Feed = liveFeed{}

// Follow implements api.Feed.
func (f liveFeed) Follow(ctx context.Context, tenant, devicename string, after *device.Position, fn func(device.Stored) error) error {
	return f.belt.Follow(ctx, pipeline.FeedQuery{Tenant: tenant, Device: devicename}, after, fn)
}
