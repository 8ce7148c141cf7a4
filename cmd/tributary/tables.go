package main

import (
	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/adapters/amqp"
	"github.com/tributary-iot/tributary/adapters/https"
	"github.com/tributary-iot/tributary/adapters/mqtt"
	"github.com/tributary-iot/tributary/storage"
	"github.com/tributary-iot/tributary/storage/sqlite"
)

// door is one protocol: a new one is a line in doors.
type door struct {
	name string
	role string
	addr func(*serveConfig) string
	open func(addr string, maxMessageBytes int, h *house, g adapters.Gate) (adapters.Adapter, error)
}

var doors = []door{
	{"mqtt", roleMQTT, func(c *serveConfig) string { return c.MQTT },
		func(addr string, limit int, h *house, g adapters.Gate) (adapters.Adapter, error) {
			return mqtt.Open(mqtt.Config{Addr: addr, MaxMessageBytes: limit, Logger: h.log.With("room", "mqtt"), Registerer: h.metrics}, g)
		}},
	{"amqp", roleAMQP, func(c *serveConfig) string { return c.AMQP },
		func(addr string, limit int, h *house, g adapters.Gate) (adapters.Adapter, error) {
			return amqp.Open(amqp.Config{Addr: addr, MaxMessageBytes: limit, Logger: h.log.With("room", "amqp"), Registerer: h.metrics}, g)
		}},
	{"http", roleHTTPS, func(c *serveConfig) string { return c.HTTP },
		func(addr string, limit int, h *house, g adapters.Gate) (adapters.Adapter, error) {
			return https.Open(https.Config{Addr: addr, MaxMessageBytes: limit, Logger: h.log.With("room", "https"), Registerer: h.metrics}, g)
		}},
}

// openStore opens the engine that --store names.
func (h *house) openStore() (storage.Store, error) {
	path, err := h.cfg.storePath()
	if err != nil {
		return nil, err
	}
	store, err := sqlite.Open(sqlite.Config{
		Path: path, MaxAge: h.cfg.StoreMaxAge, MaxBytes: h.cfg.StoreMaxBytes, DedupWindow: h.cfg.dedupWindow(),
		Logger: h.log.With("room", "storage"), Registerer: h.metrics,
	})
	if err != nil {
		return nil, err
	}
	return store, nil
}
