package main

import (
	"context"
	"path/filepath"

	"github.com/tributary-iot/tributary/pipeline"
	"github.com/tributary-iot/tributary/pipeline/embedded"
	"github.com/tributary-iot/tributary/pipeline/natsdoor"
)

// startNATS starts the server in process.
func (h *house) startNATS() (*embedded.Server, error) {
	staging := h.cfg.StreamStaging
	if staging == "auto" {
		staging = ""
	}
	server, err := embedded.Start(embedded.Options{
		Dir: filepath.Join(h.cfg.Data, "nats"), Durability: embedded.Durability(h.cfg.Durability), Unclean: h.recovery.unclean, Reserve: h.cfg.DiskReserve, Staging: staging,
		Readers: h.readers(), Logger: h.log.With("room", "nats"), Registerer: h.metrics,
	})
	if err != nil {
		return nil, err
	}
	h.nats = server
	h.add(part{name: "nats", run: server.Run, stop: server.Shutdown})
	return server, nil
}

// readers is what the server offers stream consumers; nil when their door is closed.
func (h *house) readers() *embedded.Readers {
	if h.cfg.NATSListen == off {
		return nil
	}
	return &embedded.Readers{Addr: h.cfg.NATSListen, Password: h.token, Open: h.cfg.Open, TLS: h.operatorTLS(h.cfg.NATSListen), Stream: pipeline.TelemetryStream}
}

// openNATSDoor lets stream consumers in. A server that somebody else runs has
// its own doors.
func (h *house) openNATSDoor(ctx context.Context) error {
	if h.nats == nil || h.cfg.NATSListen == off {
		return nil
	}
	porter, err := natsdoor.Open(ctx, natsdoor.Config{
		Server: h.nats, Stream: pipeline.TelemetryStream, Root: pipeline.TelemetryRoot,
		Inbox: embedded.Inbox, Delivery: embedded.Delivery,
		Logger: h.log.With("room", "natsdoor"), Registerer: h.metrics,
	})
	if err != nil {
		return err
	}
	h.add(part{name: "nats door", stop: porter.Close, door: true})
	addr, err := h.nats.Listen()
	if err != nil {
		return whenTaken(err, "nats-listen")
	}
	h.addresses["nats"] = addr.String()
	h.ready.add("nats door", func() (string, error) { return addr.String(), porter.Healthy() })
	return nil
}
