package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"

	"github.com/tributary-iot/tributary/command"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/pipeline"
	"github.com/tributary-iot/tributary/presence"
)

// openNode enters this node among those that share the NATS server.
func (h *house) openNode(ctx context.Context, belt *pipeline.Belt) (*pipeline.Node, error) {
	identity, err := loadIdentity(h.cfg.Data)
	if err != nil {
		return nil, err
	}
	node, err := belt.Join(ctx, pipeline.NodeOptions{
		Identity: identity, Roles: h.cfg.Roles, Reached: map[string]string{"mqtt": h.cfg.MQTTReached, "mqtts": h.cfg.MQTTSReached}, Timeout: h.cfg.NodeTimeout,
	})
	if err != nil {
		return nil, err
	}
	h.add(part{name: "node", stop: node.Leave})
	return node, nil
}

// sameKey refuses a node whose key for hashing secrets is not that of the
// others: it would turn every device away, and they those registered through it.
func (h *house) sameKey(ctx context.Context, node *pipeline.Node, key []byte) error {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("tributary: which key is it"))
	err := node.Agree(ctx, "registry-key", hex.EncodeToString(mac.Sum(nil)[:16]))
	if device.CodeOf(err) == device.Conflict {
		return fmt.Errorf("the nodes that were here first hash the secrets of devices with another key: copy %s from the data directory of one of them to %s",
			pepperFile, filepath.Join(h.cfg.Data, pepperFile))
	}
	return err
}

// openPresence makes who is here, and what ends a session from outside its door.
func (h *house) openPresence(ctx context.Context, belt *pipeline.Belt, node *pipeline.Node) (*presence.Service, *pipeline.Presence, error) {
	log, err := belt.Presence(ctx, node)
	if err != nil {
		return nil, nil, err
	}
	h.add(part{name: "presence streams", stop: log.Close})
	service, err := presence.New(presence.Config{
		Node: h.cfg.nodeName(), Acting: func() error { _, err := node.Acting(); return err },
		Logger: h.log.With("room", "presence"), Registerer: h.metrics,
	}, log)
	if err != nil {
		return nil, nil, err
	}
	node.OnLost(func() { service.EndAll(device.LeftNodeLost) })
	h.add(part{name: "presence", run: service.Run, stop: service.Shutdown})
	h.add(part{name: "memory", run: func(ctx context.Context) error { return giveBackMemory(ctx, service.Here) }})
	return service, log, h.follow(ctx, "the list of sessions", func(ctx context.Context, ready func()) error {
		return log.FollowList(ctx, ready, service.Heard)
	})
}

// followLeases tells the command room what other nodes do with leases.
func (h *house) followLeases(ctx context.Context, leases pipeline.Leases, node *pipeline.Node, commands *command.Service) error {
	node.OnGone(func(gone pipeline.NodeInfo) {
		commands.NodeGone(gone.Name, func() bool {
			for _, n := range node.Nodes() {
				if n.Name == gone.Name {
					return true
				}
			}
			return false
		})
	})
	return h.follow(ctx, "the leases", func(ctx context.Context, ready func()) error {
		return leases.Follow(ctx, ready, func(l pipeline.LeaseNews) {
			switch {
			case l.Ours:
			case l.Released:
				commands.FreedElsewhere(l.Device)
			default:
				commands.TakenElsewhere(l.Device, l.Epoch, l.Node, l.Via == "")
			}
		})
	})
}

// follow runs a reader until the house stops, and returns once it has begun, so
// that nothing that happens after is missed.
func (h *house) follow(ctx context.Context, what string, read func(ctx context.Context, ready func()) error) error {
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	begun, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- read(run, func() { close(begun) }) }()
	h.add(part{name: what, stop: func(ctx context.Context) error {
		stop()
		select {
		case <-ended:
		case <-ctx.Done():
		}
		return nil
	}})
	select {
	case <-begun:
		return nil
	case err := <-ended:
		ended <- err
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
