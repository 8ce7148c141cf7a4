package main

import (
	"context"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
)

var (
	_ adapters.Applications = gate{}
	_ adapters.Replies      = gate{}
)

// Subscribe implements adapters.Applications.
func (g gate) Subscribe(ctx context.Context, s adapters.Subscription, offer func(adapters.Telemetry), lost func(error)) (adapters.Feed, error) {
	return g.belt.Subscribe(ctx, g.store, s, offer, lost)
}

// SendCommand implements adapters.Applications.
func (g gate) SendCommand(ctx context.Context, c device.Command) (device.CommandRecord, error) {
	return g.commands.Send(ctx, c)
}

// WatchCommand implements adapters.Applications.
func (g gate) WatchCommand(ctx context.Context, id device.ID, command string, fn func(device.CommandRecord) error) error {
	return g.commands.Watch(ctx, id, command, fn)
}
