package main

import (
	"context"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tributary-iot/tributary/command"
	"github.com/tributary-iot/tributary/pipeline"
)

// recovery tells what a start found of the run before it, part by part, and how
// long reading it took.
type recovery struct {
	unclean bool // the run before was not stopped cleanly
	seconds *prometheus.GaugeVec
}

// openRecovery says whether the run before was stopped cleanly.
func (h *house) openRecovery(unclean bool) error {
	h.recovery.unclean = unclean
	h.recovery.seconds = prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "tributary", Subsystem: "recovery",
		Name: "seconds", Help: "How long it took at the start to read what a part held."}, []string{"part"})
	was := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "tributary", Subsystem: "recovery",
		Name: "unclean", Help: "1 if the run before was not stopped cleanly, else 0."})
	if unclean {
		was.Set(1)
		h.log.Warn("the server was not stopped cleanly the last time; what it acknowledged is read again", "data", h.cfg.Data)
	}
	for _, c := range []prometheus.Collector{h.recovery.seconds, was} {
		if err := h.metrics.Register(c); err != nil {
			return err
		}
	}
	return nil
}

// took notes how long a part's reading took.
func (r *recovery) took(part string, began time.Time) time.Duration {
	took := time.Since(began)
	r.seconds.WithLabelValues(part).Set(took.Seconds())
	return took.Round(time.Millisecond)
}

func (h *house) foundStreams(ctx context.Context, belt *pipeline.Belt, began time.Time) error {
	stats, err := belt.Stats(ctx)
	if err != nil {
		return err
	}
	telemetry := stats[0]
	h.log.Info("found the stream", "stream", telemetry.Stream, "messages", telemetry.Messages, "bytes", telemetry.Bytes,
		"epoch", telemetry.Last.Epoch, "last", telemetry.Last.Seq, "took", h.recovery.took("stream", began))
	return nil
}

// foundStore also says for which streams the epoch guard had to step in.
func (h *house) foundStore(name string, s *heldStore, began time.Time) {
	var messages, keys int64
	if hot, ok := s.Store.(interface {
		Recovered() (messages, keys int64)
	}); ok {
		messages, keys = hot.Recovered()
	}
	guarded := "none"
	if streams := s.persister.Guarded(); len(streams) > 0 {
		guarded = strings.Join(streams, ", ")
	}
	at := s.persister.Positions()[pipeline.TelemetryStream]
	h.log.Info("found the store", "store", name, "epoch", at.Epoch, "stored", at.Seq, "messages", messages, "keys", keys,
		"guarded", guarded, "took", h.recovery.took("store", began))
}

func (h *house) foundCommands(service *command.Service, began time.Time) {
	commands, events := service.Folded()
	h.log.Info("found the commands", "commands", commands, "events", events, "took", h.recovery.took("commands", began))
}
