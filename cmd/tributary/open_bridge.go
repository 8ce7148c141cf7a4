package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/adapters/bridge"
	"github.com/tributary-iot/tributary/api"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/internal/options"
)

// bridgesHelp stands above the bridges in the example file.
const bridgesHelp = `Brokers that telemetry is brought in from, and commands taken out to. Each item is one connection over AMQP 1.0: RabbitMQ, ActiveMQ, Azure Service Bus (docs/bridge.md). Only this file can say them.
In templates {address}, {subject}, {to}, {message-id}, {property:KEY}, {annotation:KEY} and others stand for what the message says, {NAME} for a named group of the pattern.`

// bridgeOptions are the options of one bridge.
type bridgeOptions struct {
	Name         string   `example:"plant" help:"What it is called: the name of the gateway that speaks for its devices."`
	Tenant       string   `default:"default" help:"Whose devices they are."`
	URL          string   `name:"url" key:"url" example:"amqps://tributary@rabbit.example:5671" help:"The broker: amqp://USER@HOST:PORT, or amqps:// for TLS. Without USER@ it comes with its certificate (SASL EXTERNAL), or anonymously."`
	PasswordFile string   `example:"/etc/tributary/plant.password" help:"File whose first line is the user's password (SASL PLAIN). It is read at each connect."`
	Hostname     string   `example:"vhost:plant" help:"Name of the host told to the broker. Default: that of the url. RabbitMQ takes a virtual host from it."`
	CAFile       string   `name:"ca-file" key:"ca_file" example:"/etc/tributary/plant-ca.crt" help:"Authorities to trust, in PEM. Default: the system's."`
	CertFile     string   `example:"/etc/tributary/plant.crt" help:"Our certificate, in PEM, where the broker asks for one."`
	KeyFile      string   `example:"/etc/tributary/plant.key" help:"Its key."`
	Receive      []string `example:"/amq/queue/telemetry" help:"Addresses to receive telemetry from."`
	Durable      bool     `help:"Ask the broker to keep what comes while the bridge is away: for the subscription of a topic, and of another Tributary's telemetry."`
	Credit       int      `min:"1" max:"5000" default:"200" help:"Unanswered messages of each address."`
	Match        string   `default:"{subject}" help:"Template of the text that the pattern is held against."`
	Pattern      string   `example:"^(?P<device>[^.]+)\\.telemetry(\\.(?P<channel>.+))?$" help:"Regular expression whose named groups device and channel say whose message it is. A message that does not match is rejected, with a dead letter."`
	Device       string   `example:"{device}" help:"Template of the device's name. Default with a pattern: {device}. Without one for example {annotation:iothub-connection-device-id}."`
	Channel      string   `example:"{channel}" help:"Template of the channel. Default: {channel} with a pattern that has such a group, else none."`
	For          string   `default:"*" help:"Devices the bridge may speak for, as of a gateway: floor1-*,roof. Commands go out for those named without a star, and for the others once they were heard of."`
	Commands     string   `example:"/exchange/amq.topic/{device}.commands" help:"Template of the address of a device's commands; it knows {device}, {name} and {tenant}. Default: none are taken out."`
	CommandsTo   string   `example:"/devices/{device}" help:"Template of the property to of a command, where the broker looks at that."`
	Replies      string   `example:"/amq/queue/replies" help:"Address that answers to commands are read from; commands name it as reply-to."`
}

// links are the bridges in the room's words.
func (c *serveConfig) links() []bridge.Link {
	var all []bridge.Link
	for _, b := range c.Bridges {
		all = append(all, bridge.Link{
			Name: b.Name, Tenant: b.Tenant, URL: b.URL, Hostname: b.Hostname, PasswordFile: absolute(b.PasswordFile),
			CAFile: absolute(b.CAFile), CertFile: absolute(b.CertFile), KeyFile: absolute(b.KeyFile),
			Receive: b.Receive, Durable: b.Durable, Credit: b.Credit, Match: b.Match, Pattern: b.Pattern, Device: b.Device, Channel: b.Channel,
			For: device.Pattern(b.For), Commands: b.Commands, CommandsTo: b.CommandsTo, Replies: b.Replies,
		})
	}
	return all
}

// absolute keeps a path's meaning, should the working directory change.
func absolute(path string) string {
	if full, err := filepath.Abs(path); err == nil && path != "" {
		return full
	}
	return path
}

// validateBridges tells each mistake where it was said.
func (c *serveConfig) validateBridges() error {
	err := bridge.Validate(c.links())
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	var all []error
	for _, one := range joined.Unwrap() {
		var m *bridge.Mistake
		if errors.As(one, &m) {
			one = options.Wrongf(fmt.Sprintf("bridges[%d].%s", m.Link, m.Option), "%s", m.Reason)
		}
		all = append(all, one)
	}
	return errors.Join(all...)
}

// openBridges makes the clients of other brokers. It answers nil when there are
// none here.
func (h *house) openBridges(g adapters.Gate, maxMessageBytes int) (api.Bridges, error) {
	if len(h.cfg.Bridges) == 0 || !h.cfg.has(roleBridge) {
		return nil, nil
	}
	b, err := bridge.Open(bridge.Config{
		Links: h.cfg.links(), ContainerID: "tributary-" + h.cfg.nodeName(), MaxMessageBytes: maxMessageBytes,
		Logger: h.log.With("room", "bridge"), Registerer: h.metrics,
	}, g)
	if err != nil {
		return nil, err
	}
	h.ready.addOutside("bridge", func() (string, error) { return bridgeDetail(b.Status()), b.Down() })
	h.add(part{name: "bridge", run: func(context.Context) error { return b.Serve() }, stop: b.Shutdown, door: true})
	node := h.cfg.nodeName()
	return func(tenant string) []api.Bridge { return bridgesOf(b.Status(), tenant, node) }, nil
}

// bridgeDetail says which bridges are up.
func bridgeDetail(all []bridge.Status) string {
	up := 0
	for _, s := range all {
		if s.State == bridge.Up {
			up++
		}
	}
	return fmt.Sprintf("%d of %d up", up, len(all))
}

// bridgesOf is the API's view of the bridges.
func bridgesOf(all []bridge.Status, tenant, node string) []api.Bridge {
	var out []api.Bridge
	for _, s := range all {
		if s.Tenant != tenant {
			continue
		}
		out = append(out, api.Bridge{
			Tenant: s.Tenant, Name: s.Name, Node: node, URL: s.URL, State: string(s.State), Err: s.Err,
			Since: s.Since.Truncate(time.Millisecond), RetryAt: s.RetryAt.Truncate(time.Millisecond), Receive: s.Receive, Commands: s.Commands,
			Received: s.Received, Accepted: s.Accepted, Rejected: s.Rejected, Released: s.Released, InFlight: s.InFlight,
			Devices: s.Devices, CommandsOut: s.CommandsOut, Answers: s.Answers,
		})
	}
	return out
}
