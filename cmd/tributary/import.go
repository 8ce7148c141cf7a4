package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"
	"golang.org/x/sync/errgroup"

	"github.com/tributary-iot/tributary/api"
	"github.com/tributary-iot/tributary/device"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// How a file is sent: batches of the server's limit, a few under way, so that
// one is being committed while the next is on its way.
const (
	importBatch  = 1000
	importAtOnce = 4
)

type deviceImportCmd struct {
	clientFlags
	File string `arg:"" help:"The file, or - for standard input."`
}

// Help is shown by `tributary device import --help`.
func (deviceImportCmd) Help() string {
	return `Each line is a device's NAME (or NAME@TENANT), or a JSON object for more:
  thermo-1
  {"device":"gateway-1","kind":"gateway","for":"floor1-*"}
  {"device":"thermo-2","certificate_sha256":"<SHA-256 of its key, 64 hex digits>"}
  {"device":"thermo-3","labels":{"site":"berlin","roof":""}}
Empty lines are skipped. Secrets are printed as they are made, this once, one
device a line: keep the output. A device that cannot be registered (its name is
taken) is reported on standard error and the rest goes on; the exit code is then
1. After an interruption the same file may be imported again.

Example:
  tributary device import devices.txt -o json > secrets.json`
}

// Run registers what the file says.
func (d *deviceImportCmd) Run(ctx context.Context, app *kong.Context) error {
	in := io.ReadCloser(os.Stdin)
	if d.File != "-" {
		var err error
		if in, err = os.Open(d.File); err != nil {
			return err
		}
	}
	defer in.Close()
	return d.with(app, func(c *client) error {
		c.out.head("DEVICE", "TENANT", "SECRET")
		failed, total, err := c.importDevices(ctx, d, in)
		if err != nil {
			return err
		}
		c.out.note("%d of %d devices registered.", total-failed, total)
		if failed > 0 {
			return fmt.Errorf("%d of %d devices were not registered", failed, total)
		}
		return nil
	})
}

// importChunk is some lines of one tenant, and what became of them.
type importChunk struct {
	tenant   string
	requests []*pb.CreateDeviceRequest
	results  []*pb.BatchCreateDevicesResult
	done     chan struct{}
}

// importDevices sends chunks as they are read and prints their outcomes in order.
func (c *client) importDevices(ctx context.Context, d *deviceImportCmd, in io.Reader) (failed, total int, err error) {
	group, ctx := errgroup.WithContext(ctx)
	underWay := make(chan *importChunk, importAtOnce)
	send := func(chunk *importChunk) error {
		select {
		case underWay <- chunk:
		case <-ctx.Done():
			return ctx.Err()
		}
		group.Go(func() error {
			defer close(chunk.done)
			answer, err := c.devices.BatchCreateDevices(ctx, &pb.BatchCreateDevicesRequest{Parent: api.TenantName(chunk.tenant), Requests: chunk.requests})
			chunk.results = answer.GetResults()
			return err
		})
		return nil
	}
	group.Go(func() error {
		defer close(underWay)
		return d.chunks(in, send)
	})
	group.Go(func() error {
		for chunk := range underWay {
			<-chunk.done
			n, err := c.imported(chunk)
			if failed, total = failed+n, total+len(chunk.results); err != nil {
				return err
			}
		}
		return nil
	})
	err = group.Wait()
	return failed, total, err
}

// imported prints what became of a chunk.
func (c *client) imported(chunk *importChunk) (failed int, err error) {
	for i, r := range chunk.results {
		made := r.GetDevice()
		switch {
		case made == nil:
			failed++
			c.out.note("%s: %s", chunk.requests[i].GetDeviceId(), r.GetError())
		case c.out.json:
			err = c.out.object(made)
		default:
			err = c.out.row(made.GetDevice(), made.GetTenant(), orDash(made.GetSecret()))
		}
		if err != nil {
			return failed, err
		}
	}
	return failed, c.out.close()
}

// chunks reads the file into chunks of one tenant each.
func (d *deviceImportCmd) chunks(in io.Reader, send func(*importChunk) error) error {
	var chunk *importChunk
	flush := func() error {
		if chunk == nil {
			return nil
		}
		full := chunk
		chunk = nil
		return send(full)
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 64<<10)
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			continue
		}
		tenant, request, err := d.parse(line)
		if err != nil {
			return errors.Join(flush(), fmt.Errorf("line %d: %w", number, err))
		}
		if chunk != nil && (chunk.tenant != tenant || len(chunk.requests) == importBatch) {
			if err := flush(); err != nil {
				return err
			}
		}
		if chunk == nil {
			chunk = &importChunk{tenant: tenant, done: make(chan struct{})}
		}
		chunk.requests = append(chunk.requests, request)
	}
	return errors.Join(lines.Err(), flush())
}

// parse reads one line.
func (d *deviceImportCmd) parse(line string) (tenant string, request *pb.CreateDeviceRequest, err error) {
	given := struct {
		Device string         `json:"device"`
		Kind   string         `json:"kind"`
		For    device.Pattern `json:"for"`
		Key    string         `json:"certificate_sha256"`
		Labels device.Labels  `json:"labels"`
	}{Device: line}
	if strings.HasPrefix(line, "{") {
		given.Device = ""
		decoder := json.NewDecoder(strings.NewReader(line))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&given); err != nil {
			return "", nil, fmt.Errorf("not an object with device, kind, for, certificate_sha256 and labels: %w", err)
		}
	}
	id, err := d.device(given.Device)
	if err != nil {
		return "", nil, err
	}
	n := device.NewPrincipal{ID: id, Kind: device.PrincipalKind(given.Kind), For: given.For, Labels: given.Labels}
	if given.Key != "" {
		if n.Key, err = device.ParseKeyHash(given.Key); err != nil {
			return "", nil, err
		}
	}
	return id.Tenant, &pb.CreateDeviceRequest{
		DeviceId: id.Device, Kind: kindToProto(given.Kind), Pattern: string(given.For), CertificateKey: given.Key,
		Labels: given.Labels,
	}, n.Validate()
}
