package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tributary-iot/tributary/internal/durable"
	"github.com/tributary-iot/tributary/internal/options"
)

// The roles a node may have.
const (
	roleMQTT    = "mqtt"
	roleAMQP    = "amqp"
	roleHTTPS   = "https"
	rolePersist = "persist"
	roleCommand = "command"
	roleAPI     = "api"
	roleBridge  = "bridge"
)

var allRoles = []string{roleMQTT, roleAMQP, roleHTTPS, rolePersist, roleCommand, roleAPI, roleBridge}

// nodeFlags say what part this node has among several.
type nodeFlags struct {
	Roles       []string      `enum:"mqtt,amqp,https,persist,command,api,bridge" default:"mqtt,amqp,https,persist,command,api,bridge" placeholder:"LIST" help:"What this node runs: mqtt, amqp, https (the doors), persist (the store), command (deadlines and tidying), api (gRPC), bridge (the bridges to other brokers). The doors of roles left out are closed."`
	NodeTimeout time.Duration `min:"1s" max:"10m" default:"10s" placeholder:"TIME" help:"With --nats: a node that is silent for so long is dead, and others take over; it stops acting after half."`
}

func (f *nodeFlags) has(role string) bool { return slices.Contains(f.Roles, role) }

// validate refuses what needs to be said when several nodes share a NATS server.
func (f *nodeFlags) validate(c *serveConfig) error {
	switch {
	case len(f.Roles) == 0:
		return options.Wrongf("roles", "is empty: name at least one of %s", strings.Join(allRoles, ", "))
	case c.NATS == "" && !f.has(rolePersist):
		return options.Wrongf("roles", "without persist needs --nats: with the embedded server nobody else could store what this node takes")
	case c.NATS != "" && f.has(rolePersist) && c.Store == "":
		return options.Wrongf("nats", "needs --store, or --roles without persist: say where this node keeps rows, for example --store sqlite:%s, "+
			"or leave that to another node", filepath.Join(c.Data, "store", "tributary.db"))
	case c.Store != "" && !f.has(rolePersist):
		return options.Wrongf("store", "without the role persist this node would never write to it; leave one of them out")
	case c.StoreName != "" && !f.has(rolePersist):
		return options.Wrongf("store-name", "without the role persist this node has no store")
	}
	return nil
}

// identityFile tells an earlier life of this node from another of its name.
const identityFile = "node.id"

// loadIdentity reads the data directory's identity, and makes it on first use.
func loadIdentity(dir string) (string, error) {
	path := filepath.Join(dir, identityFile)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		id := rand.Text()
		return id, durable.WriteFile(path, []byte(id+"\n"), 0o600)
	}
	if err != nil {
		return "", fmt.Errorf("node identity: %w", err)
	}
	return strings.TrimSpace(string(raw)), nil
}
