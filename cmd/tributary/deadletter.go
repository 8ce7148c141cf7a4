package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/alecthomas/kong"

	"github.com/tributary-iot/tributary/api"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// deadletterCmd is `tributary deadletter`.
type deadletterCmd struct {
	List   lettersListCmd   `cmd:"" help:"List messages that were not kept, oldest first."`
	Show   lettersShowCmd   `cmd:"" help:"Show one with its bytes and the reason."`
	Replay lettersReplayCmd `cmd:"" help:"Try one, or all that match, again."`
	Purge  lettersPurgeCmd  `cmd:"" help:"Remove those that match, for good."`
}

// letterFilter says which letters.
type letterFilter struct {
	Device string      `env:"-" placeholder:"DEVICE" help:"Only of this device: NAME, or NAME@TENANT. Default: every device of the tenant."`
	Reason []string    `env:"-" placeholder:"KIND" help:"Only refused for this: undecodable, invalid, too-large, forbidden, …"`
	Since  instantFlag `env:"-" placeholder:"WHEN" help:"Not kept since: a duration back from now (1h, 7d) or a time (2026-05-01T12:00:00Z)."`
	Until  instantFlag `env:"-" placeholder:"WHEN" help:"Not kept before, said the same way."`
}

func (f *letterFilter) parent(flags *clientFlags) (string, error) {
	id, err := flags.deviceOrAny(f.Device)
	return api.DeviceName(id.Tenant, id.Device), err
}

// letterPage is how many letters one call is asked for.
const letterPage = 1000

type lettersListCmd struct {
	clientFlags
	letterFilter
	Limit int `env:"-" default:"100" placeholder:"N" help:"The oldest so many."`
}

// Help is shown by `tributary deadletter list --help`.
func (lettersListCmd) Help() string {
	return `Each line begins with the letter's name, which show and replay take.

Examples:
  tributary deadletter list --device thermo-1
  tributary deadletter list --reason undecodable --since 1d -o json`
}

// Run prints all pages.
func (l *lettersListCmd) Run(ctx context.Context, app *kong.Context) error {
	parent, err := l.parent(&l.clientFlags)
	if err != nil {
		return err
	}
	if err := checkLimit(l.Limit); err != nil {
		return err
	}
	req := &pb.ListDeadLettersRequest{Parent: parent, Codes: l.Reason, Since: l.Since.proto(), Until: l.Until.proto()}
	return l.with(app, func(c *client) error {
		shown := 0
		for {
			req.PageSize = int32(min(l.Limit-shown, letterPage))
			page, err := c.letters.ListDeadLetters(ctx, req)
			if err != nil {
				return err
			}
			for _, letter := range page.GetDeadLetters() {
				if err := c.letterRow(letter, shown == 0); err != nil {
					return err
				}
				shown++
			}
			if req.PageToken = page.GetNextPageToken(); req.PageToken == "" || shown >= l.Limit {
				break
			}
		}
		if shown == 0 {
			c.out.none("No dead letter matches.")
		}
		return nil
	})
}

func (c *client) letterRow(l *pb.DeadLetter, first bool) error {
	if c.out.json {
		return c.out.object(l)
	}
	if first {
		if err := c.out.row("NOT KEPT", "DEVICE", "WHY", "BYTES", "REPLAY", "ADDRESS", "NAME"); err != nil {
			return err
		}
	}
	replay := "no"
	if l.GetReplayable() {
		replay = "yes"
	}
	return c.out.row(moment(l.GetBuryTime()), l.GetDevice(), l.GetCode(), strconv.FormatInt(l.GetLength(), 10), replay, orDash(l.GetAddress()), l.GetName())
}

type lettersShowCmd struct {
	clientFlags
	Name string `arg:"" help:"Name of the letter, as list prints it."`
}

// Help is shown by `tributary deadletter show --help`.
func (lettersShowCmd) Help() string {
	return `Example:
  tributary deadletter show tenants/default/devices/dev1/deadLetters/AbC`
}

