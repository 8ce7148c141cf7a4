package main

import (
	"context"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tributary-iot/tributary/api"
	"github.com/tributary-iot/tributary/device"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// deviceCmd is `tributary device`.
type deviceCmd struct {
	Add        deviceAddCmd     `cmd:"" help:"Register a device, gateway or application and print its secret, once."`
	Import     deviceImportCmd  `cmd:"" help:"Register many at once from a file and print their secrets."`
	Label      deviceLabelCmd   `cmd:"" help:"Say what a device is, so that many can be meant at once."`
	List       deviceListCmd    `cmd:"" help:"Print the devices of a tenant."`
	Show       deviceShowCmd    `cmd:"" help:"Print one device, its credentials and where it is connected."`
	Disable    deviceDisableCmd `cmd:"" help:"Refuse a device from now on and end its connections; its credentials are kept."`
	Enable     deviceEnableCmd  `cmd:"" help:"Let a disabled device in again."`
	Rm         deviceRmCmd      `cmd:"" help:"Forget a device and its credentials; what it sent stays stored."`
	Rotate     deviceRotateCmd  `cmd:"" help:"Replace a device's secret and print the new one, once."`
	Credential credentialCmd    `cmd:"" help:"Give a device further credentials, and take them away."`
}

// deviceArg is a command about one device.
type deviceArg struct {
	clientFlags
	Name string `arg:"" help:"The device: NAME, or NAME@TENANT."`
}

// act calls the server with the device's resource name.
func (d *deviceArg) act(app *kong.Context, do func(*client, string) error) error {
	id, err := d.device(d.Name)
	if err != nil {
		return err
	}
	return d.with(app, func(c *client) error { return do(c, api.DeviceName(id.Tenant, id.Device)) })
}

type deviceAddCmd struct {
	deviceArg
	Kind   string   `enum:"device,gateway,application" default:"device" help:"device: speaks for itself. gateway: also for the devices of --for. application: reads telemetry, sends commands, speaks for no device."`
	Cert   certFile `placeholder:"FILE" help:"PEM file of the client certificate it will show; then no secret is made. Its key counts: a renewed certificate of the same key goes on working."`
	Labels []string `name:"label" env:"-" placeholder:"K=V" help:"A label, or the name of a group it is in; may be said again."`
	For    string   `placeholder:"PATTERN" help:"Devices a gateway may speak for: names separated by commas, where * stands for any characters, such as floor1-*,roof."`
}

// Help is shown by `tributary device add --help`.
func (deviceAddCmd) Help() string {
	return `The secret is generated, 256 bits, and shown this once: the server keeps only a
keyed hash of it. The device shows NAME (or NAME@TENANT) as its user name and
the secret as its password, on every protocol. With --cert it shows that client
certificate instead, over TLS, and needs no user name.

Examples:
  tributary device add thermo-1
  mosquitto_pub -u thermo-1 -P trib_… -t thermo-1/telemetry -m '{"temperature":21.5}'
  tributary device add gateway-1 --kind gateway --for 'floor1-*' --cert gateway-1.pem`
}

// Run registers the device.
func (d *deviceAddCmd) Run(ctx context.Context, app *kong.Context) error {
	id, err := d.device(d.Name)
	if err != nil {
		return err
	}
	labels, _, err := parseLabels(d.Labels)
	if err != nil {
		return err
	}
	return d.with(app, func(c *client) error {
		made, err := c.devices.CreateDevice(ctx, &pb.CreateDeviceRequest{
			Parent: api.TenantName(id.Tenant), DeviceId: id.Device,
			Kind: kindToProto(d.Kind), Pattern: d.For, CertificateKey: d.Cert.key, Labels: labels,
		})
		if err == nil && made.GetSecret() == "" {
			return c.printDevice(made, nil)
		}
		return c.printSecret(made, err)
	})
}

type deviceRotateCmd struct {
	deviceArg
	Overlap time.Duration `default:"0s" placeholder:"D" help:"Let the old secret go on for so long beside the new one, such as 24h."`
}

// Help is shown by `tributary device rotate --help`.
func (deviceRotateCmd) Help() string {
	return `All secrets are replaced by one new; certificates stay. Without --overlap the old
secret opens nothing from now on, and the connections it opened are ended within
a second; with it, both happen when the time is over.

Example:
  tributary device rotate thermo-1 --overlap 24h`
}

// Run replaces the secret.
func (d *deviceRotateCmd) Run(ctx context.Context, app *kong.Context) error {
	return d.act(app, func(c *client, name string) error {
		return c.printSecret(c.devices.RotateSecret(ctx, &pb.RotateSecretRequest{Name: name, Overlap: durationpb.New(d.Overlap)}))
	})
}

type deviceListCmd struct {
	clientFlags
	Selector string `env:"-" short:"l" placeholder:"SELECTOR" help:"Only devices whose labels match: k=v, k!=v, k in (a,b), k notin (a,b), group, !group; all of them, separated by commas."`
}

// Help is shown by `tributary device list --help`.
func (deviceListCmd) Help() string {
	return `Up to 1,000 devices are sorted by name; of more, each 1,000 are.

Example:
  tributary device list --tenant acme -o json
  tributary device list --selector 'site in (berlin,paris),!retired'`
}

// Run prints all pages.
func (d *deviceListCmd) Run(ctx context.Context, app *kong.Context) error {
	return d.with(app, func(c *client) error {
		c.deviceHead()
		for token := ""; ; {
			page, err := c.devices.ListDevices(ctx, &pb.ListDevicesRequest{
				Parent: api.TenantName(d.Tenant), PageSize: 1000, PageToken: token, Selector: d.Selector,
			})
			if err != nil {
				return err
			}
			for _, found := range page.GetDevices() {
				if err := c.deviceRow(found); err != nil {
					return err
				}
			}
			if token = page.GetNextPageToken(); token == "" {
				break
			}
		}
		if c.out.headless() {
			if d.Selector != "" {
				c.out.none("No device of tenant %s matches; `tributary device label` labels one.", d.Tenant)
				return nil
			}
			c.out.none("No devices of tenant %s yet: `tributary device add NAME%s` makes one.", d.Tenant, d.again())
		}
		return nil
	})
}

type deviceShowCmd struct{ deviceArg }

// Help is shown by `tributary device show --help`.
func (deviceShowCmd) Help() string {
	return `With -o json it prints the device and its credentials; "presence" prints where it
is connected.

Example:
  tributary device show thermo-1
  tributary presence --device thermo-1 -o json`
}

// Run prints the device.
func (d *deviceShowCmd) Run(ctx context.Context, app *kong.Context) error {
	return d.act(app, func(c *client, name string) error {
		found, err := c.devices.GetDevice(ctx, &pb.GetDeviceRequest{Name: name})
		if err := c.printDevice(found, err); err != nil || c.out.json {
			return err
		}
		if err := c.printCredentials(found.GetCredentials()); err != nil {
			return err
		}
		if err := c.out.close(); err != nil { // the table before has columns of its own
			return err
		}
		return c.listSessions(ctx, pb.NewPresenceServiceClient(c.conn), name, "It is not connected.")
	})
}

type deviceDisableCmd struct{ deviceArg }

// Help is shown by `tributary device disable --help`.
func (deviceDisableCmd) Help() string {
	return `Within a second its connections are ended, on every node and protocol, and new
ones refused in the same words as an unknown device's; no gateway may speak for
it. "device enable" lets it in again with the credentials it has.

Example:
  tributary device disable thermo-1`
}

// Run disables the device.
func (d *deviceDisableCmd) Run(ctx context.Context, app *kong.Context) error {
	return d.act(app, func(c *client, name string) error {
		return c.printDevice(c.devices.DisableDevice(ctx, &pb.DisableDeviceRequest{Name: name}))
	})
}

type deviceEnableCmd struct{ deviceArg }

// Help is shown by `tributary device enable --help`.
func (deviceEnableCmd) Help() string {
	return `Example:
  tributary device enable thermo-1`
}

// Run enables the device.
func (d *deviceEnableCmd) Run(ctx context.Context, app *kong.Context) error {
	return d.act(app, func(c *client, name string) error {
		return c.printDevice(c.devices.EnableDevice(ctx, &pb.EnableDeviceRequest{Name: name}))
	})
}

type deviceRmCmd struct{ deviceArg }

// Help is shown by `tributary device rm --help`.
func (deviceRmCmd) Help() string {
	return `A device of the same name may be added again later; it gets a secret of its own.

Example:
  tributary device rm thermo-1`
}

// Run removes the device. It prints nothing with -o json.
func (d *deviceRmCmd) Run(ctx context.Context, app *kong.Context) error {
	return d.act(app, func(c *client, name string) error {
		if _, err := c.devices.DeleteDevice(ctx, &pb.DeleteDeviceRequest{Name: name}); err != nil || c.out.json {
			return err
		}
		return c.out.line("%s removed", d.Name)
	})
}

func (c *client) printSecret(d *pb.Device, err error) error {
	if err != nil {
		return err
	}
	if c.out.json {
		return c.out.object(d)
	}
	for _, row := range [][2]string{{"device", d.GetDevice()}, {"tenant", d.GetTenant()}, {"secret", d.GetSecret()}} {
		if err := c.out.row(row[0], row[1]); err != nil {
			return err
		}
	}
	c.out.note("Keep the secret now: it is not shown again.")
	return nil
}

func (c *client) printDevice(d *pb.Device, err error) error {
	if err != nil {
		return err
	}
	c.deviceHead()
	return c.deviceRow(d)
}

func (c *client) deviceHead() {
	c.out.head("DEVICE", "TENANT", "KIND", "FOR", "STATE", "CREATED", "CHANGED", "LABELS")
}

func (c *client) deviceRow(d *pb.Device) error {
	if c.out.json {
		return c.out.object(d)
	}
	state := "enabled"
	if d.GetDisabled() {
		state = "disabled"
	}
	return c.out.row(d.GetDevice(), d.GetTenant(), kindWord(d.GetKind()), orDash(d.GetPattern()), state,
		moment(d.GetCreateTime()), moment(d.GetUpdateTime()), orDash(device.Labels(d.GetLabels()).String()))
}

// kindToProto reads a kind as it is typed; the command line has checked it.
func kindToProto(kind string) pb.PrincipalKind {
	return pb.PrincipalKind(pb.PrincipalKind_value["PRINCIPAL_KIND_"+strings.ToUpper(kind)])
}

// kindWord is a kind as people read it.
func kindWord(k pb.PrincipalKind) string {
	return strings.ToLower(strings.TrimPrefix(k.String(), "PRINCIPAL_KIND_"))
}
