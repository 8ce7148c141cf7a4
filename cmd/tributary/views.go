package main

import (
	"context"
	"strconv"

	"github.com/tributary-iot/tributary/api"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/pipeline"
	"github.com/tributary-iot/tributary/storage"
)

// telemetryFeed is the API's view of the telemetry stream.
type telemetryFeed struct {
	belt  *pipeline.Belt
	store storage.Reader // has what the stream no longer keeps
}

var _ api.Feed = telemetryFeed{}

// Follow implements api.Feed.
func (f telemetryFeed) Follow(ctx context.Context, tenant, devicename string, after *device.Position, fn func(device.Stored) error) error {
	return f.belt.Follow(ctx, f.store, pipeline.FeedQuery{Tenant: tenant, Device: devicename}, after, fn)
}

// sessionList is the API's view of who is connected.
type sessionList struct{ *pipeline.Presence }

var _ api.Presence = sessionList{}

// Sessions implements api.Presence: a cursor is a place on the list.
func (l sessionList) Sessions(ctx context.Context, tenant, devicename, cursor string, limit int) ([]device.PresenceEvent, string, error) {
	after := uint64(0)
	if cursor != "" {
		var err error
		if after, err = strconv.ParseUint(cursor, 36, 64); err != nil {
			return nil, "", device.Errorf(device.Invalid, "page_token is not one this call gave; leave it out to begin anew")
		}
	}
	all, next, err := l.Presence.Sessions(ctx, tenant, devicename, after, limit)
	if err != nil || next == 0 {
		return all, "", err
	}
	return all, strconv.FormatUint(next, 36), nil
}