// Run prints one letter.
func (s *lettersShowCmd) Run(ctx context.Context, app *kong.Context) error {
	return s.with(app, func(c *client) error {
		l, err := c.letters.GetDeadLetter(ctx, &pb.GetDeadLetterRequest{Name: s.Name})
		if err != nil {
			return err
		}
		if c.out.json {
			return c.out.object(l)
		}
		where := l.GetProtocol()
		if l.GetStream() != "" {
			where = fmt.Sprintf("%s %d", l.GetStream(), l.GetSequence())
		}
		for _, row := range [][2]string{
			{"name", l.GetName()}, {"device", l.GetDevice() + "@" + l.GetTenant()}, {"not kept", moment(l.GetBuryTime())},
			{"kind", l.GetCode()}, {"reason", l.GetReason()}, {"came by", where}, {"address", orDash(l.GetAddress())},
			{"content type", orDash(l.GetContentType())}, {"bytes", fmt.Sprintf("%d, of which %d are kept", l.GetLength(), len(l.GetRaw()))},
			{"payload", payload(l.GetRaw())},
		} {
			if err := c.out.row(row[0], row[1]); err != nil {
				return err
			}
		}
		return nil
	})
}

type lettersReplayCmd struct {
	clientFlags
	letterFilter
	Name string `arg:"" optional:"" help:"Name of one letter, as list prints it."`
	All  bool   `env:"-" help:"All that match instead of one."`
}

// Help is shown by `tributary deadletter replay --help`.
func (lettersReplayCmd) Help() string {
	return `Reads the measurements of the message anew and stores it as if the device had just sent it; then the
letter is gone. What still cannot be kept stays, and is told. A replay that was interrupted is simply
run again: a message is stored once.

Examples:
  tributary deadletter replay tenants/default/devices/dev1/deadLetters/AbC
  tributary deadletter replay --all --reason undecodable --since 1d`
}

// Run replays one letter, or pages of them.
func (r *lettersReplayCmd) Run(ctx context.Context, app *kong.Context) error {
	if (r.Name == "") != r.All {
		return errors.New("name one letter, or say --all and perhaps --device, --reason, --since, --until")
	}
	if !r.All {
		return r.with(app, func(c *client) error {
			_, err := c.letters.ReplayDeadLetter(ctx, &pb.ReplayDeadLetterRequest{Name: r.Name})
			if err == nil {
				c.out.none("Replayed.")
			}
			return err
		})
	}
	parent, err := r.parent(&r.clientFlags)
	if err != nil {
		return err
	}
	return r.with(app, func(c *client) error {
		replayed, failed := int64(0), 0
		req := &pb.ReplayDeadLettersRequest{Parent: parent, Codes: r.Reason, Since: r.Since.proto(), Until: r.Until.proto(), PageSize: letterPage}
		for {
			page, err := c.letters.ReplayDeadLetters(ctx, req)
			if err != nil {
				return err
			}
			replayed += page.GetReplayed()
			for _, f := range page.GetFailures() {
				if failed++; c.out.json {
					if err := c.out.object(f); err != nil {
						return err
					}
				} else if err := c.out.line("%s stays: %s", f.GetName(), f.GetReason()); err != nil {
					return err
				}
			}
			if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
				break
			}
		}
		c.out.note("%d replayed, %d stay.", replayed, failed)
		return nil
	})
}

type lettersPurgeCmd struct {
	clientFlags
	letterFilter
	Force bool `env:"-" help:"Remove them; without it they are only counted."`
}

// Help is shown by `tributary deadletter purge --help`.
func (lettersPurgeCmd) Help() string {
	return `Example:
  tributary deadletter purge --reason undecodable --until 30d
  tributary deadletter purge --reason undecodable --until 30d --force`
}

// Run counts or removes pages of letters.
func (p *lettersPurgeCmd) Run(ctx context.Context, app *kong.Context) error {
	parent, err := p.parent(&p.clientFlags)
	if err != nil {
		return err
	}
	return p.with(app, func(c *client) error {
		total := int64(0)
		req := &pb.PurgeDeadLettersRequest{Parent: parent, Codes: p.Reason, Since: p.Since.proto(), Until: p.Until.proto(), PageSize: letterPage, Force: p.Force}
		for {
			page, err := c.letters.PurgeDeadLetters(ctx, req)
			if err != nil {
				return err
			}
			total += page.GetPurged()
			if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
				break
			}
		}
		if p.Force {
			c.out.note("%d removed.", total)
		} else {
			c.out.note("%d match; --force removes them.", total)
		}
		return nil
	})
}
