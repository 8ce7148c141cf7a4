package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"github.com/tributary-iot/tributary/api"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

type batchWatchCmd struct{ batchArg }

// Help is shown by `tributary batch watch --help`.
func (batchWatchCmd) Help() string {
	return `On a terminal one line is drawn again and again; elsewhere there is a line for
every change. The exit code is 0 when every device's command succeeded, and 3 when
the batch ended otherwise. With -o json the whole batch is printed each time.

Example:
  tributary batch watch 01JZX3T6M9Q0V8Y4K2B7N5D1RC`
}

// Run follows the batch to its end.
func (w *batchWatchCmd) Run(ctx context.Context, app *kong.Context) error {
	return w.with(app, func(c *client) error { return c.watchBatch(ctx, w.name()) })
}

// watchBatch shows a batch until it has ended.
func (c *client) watchBatch(ctx context.Context, name string) error {
	stream, err := c.batches.WatchCommandBatch(ctx, &pb.WatchCommandBatchRequest{Name: name})
	if err != nil {
		return err
	}
	show := c.batchLines(isTerminal(c.out.out))
	var last *pb.CommandBatch
	for {
		b, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		last = b
		if err := show(b); err != nil {
			return err
		}
	}
	if last.GetEndTime() == nil {
		return errors.New("the server ended the watch early; try again")
	}
	if p := last.GetProgress(); p.GetSucceeded() != last.GetTotal() {
		text := fmt.Sprintf("batch %s ended as %s: %d of %d devices did it", last.GetId(), batchState(last.GetState()), p.GetSucceeded(), last.GetTotal())
		if last.GetReason() != "" {
			text += " (" + last.GetReason() + ")"
		}
		return &exitError{exitNotDone, text}
	}
	return nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// batchLines answers what shows a batch: in place, or a line each time.
func (c *client) batchLines(inPlace bool) func(*pb.CommandBatch) error {
	if c.out.json {
		return func(b *pb.CommandBatch) error { return c.out.object(b) }
	}
	before := ""
	return func(b *pb.CommandBatch) error {
		line := batchLine(b)
		if line == before {
			return nil
		}
		before = line
		if !inPlace {
			return c.out.line("%s", line)
		}
		end := ""
		if b.GetEndTime() != nil {
			end = "\n"
		}
		_, err := fmt.Fprintf(c.out.out, "\r\x1b[K%s%s", line, end)
		return err
	}
}

// barWidth is the length of a progress bar in characters.
const barWidth = 30

// batchLine is a batch in one line: a bar whose full part has ended and whose
// lighter part was sent, and the counts.
func batchLine(b *pb.CommandBatch) string {
	p, total := b.GetProgress(), max(b.GetTotal(), 1)
	ended := total - p.GetUnsent() - p.GetPending()
	full := int(uint64(barWidth) * uint64(ended) / uint64(total))
	sent := int(uint64(barWidth) * uint64(ended+p.GetPending()) / uint64(total))
	line := fmt.Sprintf("%s%s%s %3d%%  %d/%d  %s", strings.Repeat("█", full), strings.Repeat("▒", sent-full), strings.Repeat("·", barWidth-sent),
		uint64(ended)*100/uint64(total), ended, b.GetTotal(), batchState(b.GetState()))
	for _, count := range []struct {
		n    uint32
		what string
	}{
		{p.GetSucceeded(), "succeeded"}, {p.GetPending(), "pending"}, {p.GetFailed(), "failed"}, {p.GetRejected(), "rejected"},
		{p.GetExpired(), "expired"}, {p.GetRefused(), "refused"}, {p.GetCancelled(), "cancelled"},
	} {
		if count.n > 0 {
			line += fmt.Sprintf("  %d %s", count.n, count.what)
		}
	}
	return line
}

type batchResultsCmd struct{ batchArg }

// Help is shown by `tributary batch results --help`.
func (batchResultsCmd) Help() string {
	return `Each device once: those whose command has ended, then the others as they end, and
when the batch has ended those that were not sent anything.

Example:
  tributary batch results 01JZX3T6M9Q0V8Y4K2B7N5D1RC -o json | jq -r 'select(.status != 200) | .device'`
}

// Run prints results until the batch has ended.
func (r *batchResultsCmd) Run(ctx context.Context, app *kong.Context) error {
	return r.with(app, func(c *client) error {
		stream, err := c.batches.WatchCommandBatchResults(ctx, &pb.WatchCommandBatchResultsRequest{Name: r.name()})
		for err == nil {
			var one *pb.CommandBatchResult
			if one, err = stream.Recv(); err == nil {
				err = c.batchResult(one)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	})
}

func (c *client) batchResult(r *pb.CommandBatchResult) error {
	if c.out.json {
		return c.out.object(r)
	}
	state := stateName(r.GetState())
	switch {
	case r.GetError() != "":
		state = "REFUSED"
	case r.GetCommand() == "":
		state = "UNSENT"
	}
	line := fmt.Sprintf("%-9s  %s", state, r.GetDevice())
	if r.GetStatus() != 0 {
		line += fmt.Sprintf("  status %d", r.GetStatus())
	}
	if r.GetError() != "" {
		line += "  " + r.GetError()
	}
	return c.out.line("%s", line)
}

type batchListCmd struct {
	clientFlags
	Limit int `env:"-" default:"50" placeholder:"N" help:"At most so many."`
}

// Help is shown by `tributary batch list --help`.
func (batchListCmd) Help() string {
	return `Example:
  tributary batch list --limit 10`
}

// Run prints pages up to the limit.
func (l *batchListCmd) Run(ctx context.Context, app *kong.Context) error {
	if err := checkLimit(l.Limit); err != nil {
		return err
	}
	req := &pb.ListCommandBatchesRequest{Parent: api.TenantName(l.Tenant)}
	return l.with(app, func(c *client) error {
		c.out.head("CREATED", "ID", "COMMAND", "TO", "STATE", "DEVICES", "ENDED", "SUCCEEDED")
		for left := l.Limit; left > 0; {
			req.PageSize = int32(min(left, 1000))
			page, err := c.batches.ListCommandBatches(ctx, req)
			if err != nil {
				return err
			}
			for _, b := range page.GetCommandBatches() {
				if err := c.batchRow(b); err != nil {
					return err
				}
			}
			left -= len(page.GetCommandBatches())
			if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
				break
			}
		}
		if c.out.headless() {
			c.out.none("No batches; `tributary batch create NAME --selector SELECTOR%s` makes one.", l.again())
		}
		return nil
	})
}

func (c *client) batchRow(b *pb.CommandBatch) error {
	if c.out.json {
		return c.out.object(b)
	}
	p, to := b.GetProgress(), b.GetSelector()
	if to == "" {
		to = "a list"
	}
	return c.out.row(moment(b.GetCreateTime()), b.GetId(), orDash(b.GetCommand()), to, batchState(b.GetState()),
		fmt.Sprint(b.GetTotal()), fmt.Sprint(b.GetTotal()-p.GetUnsent()-p.GetPending()), fmt.Sprint(p.GetSucceeded()))
}
