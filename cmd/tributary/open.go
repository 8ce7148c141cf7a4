package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/adapters/https"
	"github.com/tributary-iot/tributary/api"
	"github.com/tributary-iot/tributary/command"
	"github.com/tributary-iot/tributary/internal/doorway"
	"github.com/tributary-iot/tributary/pipeline"
	"github.com/tributary-iot/tributary/presence"
	"github.com/tributary-iot/tributary/registry"
)

// open opens the parts from the inside out. Each is entered in h.parts as soon
// as it needs stopping.
func (h *house) open(ctx context.Context) (err error) {
	lock, err := lockData(h.cfg.Data)
	if err != nil {
		return err
	}
	opened := false
	h.add(part{name: "data directory", stop: func(context.Context) error {
		return lock.release(!h.unsound && (opened || !lock.unclean))
	}})
	if err := h.openRecovery(lock.unclean); err != nil {
		return err
	}
	if h.token, err = prepareData(h.cfg.Data); err != nil {
		return err
	}
	if err := h.openTLS(); err != nil {
		return err
	}
	belt, err := h.openBelt(ctx)
	if err != nil {
		return err
	}
	node, err := h.openNode(ctx, belt)
	if err != nil {
		return err
	}
	store, err := h.openKeeper(ctx, belt, node)
	if err != nil {
		return err
	}
	devices, err := h.openRegistry(ctx, belt, node)
	if err != nil {
		return err
	}
	tokens, err := h.openTokens(ctx, belt)
	if err != nil {
		return err
	}
	here, sessions, err := h.openPresence(ctx, belt, node)
	if err != nil {
		return err
	}
	commands, err := h.openCommands(ctx, belt, node, here, store)
	if err != nil {
		return err
	}
	batches, err := h.openBatches(ctx, belt, node, commands, devices)
	if err != nil {
		return err
	}
	h.look(belt, node, store, devices)
	topics, err := h.openTopics(ctx, belt, node, commands)
	if err != nil {
		return err
	}
	common := doorConfig{maxMessageBytes: belt.MaxMessageBytes(), topics: topics, elsewhere: node.Elsewhere}
	g := gate{Replies: belt.Replies(), registry: devices, belt: belt, store: store, commands: commands, presence: here}
	if err := h.openDoors(g, common); err != nil {
		return err
	}
	bridges, err := h.openBridges(g, belt.MaxMessageBytes())
	if err != nil {
		return err
	}
	if err := h.openNATSDoor(ctx); err != nil {
		return err
	}
	needs := api.Needs{
		Devices: devices, Commands: commands, Reader: store,
		Feed: telemetryFeed{belt, store}, Presence: sessionList{sessions, here, h.cfg.NATS == ""}, Tokens: tokens, Barrier: store.barrier, Batches: batches, DeadLetters: letterBox{belt}, Bridges: bridges,
	}
	rest, err := h.openAPI(needs)
	if err != nil {
		return err
	}
	if err := h.openAdmin(rest, scrapers{h.token, tokens.Verify}); err != nil {
		return err
	}
	opened = true
	return h.announce()
}

// openBelt connects to the NATS server named, or starts one in process.
func (h *house) openBelt(ctx context.Context) (*pipeline.Belt, error) {
	began := time.Now()
	options := pipeline.Options{
		URL: h.cfg.NATS, Durability: pipeline.Durability(h.cfg.Durability), Replicas: h.cfg.NATSReplicas,
		Verify: pipeline.Verify{Monitor: h.cfg.NATSMonitor, SystemCreds: h.cfg.NATSSystemCreds}, NodeName: h.cfg.nodeName(), MaxMessageBytes: h.cfg.MaxMessageBytes, StreamBytes: h.cfg.StreamMaxBytes,
		TopicBytes: h.cfg.TopicsMaxBytes, MaxRetained: int64(h.cfg.TopicsMaxRetained), MaxSessions: int64(h.cfg.TopicsMaxSessions),
		Logger: h.log.With("room", "pipeline"), Registerer: h.metrics,
	}
	if h.cfg.NATS == "" {
		server, err := h.startNATS()
		if err != nil {
			return nil, err
		}
		options.Server = server
	}
	belt, err := pipeline.Open(ctx, options)
	if err != nil {
		return nil, err
	}
	h.add(part{name: "pipeline", run: belt.Verify, stop: belt.Close})
	h.add(part{name: "streams", run: belt.Watch})
	if err := h.foundStreams(ctx, belt, began); err != nil {
		return nil, err
	}
	h.durability = string(belt.Durability())
	if h.durability == "trusted" && h.cfg.Durability == "" {
		h.log.Warn("nobody has looked whether the NATS server fsyncs before it acknowledges: say --nats-monitor or --nats-system-creds to verify it, or --durability trusted")
	}
	return belt, nil
}

// openRegistry makes who may speak, on the belt's bucket.
func (h *house) openRegistry(ctx context.Context, belt *pipeline.Belt, node *pipeline.Node) (*registry.Registry, error) {
	pepper, err := registry.LoadPepper(filepath.Join(h.cfg.Data, pepperFile))
	if err != nil {
		return nil, err
	}
	if err := h.sameKey(ctx, node, pepper); err != nil {
		return nil, err
	}
	bucket, err := belt.Registry(ctx)
	if err != nil {
		return nil, err
	}
	devices, err := registry.New(registry.Config{
		Store: bucket, Pepper: pepper, Open: h.cfg.Open, CacheSize: h.cfg.RegistryCache, Logger: h.log.With("room", "registry"), Registerer: h.metrics,
	})
	if err != nil {
		return nil, err
	}
	h.add(part{name: "registry", run: devices.Run, stop: devices.Shutdown})
	return devices, nil
}

