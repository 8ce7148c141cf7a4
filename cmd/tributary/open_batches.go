package main

import (
	"context"

	"github.com/tributary-iot/tributary/batch"
	"github.com/tributary-iot/tributary/command"
	"github.com/tributary-iot/tributary/pipeline"
	"github.com/tributary-iot/tributary/registry"
)

// openBatches makes one command to many devices; nodes with the role command drive.
func (h *house) openBatches(ctx context.Context, belt *pipeline.Belt, node *pipeline.Node, commands *command.Service, devices *registry.Registry) (*batch.Service, error) {
	bucket, err := belt.Batches(ctx)
	if err != nil {
		return nil, err
	}
	service := batch.New(batch.Config{
		Acting: node.Acting, Lives: node.Lives, Bystander: !h.cfg.has(roleCommand), Logger: h.log.With("room", "batch"),
	}, bucket, commands, devices)
	h.add(part{name: "batches", run: service.Run, stop: service.Shutdown})
	return service, nil
}
