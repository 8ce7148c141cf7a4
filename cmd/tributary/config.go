package main

import (
	"errors"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/internal/options"
)

// serveConfig is every option of the server. A field is the whole declaration
// of an option: a key in the configuration file, an environment variable
// TRIBUTARY_… and a flag, in rising precedence, follow from its tags
// (internal/options says which there are; CONTRIBUTING.md how to add one).
type serveConfig struct {
	Config string `key:"-" group:"general" placeholder:"FILE" help:"Read options from this YAML file. The environment and flags say more than it does. \"tributary config check\" tells what is wrong with it."`

	general     `group:"general"`
	nodeFlags   `group:"general"`
	listeners   `group:"listen"`
	encryption  `group:"tls"`
	keeping     `group:"keep"`
	topicLimits `group:"keep"`
	limits      `group:"limits"`
	logging     `group:"log"`

	Bridges []bridgeOptions `kong:"-"` // only the file can say them
}

// lists are the options of the file that are lists of items.
func (c *serveConfig) lists() []options.List {
	return []options.List{options.ListOf("bridges", "Bridges", bridgesHelp, &c.Bridges)}
}

// serveGroups are the headings of the options in --help and in the example file.
func serveGroups() []kong.Group {
	return []kong.Group{
		{Key: "general", Title: "The server:"},
		{Key: "listen", Title: "Doors:", Description: "HOST:PORT, or :PORT for every interface. Port 0 picks a free one; \"off\" closes the door."},
		{Key: "tls", Title: "TLS:", Description: "Of every door with TLS, and of gRPC, admin and NATS off loopback."},
		{Key: "keep", Title: "What is kept, and where:"},
		{Key: "limits", Title: "Limits:"},
		{Key: "log", Title: "Log lines, on standard error, and looking closer:"},
	}
}

type general struct {
	Data string `default:"tributary-data" type:"path" placeholder:"DIR" help:"Directory for everything the server keeps: the stream, the store, keys, addresses.json, admin.token."`
	Open bool   `help:"Let devices in without credentials, into tenant \"default\". Loopback only."`
	Node string `placeholder:"NAME" example:"gateway-1" help:"This node's name in the trail of commands. Default: the host's name."`
}

// listeners are the doors. Port 0 picks a free one, "off" closes the door.
type listeners struct {
	MQTT  string `name:"mqtt" key:"listen.mqtt" type:"address" default:"127.0.0.1:1883" placeholder:"ADDR" help:"MQTT 3.1.1 and 5."`
	AMQP  string `name:"amqp" key:"listen.amqp" type:"address" default:"127.0.0.1:5672" placeholder:"ADDR" help:"AMQP 1.0."`
	HTTP  string `name:"http" key:"listen.http" type:"address" default:"127.0.0.1:8080" placeholder:"ADDR" help:"HTTP for devices; MQTT and AMQP over WebSocket at /mqtt and /amqp."`
	GRPC  string `name:"grpc" key:"listen.grpc" type:"address" default:"127.0.0.1:50051" placeholder:"ADDR" help:"gRPC for programs and this command line. Plain on loopback, with TLS elsewhere."`
	Admin string `name:"admin" key:"listen.admin" type:"address" default:"127.0.0.1:9090" placeholder:"ADDR" help:"Health, metrics and REST. Plain on loopback, with TLS elsewhere."`

	MQTTS        string   `name:"mqtts" key:"listen.mqtts" type:"address" default:":8883" placeholder:"ADDR" help:"MQTT over TLS. With --open and unless said: 127.0.0.1:8883."`
	AMQPS        string   `name:"amqps" key:"listen.amqps" type:"address" default:":5671" placeholder:"ADDR" help:"AMQP over TLS. With --open and unless said: 127.0.0.1:5671."`
	HTTPS        string   `name:"https" key:"listen.https" type:"address" default:":8443" placeholder:"ADDR" help:"HTTP for devices over TLS. With --open and unless said: 127.0.0.1:8443."`
	NATSListen   string   `name:"nats-listen" key:"listen.nats" type:"address" default:"127.0.0.1:4222" placeholder:"ADDR" help:"NATS for stream consumers: user \"reader\", password the operator's token, TELEMETRY only. Not with --nats. Plain on loopback, with TLS elsewhere."`
	MQTTReached  string   `name:"mqtt-reached" key:"listen.mqtt_reached" placeholder:"ADDR" example:"mqtt-a.example:1883" help:"With --nats: HOST:PORT where devices reach this node's MQTT door. A node that stops sends its MQTT 5 clients to another that said this."`
	MQTTSReached string   `name:"mqtts-reached" key:"listen.mqtts_reached" placeholder:"ADDR" example:"mqtt-a.example:8883" help:"The same for MQTT over TLS."`
	WebOrigins   []string `name:"web-origins" key:"listen.web_origins" placeholder:"LIST" example:"https://dashboard.example" help:"Origins of web pages that may open WebSockets, besides the server's own; * for any."`
}

