package main

import (
	"context"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/command"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/pipeline"
	"github.com/tributary-iot/tributary/presence"
	"github.com/tributary-iot/tributary/registry"
)

// gate is the adapters' door to the house: the registry says who somebody is,
// the belt takes telemetry and refusals, the command service takes sessions and
// answers.
type gate struct {
	registry *registry.Registry
	belt     *pipeline.Belt
	commands *command.Service
	presence *presence.Service
}

var _ adapters.Gate = gate{}

// Authenticate implements adapters.Gate.
func (g gate) Authenticate(ctx context.Context, c device.Credential) (device.Principal, error) {
	return g.registry.Authenticate(ctx, c)
}

// Connect implements adapters.Gate.
func (g gate) Connect(s device.Session, end func(device.Leaving)) (func(device.Leaving), error) {
	return g.presence.Connect(s, end)
}

// Submit implements adapters.Gate.
func (g gate) Submit(m *device.Message, done func(error)) error { return g.belt.Submit(m, done) }

// Refused implements adapters.Gate.
func (g gate) Refused(r adapters.Refusal) { g.belt.Refused(r) }

// Attach implements adapters.Gate.
func (g gate) Attach(ctx context.Context, s device.Session, offer func(device.Delivery), lost func()) (adapters.Attachment, error) {
	a, err := g.commands.Attach(ctx, s, offer, lost)
	if err != nil {
		return nil, err
	}
	return attached{a, g.presence.Attached(s)}, nil
}

// attached is an attachment whose device is shown as present.
type attached struct {
	adapters.Attachment
	left func(device.Leaving)
}

// Detach implements adapters.Attachment.
func (a attached) Detach(reason string) {
	a.Attachment.Detach(reason)
	a.left(device.LeftClosed)
}

// Respond implements adapters.Gate.
func (g gate) Respond(r device.Response, done func(error)) { g.commands.Respond(r, done) }
