package main

import (
	"cmp"
	"context"
	"fmt"

	"github.com/tributary-iot/tributary/api"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	"github.com/tributary-iot/tributary/normalize"
	"github.com/tributary-iot/tributary/pipeline"
)

// letterBox is the API's view of the dead letters. A replay goes the way of a
// message that comes in at a door: normalize, then Submit.
//
// It may be interrupted anywhere and repeated. The letter is removed only once
// its message is acknowledged; when that did not happen, the next replay submits
// a message with the same key and payload, which the store keeps once.
type letterBox struct{ belt *pipeline.Belt }

var _ api.DeadLetters = letterBox{}

// Letters implements api.DeadLetters.
func (b letterBox) Letters(ctx context.Context, q device.DeadLetterQuery) ([]device.DeadLetter, device.Position, error) {
	return b.belt.DeadLetters(ctx, q)
}

// Letter implements api.DeadLetters.
func (b letterBox) Letter(ctx context.Context, tenant string, at device.Position) (device.DeadLetter, error) {
	return b.belt.DeadLetter(ctx, tenant, at)
}

// Remove implements api.DeadLetters.
func (b letterBox) Remove(ctx context.Context, at device.Position) error {
	return b.belt.RemoveDeadLetter(ctx, at)
}

// Replay implements api.DeadLetters.
func (b letterBox) Replay(ctx context.Context, l device.DeadLetter) error {
	messages, err := readAgain(&l)
	if err != nil {
		return err
	}
	for _, m := range messages {
		if err := b.submit(ctx, m); err != nil {
			return err
		}
	}
	return b.belt.RemoveDeadLetter(ctx, l.Position)
}

// readAgain makes the messages of a letter: one, unless it is a batch of events.
func readAgain(l *device.DeadLetter) (messages []*device.Message, err error) {
	if l.Message == nil {
		return nil, device.Errorf(device.Precondition, "the letter cannot be replayed: %s", whyNot(l))
	}
	m := *l.Message
	messages = []*device.Message{&m}
	if l.Stream == "" && normalize.IsBatch(m.ContentType) {
		messages, err = normalize.Batch(&m)
	} else {
		err = normalize.Message(&m)
	}
	if err != nil {
		return nil, err
	}
	key := l.ReplayKey(devicepb.EncodePosition)
	for i, m := range messages {
		if len(messages) > 1 {
			key = fmt.Sprintf("%s/%d", l.ReplayKey(devicepb.EncodePosition), i)
		}
		m.Key = cmp.Or(m.Key, key)
	}
	return messages, nil
}

func whyNot(l *device.DeadLetter) string {
	switch {
	case l.Length > len(l.Raw):
		return fmt.Sprintf("only the first %d of its %d bytes were kept", len(l.Raw), l.Length)
	case l.Stream != "" && l.Stream != pipeline.TelemetryStream:
		return "it is no telemetry"
	case l.Stream != "":
		return "it is not a message this release can read"
	}
	return "not its payload but its address, properties or size was refused, or an earlier release wrote it"
}

// submit waits until the message is stored as durably as configured.
func (b letterBox) submit(ctx context.Context, m *device.Message) error {
	done := make(chan error, 1)
	if err := b.belt.Submit(m, func(err error) { done <- err }); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
