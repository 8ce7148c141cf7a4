package main

import (
	"context"

	"github.com/alecthomas/kong"

	"github.com/tributary-iot/tributary/api"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// deviceCmd is `tributary device`.
type deviceCmd struct {
	Add     deviceAddCmd     `cmd:"" help:"Register a device and print its secret, once."`
	List    deviceListCmd    `cmd:"" help:"Print the devices of a tenant, by name."`
	Show    deviceShowCmd    `cmd:"" help:"Print one device."`
	Disable deviceDisableCmd `cmd:"" help:"Refuse a device from now on; its secret is kept."`
	Enable  deviceEnableCmd  `cmd:"" help:"Let a disabled device in again."`
	Rm      deviceRmCmd      `cmd:"" help:"Forget a device and its secret; what it sent stays stored."`
	Rotate  deviceRotateCmd  `cmd:"" help:"Replace a device's secret and print the new one, once."`
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

type deviceAddCmd struct{ deviceArg }

// Help is shown by `tributary device add --help`.
func (deviceAddCmd) Help() string {
	return `The secret is generated, 256 bits, and shown this once: the server keeps only a
keyed hash of it. The device shows NAME (or NAME@TENANT) as its user name and
the secret as its password, on every protocol.

Example:
  tributary device add thermo-1
  mosquitto_pub -u thermo-1 -P trib_… -t thermo-1/telemetry -m '{"temperature":21.5}'`
}

// Run registers the device.
func (d *deviceAddCmd) Run(ctx context.Context, app *kong.Context) error {
	id, err := d.device(d.Name)
	if err != nil {
		return err
	}
	return d.with(app, func(c *client) error {
		made, err := c.devices.CreateDevice(ctx, &pb.CreateDeviceRequest{Parent: api.TenantName(id.Tenant), DeviceId: id.Device})
		return c.printSecret(made, err)
	})
}

type deviceRotateCmd struct{ deviceArg }

// Help is shown by `tributary device rotate --help`.
func (deviceRotateCmd) Help() string {
	return `From now on only the new secret opens a connection; one that stands goes on.

Example:
  tributary device rotate thermo-1`
}

// Run replaces the secret.
func (d *deviceRotateCmd) Run(ctx context.Context, app *kong.Context) error {
	return d.act(app, func(c *client, name string) error {
		return c.printSecret(c.devices.RotateSecret(ctx, &pb.RotateSecretRequest{Name: name}))
	})
}

type deviceListCmd struct{ clientFlags }

// Help is shown by `tributary device list --help`.
func (deviceListCmd) Help() string {
	return `Example:
  tributary device list --tenant acme -o json`
}

// Run prints all pages.
func (d *deviceListCmd) Run(ctx context.Context, app *kong.Context) error {
	return d.with(app, func(c *client) error {
		c.deviceHead()
		for token := ""; ; {
			page, err := c.devices.ListDevices(ctx, &pb.ListDevicesRequest{
				Parent: api.TenantName(d.Tenant), PageSize: 1000, PageToken: token,
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
			c.out.none("No devices of tenant %s yet: `tributary device add NAME%s` makes one.", d.Tenant, d.again())
		}
		return nil
	})
}

type deviceShowCmd struct{ deviceArg }

// Help is shown by `tributary device show --help`.
func (deviceShowCmd) Help() string {
	return `Example:
  tributary device show thermo-1`
}

// Run prints the device.
func (d *deviceShowCmd) Run(ctx context.Context, app *kong.Context) error {
	return d.act(app, func(c *client, name string) error {
		return c.printDevice(c.devices.GetDevice(ctx, &pb.GetDeviceRequest{Name: name}))
	})
}

type deviceDisableCmd struct{ deviceArg }

// Help is shown by `tributary device disable --help`.
func (deviceDisableCmd) Help() string {
	return `New connections are refused within a second, in the same words as an unknown
device's. "device enable" lets it in again with the secret it has.

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

func (c *client) deviceHead() { c.out.head("DEVICE", "TENANT", "STATE", "CREATED", "CHANGED") }

func (c *client) deviceRow(d *pb.Device) error {
	if c.out.json {
		return c.out.object(d)
	}
	state := "enabled"
	if d.GetDisabled() {
		state = "disabled"
	}
	return c.out.row(d.GetDevice(), d.GetTenant(), state, moment(d.GetCreateTime()), moment(d.GetUpdateTime()))
}
