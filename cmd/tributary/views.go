package main

import (
	"context"
	"strconv"

	"github.com/tributary-iot/tributary/api"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/pipeline"
	"github.com/tributary-iot/tributary/presence"
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

// sessionList is the API's view of who is connected: what this node knows itself where
// there is no other, and else the list of all.
type sessionList struct {
	*pipeline.Presence
	here  *presence.Service
	alone bool
}

var _ api.Presence = sessionList{}

// Sessions implements api.Presence: a cursor is a place on the list.
func (l sessionList) Sessions(ctx context.Context, tenant, devicename, cursor string, limit int) (all []device.PresenceEvent, more string, err error) {
	after := uint64(0)
	if cursor != "" {
		if after, err = strconv.ParseUint(cursor, 36, 64); err != nil {
			return nil, "", device.Errorf(device.Invalid, "page_token is not one this call gave; leave it out to begin anew")
		}
	}
	var next uint64
	if l.alone {
		all, next = l.here.Sessions(tenant, devicename, after, limit)
	} else if all, next, err = l.Presence.Sessions(ctx, tenant, devicename, after, limit); err != nil {
		return nil, "", err
	}
	if next > 0 {
		more = strconv.FormatUint(next, 36)
	}
	return all, more, nil
}