// keeping is where messages are kept, how surely and how long.
type keeping struct {
	Durability      string        `placeholder:"WORD" example:"strict" help:"What an ack means: strict (fsynced), relaxed (written to the operating system), or with --nats trusted (whatever its operator set). Default: strict; with --nats and no means to verify that, trusted."`
	DedupWindow     time.Duration `default:"7d" max:"365d" placeholder:"TIME" help:"For so long a message whose device, key and payload were stored before is not stored again; 0 stores every one."`
	DiskReserve     int64         `type:"size" default:"0" placeholder:"SIZE" help:"Telemetry is taken until the disk has no more free than this; commands and operators go on into half of it. 0: a twentieth of the disk, from 64MiB to 1GiB. Not with --nats."`
	NATS            string        `name:"nats" key:"nats.url" example:"nats://127.0.0.1:4222" placeholder:"URL" help:"Use this NATS server instead of the embedded one. It must have JetStream and fsync always for strict durability. Needs --store."`
	NATSMonitor     []string      `name:"nats-monitor" key:"nats.monitor" placeholder:"LIST" example:"http://127.0.0.1:8222" help:"Verify strict durability at these monitoring addresses: of every server that keeps a copy of the streams."`
	NATSSystemCreds string        `name:"nats-system-creds" key:"nats.system_creds" type:"path" placeholder:"FILE" example:"/etc/tributary/system.creds" help:"Verify strict durability over the system account: a .creds file of one of its users, or one line user:password."`
	NATSReplicas    int           `name:"nats-replicas" key:"nats.replicas" min:"1" max:"5" default:"1" placeholder:"N" help:"With --nats: on how many servers of the cluster each stream is kept; fewer are refused."`
	StreamKeepBytes int64         `key:"stream.keep_bytes" type:"size" default:"4GiB" placeholder:"SIZE" help:"Already stored messages the stream keeps for its readers; fewer where new ones would find no room beside them."`
	StreamMaxBytes  int64         `key:"stream.max_bytes" type:"size" default:"0" placeholder:"SIZE" help:"All telemetry the stream may hold: when the store is so far behind, devices wait and are refused for now. 0: what the disk has."`
	StreamStaging   string        `key:"stream.staging" default:"auto" placeholder:"DIR" help:"Where messages wait while their batch is committed: auto (in memory, where the system has a filesystem for that), off (beside the stream, slower), or a directory, best in memory. No acknowledged message hangs on it. Not with --nats."`
	Store           string        `key:"store.url" example:"sqlite:/var/lib/tributary/rows.db" placeholder:"URL" help:"Where rows go: sqlite:PATH. Default: sqlite in the data directory."`
	StoreName       string        `key:"store.name" placeholder:"NAME" example:"main" help:"Name of the store: of all nodes that name the same, one writes to it and the others stand by. Default: where it is."`
	StoreKeep       []string      `key:"store.keep" placeholder:"LIST" example:"default/thermostat-*/*=last" help:"What of a channel is worth its history: a list of TENANT/DEVICE/CHANNEL=POLICY with * for any characters, of which the first that fits counts. Policies: all; last (only the newest message, and the last value of each measurement); none (not stored; readers of the stream see it). Others: all."`
	StoreMaxAge     time.Duration `key:"store.max_age" default:"0s" placeholder:"AGE" help:"Drop rows older than this, for example 90d; 0 keeps them."`
	StoreMaxBytes   int64         `key:"store.max_bytes" type:"size" default:"0" placeholder:"SIZE" help:"Drop the oldest rows when the store grows past this, for example 200GiB; 0 sets no bound."`

	StoreCommandMaxAge time.Duration `key:"store.command_max_age" default:"0s" placeholder:"AGE" help:"Drop commands that ended so long ago, for example 30d; 0: as old as other rows."`
}

// dedupWindow is DedupWindow as the store wants it: zero is its default there.
func (k *keeping) dedupWindow() time.Duration {
	if k.DedupWindow == 0 {
		return -1
	}
	return k.DedupWindow
}

// limits bound what a device may ask of the server, and how long the server takes.
type limits struct {
	MaxMessageBytes int           `type:"size" min:"1" max:"1MiB" default:"1MiB" placeholder:"SIZE" help:"Largest payload of a message."`
	MaxConnections  int           `min:"0" default:"0" placeholder:"N" help:"Open connections of each door. 0: a quarter of the files this process may have open, at most 50000."`
	RegistryCache   int           `min:"1" default:"65536" placeholder:"N" help:"Devices the registry remembers in memory, about 0.4 KiB each; others are read when they come."`
	DrainTimeout    time.Duration `min:"1ms" default:"20s" placeholder:"TIME" help:"How long a clean stop may take before connections are cut."`
}

type logging struct {
	LogLevel  string `key:"log.level" enum:"debug,info,warn,error" default:"info" help:"Least severe lines to write: debug, info, warn, error."`
	LogFormat string `key:"log.format" enum:"text,json" default:"text" help:"Form of a line: text or json."`

	CPUProfile string `name:"cpu-profile" key:"cpu_profile" type:"path" placeholder:"FILE" example:"/tmp/tributary.pprof" help:"Write to FILE where this process spends its time, until it stops; for \"go tool pprof\"."`
}

