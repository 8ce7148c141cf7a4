package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/tributary-iot/tributary/adapters/https"
	"github.com/tributary-iot/tributary/internal/tlsfiles"
	"github.com/tributary-iot/tributary/pipeline/embedded"
)

// house is the running server:
//
//	mqtt ─┐            ┌─ authenticate ─► registry ─► DEVICES bucket
//	amqp ─┼─► gate ────┼─ submit ───────► belt ─► TELEMETRY ─► persister ─► store
//	http ─┘            └─ attach ───────► commands ─► COMMANDS, COMMAND_EVENTS
//	                                         ▲                    └─► persister ─► store
//	grpc ─► api ─────────────────────────────┘ reads the store and the belt's feed
//
// Its parts are opened from the inside out: server, belt, store, persister,
// registry, commands, then the doors; and stopped in mirror order, the doors
// together, so that a door never outlives what it hands messages to.
type house struct {
	cfg     serveConfig
	log     *slog.Logger
	metrics *prometheus.Registry

	addresses  map[string]string // of every open door
	durability string            // what an acknowledgement means, as addresses.json says it
	token      string            // the operator's
	nats       *embedded.Server  // nil: somebody else runs it
	web        []https.WebSocket // of the doors opened so far

	certificate *tlsfiles.Source // nil: nothing speaks TLS
	ready       readiness
	recovery    recovery
	parts       []part
	unsound     bool // a part did not stop: what it left is to be recovered
}

// part is something with a life of its own.
type part struct {
	name string
	run  func(ctx context.Context) error // works until stop or the end of ctx; nil: needs no goroutine
	stop func(ctx context.Context) error // finishes what was begun; nil: the end of run's ctx is enough
	door bool                            // takes connections: all doors close at once
}

// openHouse opens every part, binds every listener and writes addresses.json.
// What was opened is closed again when a later part fails.
func openHouse(ctx context.Context, cfg serveConfig, log *slog.Logger) (*house, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	h := &house{cfg: cfg, log: log, metrics: prometheus.NewRegistry(), addresses: map[string]string{}}
	h.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := h.open(ctx); err != nil {
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.DrainTimeout)
		defer cancel()
		return nil, errors.Join(err, h.stop(cleanup))
	}
	return h, nil
}

func (h *house) add(p part) { h.parts = append(h.parts, p) }

// serve runs every part until ctx ends or one of them fails, then drains.
func (h *house) serve(ctx context.Context) error {
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	failed := make(chan error, len(h.parts))
	var parts sync.WaitGroup
	for _, p := range h.parts {
		if p.run == nil {
			continue
		}
		parts.Go(func() {
			if err := p.run(running); err != nil {
				failed <- fmt.Errorf("%s: %w", p.name, err)
			}
		})
	}
	h.log.Info("ready", "addresses", h.addresses, "data", h.cfg.Data, "durability", h.durability, "open", h.cfg.Open)
	var err error
	select {
	case <-ctx.Done():
		h.log.Info("draining: nothing new is accepted; what was accepted is finished", "limit", h.cfg.DrainTimeout)
	case err = <-failed:
		h.log.Error("a part failed; stopping", "error", err)
	}
	stopping, cancelStop := context.WithTimeout(context.WithoutCancel(ctx), h.cfg.DrainTimeout)
	defer cancelStop()
	err = errors.Join(err, h.stop(stopping))
	cancel()
	parts.Wait()
	if err == nil {
		h.log.Info("stopped")
	}
	return err
}

// stop stops the parts in mirror order of opening. A second call does nothing.
func (h *house) stop(ctx context.Context) error {
	var errs []error
	var doors []part // seen, and not stopped yet
	for _, p := range slices.Backward(h.parts) {
		switch {
		case p.stop == nil:
		case p.door:
			doors = append(doors, p)
		default: // what stands behind the doors ends when all of them are closed
			errs = append(errs, stopTogether(ctx, doors))
			h.unsound = h.unsound || errors.Join(errs...) != nil
			errs = append(errs, stopTogether(ctx, []part{p}))
			doors = nil
		}
	}
	h.parts = nil
	return errors.Join(append(errs, stopTogether(ctx, doors))...)
}

// stopTogether stops the parts at the same time, so that one that waits for a
// slow peer does not keep the others open.
func stopTogether(ctx context.Context, parts []part) error {
	share, cancel := halfOf(ctx)
	defer cancel()
	errs := make([]error, len(parts))
	var closing sync.WaitGroup
	for i, p := range parts {
		closing.Go(func() {
			if err := p.stop(share); err != nil {
				errs[i] = fmt.Errorf("stop %s: %w", p.name, err)
			}
		})
	}
	closing.Wait()
	return errors.Join(errs...)
}

// halfOf ends when half of what ctx has left is over. So one peer that does not
// let its door close cannot take the time in which the other doors acknowledge
// and the stream and the store close cleanly.
func halfOf(ctx context.Context) (context.Context, context.CancelFunc) {
	end, limited := ctx.Deadline()
	if !limited {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(end)/2)
}
