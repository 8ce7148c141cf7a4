package main

import (
	"crypto/tls"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/adapters/amqp"
	"github.com/tributary-iot/tributary/adapters/https"
	"github.com/tributary-iot/tributary/adapters/mqtt"
	"github.com/tributary-iot/tributary/storage"
	"github.com/tributary-iot/tributary/storage/sqlite"
)

// door is one protocol: a new one is a line in doors.
type door struct {
	name string // of its listener, its metrics and its WebSocket; with an s, of the listener with TLS
	role string
	addr func(*serveConfig) (plain, secure string)
	open func(d doorConfig, h *house, g adapters.Gate) (adapters.Adapter, error)
}

// doorConfig is what the doors have in common.
type doorConfig struct {
	addr, tlsAddr   string // off: no such listener
	tls             *tls.Config
	maxMessageBytes int
	maxConnections  int
	topics          adapters.Topics
	elsewhere       func(door string) string
}

// doors are opened in this order: the protocols that HTTP carries over
// WebSockets come before it.
var doors = []door{
	{"mqtt", roleMQTT, func(c *serveConfig) (string, string) { return c.MQTT, c.MQTTS },
		func(d doorConfig, h *house, g adapters.Gate) (adapters.Adapter, error) {
			return mqtt.Open(mqtt.Config{
				Addr: d.addr, TLSAddr: d.tlsAddr, TLS: d.tls, MaxConnections: d.maxConnections, MaxMessageBytes: d.maxMessageBytes, Topics: d.topics, MaxSessionExpiry: h.cfg.TopicsSessionExpiry,
				MaxBehindBytes: int(h.cfg.TopicsBehindBytes), Elsewhere: d.elsewhere,
				Logger: h.log.With("room", "mqtt"), Registerer: h.metrics,
			}, g)
		}},
	{"amqp", roleAMQP, func(c *serveConfig) (string, string) { return c.AMQP, c.AMQPS },
		func(d doorConfig, h *house, g adapters.Gate) (adapters.Adapter, error) {
			return amqp.Open(amqp.Config{
				Addr: d.addr, TLSAddr: d.tlsAddr, TLS: d.tls, MaxConnections: d.maxConnections, MaxMessageBytes: d.maxMessageBytes,
				Logger: h.log.With("room", "amqp"), Registerer: h.metrics,
			}, g)
		}},
	{"http", roleHTTPS, func(c *serveConfig) (string, string) { return c.HTTP, c.HTTPS },
		func(d doorConfig, h *house, g adapters.Gate) (adapters.Adapter, error) {
			return https.Open(https.Config{
				Addr: d.addr, TLSAddr: d.tlsAddr, TLS: d.tls, MaxConnections: d.maxConnections, MaxMessageBytes: d.maxMessageBytes,
				WebSockets: h.web, Origins: h.cfg.WebOrigins, Logger: h.log.With("room", "https"), Registerer: h.metrics,
			}, g)
		}},
}

// openStore opens the engine that --store names.
func (h *house) openStore() (storage.Store, error) {
	path, err := h.cfg.storePath()
	if err != nil {
		return nil, err
	}
	store, err := sqlite.Open(sqlite.Config{
		Path: path, MaxAge: h.cfg.StoreMaxAge, CommandMaxAge: h.cfg.StoreCommandMaxAge, MaxBytes: h.cfg.StoreMaxBytes, DedupWindow: h.cfg.dedupWindow(),
		Logger: h.log.With("room", "storage"), Registerer: h.metrics,
	})
	if err != nil {
		return nil, err
	}
	return store, nil
}