// openCommands brings the life of commands into being: what an earlier run left
// SENT is queued again before any door opens.
func (h *house) openCommands(ctx context.Context, belt *pipeline.Belt, node *pipeline.Node, here *presence.Service, store *storeKeeper) (*command.Service, error) {
	began := time.Now()
	leases, err := belt.Leases(ctx)
	if err != nil {
		return nil, err
	}
	service, err := command.New(command.Config{
		Node: h.cfg.nodeName(), Acting: node.Acting, Moved: here.Moved, Alone: h.cfg.NATS == "", Bystander: !h.cfg.has(roleCommand),
		Stored: store.stored, Logger: h.log.With("room", "command"), Registerer: h.metrics,
	}, belt.CommandLog(), belt.Mailbox(), leases, store)
	if err != nil {
		return nil, err
	}
	if err := service.Start(ctx); err != nil {
		return nil, fmt.Errorf("commands: %w", err)
	}
	h.add(part{name: "commands", stop: service.Shutdown})
	h.foundCommands(service, began)
	return service, h.followLeases(ctx, leases, node, service)
}

// openDoors binds every protocol's listeners.
func (h *house) openDoors(g adapters.Gate, common doorConfig) (err error) {
	if common.maxConnections, err = h.cfg.maxConnections(descriptors()); err != nil {
		return err
	}
	for _, d := range doors {
		cfg := common
		cfg.addr, cfg.tlsAddr = d.addr(&h.cfg)
		if cfg.addr == off && cfg.tlsAddr == off || !h.cfg.has(d.role) {
			continue
		}
		if cfg.tlsAddr != off {
			cfg.tls = h.certificate.Devices()
		}
		adapter, err := d.open(cfg, h, g)
		if err != nil {
			return whenTaken(err, takenDoor(err, d.name))
		}
		if carried, ok := adapter.(interface{ ServeConn(net.Conn) }); ok {
			h.web = append(h.web, https.WebSocket{Path: "/" + d.name, Subprotocol: d.name, Serve: carried.ServeConn})
		}
		var at []string
		for name, addr := range adapter.Addrs() {
			h.addresses[name] = addr.String()
			at = append(at, addr.String())
		}
		slices.Sort(at)
		run := h.lookDoor(d.name, strings.Join(at, ", "), func(context.Context) error { return adapter.Serve() })
		h.add(part{name: d.name, run: run, stop: adapter.Shutdown, door: true})
	}
	return nil
}

// openAPI answers nil on a node that is not to answer people and programs.
func (h *house) openAPI(needs api.Needs) (*api.Server, error) {
	if h.cfg.GRPC == off && h.cfg.Admin == off || !h.cfg.has(roleAPI) {
		return nil, nil
	}
	server, err := api.Open(api.Config{
		Addr: h.cfg.GRPC, TLS: h.operatorTLS(h.cfg.GRPC), MaxConnections: maxOperators(descriptors()), Token: h.token, Logger: h.log.With("room", "api"), Registerer: h.metrics,
	}, needs)
	if err != nil {
		return nil, whenTaken(err, "grpc")
	}
	if addr := server.Addr(); addr != nil {
		h.listens("grpc", addr, server.Serve, server.Shutdown)
	} else {
		h.add(part{name: "api", run: func(context.Context) error { return server.Serve() }, stop: server.Shutdown, door: true})
	}
	h.add(part{name: "health", run: h.tellHealth(server.SetHealth)})
	return server, nil
}

func (h *house) openAdmin(rest *api.Server, who scrapers) error {
	if h.cfg.Admin == off {
		return nil
	}
	at := doorway.Config{Name: "admin", Addr: h.cfg.Admin, Max: maxOperators(descriptors()), Refuse: doorway.RefuseHTTP, Logger: h.log.With("room", "admin"), Registerer: h.metrics}
	metrics := promhttp.HandlerFor(h.metrics, promhttp.HandlerOpts{})
	if at.TLS = h.operatorTLS(h.cfg.Admin); at.TLS != nil {
		at.Addr, at.TLSAddr = doorway.Off, at.Addr
		metrics = who.guard(metrics)
	}
	a, err := openAdmin(at, metrics, &h.ready, rest)
	if err != nil {
		return whenTaken(err, "admin")
	}
	h.listens("admin", a.listener.Addr(), a.Serve, a.Shutdown)
	return nil
}

// takenDoor is the flag of the door's listener that an error is about.
func takenDoor(err error, name string) string {
	if strings.HasPrefix(err.Error(), name+"s:") {
		return name + "s"
	}
	return name
}

// whenTaken says what to do when an address is in use.
func whenTaken(err error, flag string) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w: stop what listens there, choose another address with --%s, or say --%s off", err, flag, flag)
	}
	return err
}

// listens enters a part with a listener.
func (h *house) listens(name string, addr net.Addr, serve func() error, shutdown func(context.Context) error) {
	h.addresses[name] = addr.String()
	run := h.lookDoor(name, addr.String(), func(context.Context) error { return serve() })
	h.add(part{name: name, run: run, stop: shutdown, door: true})
}

// announce writes addresses.json, and takes it away first of all when stopping.
func (h *house) announce() error {
	if err := writeAddresses(h.cfg.Data, h.addresses, h.durability); err != nil {
		return err
	}
	h.add(part{name: "addresses", stop: func(context.Context) error { return removeAddresses(h.cfg.Data) }})
	return nil
}