// off is what an address says to close its door.
const off = options.Off

// validate refuses what would be unsafe or is not there yet, before anything is
// bound. Each mistake is an options.Wrong, so that it is told where it was said.
func (c *serveConfig) validate() error {
	_, err := c.storePath()
	return errors.Join(c.validateDoors(), c.validateDurability(), c.nodeFlags.validate(c), c.encryption.validate(), c.keeping.validate(), c.validateBridges(), err)
}

// leastStream is the least stream.max_bytes: some of the largest messages.
const leastStream = 16 << 20

func (k *keeping) validate() error {
	if k.StreamMaxBytes > 0 && k.StreamMaxBytes < leastStream {
		return options.Wrongf("stream-max-bytes", "%d bytes hold too few messages; say 16MiB or more, or 0 for what the disk has", k.StreamMaxBytes)
	}
	_, err := k.keepRules()
	return err
}

// keepRules reads StoreKeep.
func (k *keeping) keepRules() (rules device.KeepRules, err error) {
	for _, text := range k.StoreKeep {
		rule, wrong := device.ParseKeepRule(text)
		if wrong != nil {
			err = errors.Join(err, options.Wrongf("store-keep", "%s", device.PublicMessage(wrong)))
		}
		rules = append(rules, rule)
	}
	return rules, err
}

func (c *serveConfig) validateDoors() error {
	var errs []error
	for name, addr := range map[string]string{
		"mqtt": c.MQTT, "amqp": c.AMQP, "http": c.HTTP, "mqtts": c.MQTTS, "amqps": c.AMQPS, "https": c.HTTPS, "nats-listen": c.NATSListen,
	} {
		if c.Open && addr != off && !loopback(addr) {
			errs = append(errs, options.Wrongf(name, "%s with --open would let anybody in from the network; use 127.0.0.1:PORT or leave --open out", addr))
		}
	}
	for name, at := range map[string]string{"mqtt-reached": c.MQTTReached, "mqtts-reached": c.MQTTSReached} {
		host, port, err := net.SplitHostPort(at)
		switch {
		case at == "":
		case err != nil || host == "" || port == "" || port == "0" || len(at) > maxReached || strings.ContainsFunc(at, func(r rune) bool { return r <= ' ' || r > '~' }):
			errs = append(errs, options.Wrongf(name, "%q is not HOST:PORT as devices reach it", at))
		case c.NATS == "":
			errs = append(errs, options.Wrongf(name, "%s is what other nodes tell devices, and there are none without --nats", at))
		}
	}
	return errors.Join(errs...)
}

// maxReached is more than a host's name and a port need.
const maxReached = 300

// validateDurability refuses a promise that nobody could hold us to.
func (c *serveConfig) validateDurability() error {
	looks := len(c.NATSMonitor) > 0 || c.NATSSystemCreds != ""
	switch {
	case !slices.Contains([]string{"", "strict", "relaxed", "trusted"}, c.Durability):
		return options.Wrongf("durability", "must be strict, relaxed or trusted, not %q", options.Redact(c.Durability))
	case c.NATS == "" && looks:
		return options.Wrongf("nats-monitor", "and nats-system-creds are for an external server: the embedded one is known to do what --durability says; leave them out")
	case c.NATS == "" && c.NATSReplicas > 1:
		return options.Wrongf("nats-replicas", "%d needs --nats: the embedded server is one", c.NATSReplicas)
	case c.NATS == "" && c.Durability == "trusted":
		return options.Wrongf("durability", "trusted is for --nats: the embedded server is strict or relaxed")
	case c.NATS != "" && c.Durability == "strict" && !looks:
		return options.Wrongf("durability", "strict with --nats is verified: say --nats-monitor URL or --nats-system-creds FILE, or trusted to take the word of the server's operator")
	}
	for _, at := range c.NATSMonitor {
		if u, err := url.Parse(at); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return options.Wrongf("nats-monitor", "%s is not an address like http://host:8222", options.Redact(at))
		}
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
		return "", options.Wrongf("store", "%s: only sqlite:PATH is built yet", options.Redact(c.Store))
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
	level := new(slog.LevelVar)
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		level.Set(slog.LevelInfo) // only "", which no parser lets through
	}
	handling := &slog.HandlerOptions{Level: level, ReplaceAttr: withoutPasswords}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, handling))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, handling))
}

// withoutPasswords takes the passwords out of URLs, which the errors of clients
// of NATS and databases quote.
func withoutPasswords(_ []string, a slog.Attr) slog.Attr {
	if kind := a.Value.Kind(); kind != slog.KindString && kind != slog.KindAny {
		return a
	}
	if text := a.Value.String(); strings.Contains(text, "://") {
		return slog.String(a.Key, options.Redact(text))
	}
	return a
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
