package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/tributary-iot/tributary/device"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

type deviceLabelCmd struct {
	deviceArg
	Labels []string `arg:"" help:"K=V sets a label, NAME puts it in a group, K- takes one away."`
}

// Help is shown by `tributary device label --help`.
func (deviceLabelCmd) Help() string {
	return `Labels are for selecting: "device list --selector" shows the devices that match,
"batch create --selector" sends a command to all of them. A label without a value
is a group, and its key the group's name. Labels that are not named stay.

Examples:
  tributary device label thermo-1 site=berlin model=t-1 roof
  tributary device label thermo-1 roof-`
}

// Run sets and takes away.
func (d *deviceLabelCmd) Run(ctx context.Context, app *kong.Context) error {
	set, remove, err := parseLabels(d.Labels)
	if err != nil {
		return err
	}
	return d.act(app, func(c *client, name string) error {
		return c.printDevice(c.devices.UpdateLabels(ctx, &pb.UpdateLabelsRequest{Name: name, Set: set, Remove: remove}))
	})
}

// parseLabels reads labels as they are typed: K=V, a group's name, or K- for one
// to take away.
func parseLabels(words []string) (set device.Labels, remove []string, err error) {
	set = device.Labels{}
	for _, word := range words {
		key, value, given := strings.Cut(word, "=")
		if key, off := strings.CutSuffix(key, "-"); off && !given {
			remove = append(remove, key)
			continue
		}
		if _, twice := set[key]; twice {
			return nil, nil, fmt.Errorf("label %s is said twice", key)
		}
		set[key] = value
	}
	return set, remove, set.Validate()
}
