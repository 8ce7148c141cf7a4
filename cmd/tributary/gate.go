package main

import (
	"context"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/command"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/pipeline"
	"github.com/tributary-iot/tributary/presence"
	"github.com/tributary-iot/tributary/registry"
	"github.com/tributary-iot/tributary/storage"
)

// gate is the adapters' door to the house: the registry says who somebody is,
// the belt takes telemetry and refusals, the command service takes sessions and
// answers.
type gate struct {
	pipeline.Replies
	registry *registry.Registry
	belt     *pipeline.Belt
	store    storage.Reader
	commands *command.Service
	presence *presence.Service
}

var _ adapters.Gate = gate{}

// Authenticate implements adapters.Gate.
func (g gate) Authenticate(ctx context.Context, c device.Credential) (device.Principal, error) {
	return g.registry.Authenticate(ctx, c)
}

// Connect implements adapters.Gate.
func (g gate) Connect(p device.Principal, s device.Session, end func(device.Leaving)) (func(device.Leaving), error) {
	stay, err := g.presence.Connect(s, end)
	if err != nil {
		return nil, err
	}
	release := g.registry.Hold(p, func(error) { go stay.End(device.LeftDisabled) })
	return func(why device.Leaving) {
		release()
		stay.Leave(why)
	}, nil
}

// Submit implements adapters.Gate. A device is known by its connection; one that
// a gateway speaks for is asked about here, so that disabling it counts.
func (g gate) Submit(m *device.Message, done func(error)) error {
	if m.Via != "" {
		if err := g.registry.MayBeSpokenFor(context.Background(), m.ID()); err != nil {
			return err
		}
		g.commands.Spoke(m.ID(), m.Via)
	}
	return g.belt.Submit(m, done)
}

// Refused implements adapters.Gate.
func (g gate) Refused(r adapters.Refusal) { g.belt.Refused(r) }

// Attach implements adapters.Gate.
func (g gate) Attach(ctx context.Context, s device.Session, offer func(device.Delivery), lost func()) (adapters.Attachment, error) {
	if s.Via != "" {
		if err := g.registry.MayBeSpokenFor(ctx, s.Device); err != nil {
			return nil, err
		}
	}
	a, err := g.commands.Attach(ctx, s, offer, lost)
	if err != nil {
		return nil, err
	}
	held := attached{a, g.presence.Attached(s), func() {}}
	if held.shown == nil && s.Via == "" {
		return a, nil
	}
	if s.Via != "" {
		held.release = g.registry.HoldDevice(s.Device, func(error) {
			go func() {
				a.Detach("the device is disabled")
				lost()
			}()
		})
	}
	return held, nil
}

// attached is an attachment of a device that is not at the door itself: it may be
// shown as present, and end when the device is disabled.
type attached struct {
	adapters.Attachment
	shown   *presence.Stay // nil: it is shown already
	release func()         // of the device a gateway attached for
}

// Detach implements adapters.Attachment.
func (a attached) Detach(reason string) {
	a.release()
	a.Attachment.Detach(reason)
	a.shown.Leave(device.LeftClosed)
}

// Respond implements adapters.Gate.
func (g gate) Respond(r device.Response, done func(error)) {
	if r.Via != "" {
		if err := g.registry.MayBeSpokenFor(context.Background(), r.Device); err != nil {
			go done(err)
			return
		}
	}
	g.commands.Respond(r, done)
}
