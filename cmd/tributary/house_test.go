package main

import (
	"context"
	"testing"
	"time"
)

// One peer that will not let its door close must not cost the stream and the
// store their clean end.
func TestAPartThatDoesNotStopLeavesTimeForTheRest(t *testing.T) {
	hangs := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	var inTime []string
	inner := func(name string) part {
		return part{name: name, stop: func(ctx context.Context) error {
			if ctx.Err() == nil {
				inTime = append(inTime, name)
			}
			return nil
		}}
	}
	h := &house{parts: []part{inner("nats"), inner("store"), {name: "mqtt", stop: hangs}, {name: "amqp", stop: hangs}}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := h.stop(ctx); err == nil {
		t.Error("doors that did not stop were not reported")
	}
	if len(inTime) != 2 {
		t.Errorf("only %v still had time to stop", inTime)
	}
}
