package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// serveConfig is every option of the server. Each is a flag and an environment
// variable TRIBUTARY_…; the flag wins.
type serveConfig struct {
	Data       string `default:"tributary-data" type:"path" placeholder:"DIR" help:"Directory for everything the server keeps: the stream, the store, keys, addresses.json, admin.token."`
	Open       bool   `help:"Let devices in without credentials, into tenant \"default\". Loopback only."`
	NATS       string `name:"nats" placeholder:"URL" help:"Use this NATS server instead of the embedded one. It must have JetStream and fsync always for strict durability. Needs --store."`
	Store      string `placeholder:"URL" help:"Where rows go: sqlite:PATH. Default: sqlite in the data directory."`
	Durability string `enum:"strict,relaxed" default:"strict" help:"What an ack means: strict (fsynced) or relaxed (written to the operating system)."`
	Node       string `placeholder:"NAME" help:"This node's name in the trail of commands. Default: the host's name."`

	nodeFlags
	listeners
	limits

	LogLevel  slog.Level `default:"info" help:"Least severe log lines to write: debug, info, warn, error."`
	LogFormat string     `enum:"text,json" default:"text" help:"Form of log lines on standard error: text or json."`
}

// listeners are the doors. Port 0 picks a free one, "off" closes the door.
type listeners struct {
	MQTT  string `name:"mqtt" default:"127.0.0.1:1883" placeholder:"ADDR" help:"MQTT 3.1.1 and 5."`
	AMQP  string `name:"amqp" default:"127.0.0.1:5672" placeholder:"ADDR" help:"AMQP 1.0."`
	HTTP  string `name:"http" default:"127.0.0.1:8080" placeholder:"ADDR" help:"HTTP for devices."`
	GRPC  string `name:"grpc" default:"127.0.0.1:50051" placeholder:"ADDR" help:"gRPC for programs and this command line. Loopback only until it speaks TLS."`
	Admin string `name:"admin" default:"127.0.0.1:9090" placeholder:"ADDR" help:"Health and metrics. Loopback only until it speaks TLS."`

	MQTTS      string `name:"mqtts" default:"off" placeholder:"ADDR" help:"MQTT over TLS: not built yet, only \"off\"."`
	AMQPS      string `name:"amqps" default:"off" placeholder:"ADDR" help:"AMQP over TLS: not built yet, only \"off\"."`
	HTTPS      string `name:"https" default:"off" placeholder:"ADDR" help:"HTTPS: not built yet, only \"off\"."`
	NATSListen string `name:"nats-listen" default:"127.0.0.1:4222" placeholder:"ADDR" help:"NATS for stream consumers: user \"reader\", password the operator's token, TELEMETRY only. Not with --nats. Loopback only until it speaks TLS."`
}

// limits bound what a device may ask of the server and what the server keeps.
type limits struct {
	MaxMessageBytes int           `default:"1048576" placeholder:"N" help:"Largest payload of a message, in bytes; at most 1048576."`
	StreamKeepBytes int64         `default:"4294967296" placeholder:"N" help:"Already stored messages the stream keeps for its readers, in bytes."`
	RegistryCache   int           `default:"65536" placeholder:"N" help:"Devices the registry remembers in memory, about 0.4 KiB each; others are read when they come."`
	StoreMaxAge     time.Duration `default:"0s" placeholder:"D" help:"Drop rows older than this; 0 keeps them."`
	StoreMaxBytes   int64         `default:"0" placeholder:"N" help:"Drop the oldest rows when the store grows past this; 0 sets no bound."`
	DrainTimeout    time.Duration `default:"20s" placeholder:"D" help:"How long a clean stop may take before connections are cut."`
}

// off is what an address says to close its door.
const off = "off"

// validate refuses what would be unsafe or is not there yet, before anything is bound.
func (c *serveConfig) validate() error {
	for name, addr := range map[string]string{"mqtts": c.MQTTS, "amqps": c.AMQPS, "https": c.HTTPS} {
		if addr != off {
			return fmt.Errorf("--%s: this door is not built yet; leave it out or say --%s off", name, name)
		}
	}
	for name, addr := range map[string]string{"grpc": c.GRPC, "admin": c.Admin, "nats-listen": c.NATSListen} {
		if addr != off && !loopback(addr) {
			return fmt.Errorf("--%s %s: only a loopback address is safe until this door speaks TLS; use 127.0.0.1:PORT and a tunnel", name, addr)
		}
	}
	for name, addr := range map[string]string{"mqtt": c.MQTT, "amqp": c.AMQP, "http": c.HTTP} {
		if c.Open && addr != off && !loopback(addr) {
			return fmt.Errorf("--%s %s with --open would let anybody in from the network; use 127.0.0.1:PORT or leave --open out", name, addr)
		}
	}
	if err := c.nodeFlags.validate(c); err != nil {
		return err
	}
	if c.MaxMessageBytes < 1 || c.MaxMessageBytes > 1<<20 {
		return fmt.Errorf("--max-message-bytes %d: choose between 1 and %d", c.MaxMessageBytes, 1<<20)
	}
	if c.RegistryCache < 1 {
		return fmt.Errorf("--registry-cache %d: choose 1 or more", c.RegistryCache)
	}
	if _, err := c.storePath(); err != nil {
		return err
	}
	return nil
}

// storePath is the file of the SQLite store.
func (c *serveConfig) storePath() (string, error) {
	if c.Store == "" {
		return filepath.Join(c.Data, "store", "tributary.db"), nil
	}
	path, ok := strings.CutPrefix(c.Store, "sqlite:")
	if !ok || path == "" {
		return "", fmt.Errorf("--store %s: only sqlite:PATH is built yet", c.Store)
	}
	return path, nil
}

// nodeName is Node, or the host's name.
func (c *serveConfig) nodeName() string {
	if c.Node != "" {
		return c.Node
	}
	name, err := os.Hostname()
	if err != nil {
		return "node"
	}
	return name
}

func (c *serveConfig) logger() *slog.Logger {
	options := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, options))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, options))
}

// loopback reports whether addr can be reached from this machine only.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
