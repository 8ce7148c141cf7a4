package main

import (
	"context"
	"slices"
	"time"

	"github.com/alecthomas/kong"

	"github.com/tributary-iot/tributary/api"
	"github.com/tributary-iot/tributary/device"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// queryCmd is `tributary query`.
type queryCmd struct {
	clientFlags
	Device  string      `required:"" env:"-" placeholder:"DEVICE" help:"The device: NAME, or NAME@TENANT."`
	Name    string      `env:"-" placeholder:"NAME" help:"Only messages that measured this, showing only it."`
	Channel *string     `env:"-" placeholder:"CHANNEL" help:"Only this channel; \"\" is the device's main channel."`
	Since   instantFlag `env:"-" placeholder:"WHEN" help:"Received since: a duration back from now (1h, 7d) or a time (2026-05-01T12:00:00Z)."`
	Until   instantFlag `env:"-" placeholder:"WHEN" help:"Received before, said the same way."`
	Limit   int         `env:"-" default:"100" placeholder:"N" help:"The newest so many messages, or buckets."`

	Step time.Duration `env:"-" default:"0s" placeholder:"D" help:"Instead of messages, the values of --name in buckets this long (5m, 24h), begun at midnight UTC where the length divides a day."`
	Agg  []string      `env:"-" enum:"avg,min,max,sum,count,first,last" default:"avg,min,max,count" placeholder:"LIST" help:"What of each bucket: avg, min, max, sum, count, first, last."`
}

// Help is shown by `tributary query --help`.
func (queryCmd) Help() string {
	return `Prints the newest N messages that match, oldest first. What was acknowledged to a
device before is waited for, up to a second. With -o json each line is one message with its payload
(base64), its measurements and its position, which "tributary tail --from" takes.

Example, the last hour's temperatures:
  tributary query --device thermo-1 --name temperature --since 1h --limit 1000

With --step the answer is the values of one measurement in buckets of equal length, by the time they were
measured; empty buckets are left out. avg, min, max and sum are of the numbers, count, first and last of
values of any kind:
  tributary query --device thermo-1 --name temperature --since 1d --step 5m --agg avg,max`
}

// Run collects pages, newest first, and prints them oldest first.
func (q *queryCmd) Run(ctx context.Context, app *kong.Context) error {
	id, err := q.device(q.Device)
	if err != nil {
		return err
	}
	if err := checkLimit(q.Limit); err != nil {
		return err
	}
	if q.Step != 0 {
		return q.with(app, func(c *client) error { return q.aggregate(ctx, c, id) })
	}
	req := &pb.QueryRequest{
		Parent: api.DeviceName(id.Tenant, id.Device), Channel: q.Channel, Measurement: q.Name,
		Since: q.Since.proto(), Until: q.Until.proto(),
	}
	return q.with(app, func(c *client) error {
		pages, err := c.pages(ctx, req, q.Limit)
		if err != nil {
			return err
		}
		if len(pages) == 1 && len(pages[0]) == 0 {
			c.out.none("Nothing of %s matches; `tributary latest%s` shows who has said what.", id, q.again())
			return nil
		}
		c.out.head("RECEIVED", "CHANNEL", "PROTOCOL", "VALUES")
		for _, page := range slices.Backward(pages) {
			for _, m := range page {
				if err := c.messageRow(m); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// pages answers the newest limit messages: newest page first, each oldest first.
func (c *client) pages(ctx context.Context, req *pb.QueryRequest, limit int) (pages [][]*pb.Message, err error) {
	for limit > 0 {
		req.PageSize = int32(min(limit, 10_000))
		page, err := c.telemetry.Query(ctx, req)
		if err != nil {
			return nil, err
		}
		pages = append(pages, page.GetMessages())
		limit -= len(page.GetMessages())
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	return pages, nil
}

func (c *client) messageRow(m *pb.Message) error {
	if c.out.json {
		return c.out.object(m)
	}
	return c.out.row(moment(m.GetReceivedAt()), orDash(m.GetChannel()), m.GetProtocol(), values(m))
}

// latestCmd is `tributary latest`.
type latestCmd struct {
	clientFlags
	Device string `env:"-" placeholder:"DEVICE" help:"Only of this device: NAME, or NAME@TENANT. Default: every device of the tenant."`
}

// Help is shown by `tributary latest --help`.
func (latestCmd) Help() string {
	return `Prints the last value of every measurement, by device, channel and name.

Example:
  tributary latest --device thermo-1`
}

// Run prints all pages.
func (l *latestCmd) Run(ctx context.Context, app *kong.Context) error {
	id, err := l.deviceOrAny(l.Device)
	if err != nil {
		return err
	}
	req := &pb.LatestRequest{Parent: api.DeviceName(id.Tenant, id.Device), PageSize: 1000}
	return l.with(app, func(c *client) error {
		c.out.head("DEVICE", "CHANNEL", "NAME", "VALUE", "UNIT", "MEASURED")
		for {
			page, err := c.telemetry.Latest(ctx, req)
			if err != nil {
				return err
			}
			for _, v := range page.GetValues() {
				if err := c.latestRow(v); err != nil {
					return err
				}
			}
			if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
				break
			}
		}
		if c.out.headless() {
			c.out.none("Nothing was measured by %s yet; `tributary tail%s` shows messages as they come.", whom(id), l.again())
		}
		return nil
	})
}

func (c *client) latestRow(v *pb.LatestValue) error {
	if c.out.json {
		return c.out.object(v)
	}
	x := v.GetMeasurement()
	value := measurement(&pb.Measurement{Value: x.GetValue()})
	return c.out.row(v.GetDevice(), orDash(v.GetChannel()), x.GetName(), value, orDash(x.GetUnit()), moment(x.GetTime()))
}

// whom names one device, or all of a tenant.
func whom(id device.ID) string {
	if id.Device == "" {
		return "the devices of tenant " + id.Tenant
	}
	return id.String()
}
