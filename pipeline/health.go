package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// health is what a server says of its streams: /healthz with details. A stream that
// failed to write is in it until its server is restarted.
type health struct {
	Errors []healthError `json:"errors"`
}

type healthError struct {
	Type   string `json:"type"` // STREAM; JETSTREAM and others, of the whole server
	Stream string `json:"stream"`
	Error  string `json:"error"`
}

// tellsOfWrites is the first release whose /healthz tells of a failed write.
var tellsOfWrites = [2]int{2, 14}

// concerns reports whether an error is one of a stream's copy there, or of all. The
// streams of other accounts count like ours: the name is all that is compared.
func (e healthError) concerns(stream string) bool {
	switch e.Type {
	case "CONSUMER":
		return false
	case "STREAM":
		return e.Stream == stream
	}
	return true
}

// failed says that a server could not write its copy of a stream; nil also when
// that is not known.
func (f serverFacts) failed(stream string) error {
	if f.health == nil {
		return nil
	}
	for _, e := range f.health.Errors {
		if e.concerns(stream) && strings.Contains(e.Error, "write error") {
			return fmt.Errorf("the NATS server %s: %s", f.Name, e.Error)
		}
	}
	return nil
}

// well says why it is not known that a server could write its copy of a stream.
func (f serverFacts) well(stream string, copies int) error {
	switch {
	case f.health == nil:
		return fmt.Errorf("the NATS server %s does not say how it is", f.Name)
	case !atLeast(f.Version, tellsOfWrites):
		return fmt.Errorf("the NATS server %s is version %s, and tells of failed writes from %d.%d on", f.Name, f.Version, tellsOfWrites[0], tellsOfWrites[1])
	case copies == 1 && f.Cluster.Name != "":
		return fmt.Errorf("the NATS server %s is one of a cluster, which does not tell of failed writes to a stream of one copy", f.Name)
	}
	for _, e := range f.health.Errors {
		if e.concerns(stream) {
			return fmt.Errorf("the NATS server %s: %s", f.Name, e.Error)
		}
	}
	return nil
}

// healthOf is what the server of a name said of its health; nil when it did not.
func healthOf(facts []serverFacts, name string) *health {
	for _, f := range facts {
		if f.Name == name && f.health != nil {
			return f.health
		}
	}
	return nil
}

// copies is where a stream is kept.
type copies struct {
	stream  string
	wanted  int      // how many there are to be
	servers []string // with one, those left out of which the cluster says that they are gone
}

// copiesOf asks the leader of a stream.
func (b *Belt) copiesOf(ctx context.Context, name string) (copies, *jetstream.StreamConfig, error) {
	stream, err := b.js.Stream(ctx, name)
	if err != nil {
		return copies{}, nil, fmt.Errorf("%w: stream %s: %w", errUnseen, name, err)
	}
	info := stream.CachedInfo()
	if info.Cluster == nil || info.Cluster.Leader == "" {
		return copies{}, nil, fmt.Errorf("%w: stream %s has no leader now", errUnseen, name)
	}
	c := copies{stream: name, wanted: max(info.Config.Replicas, 1), servers: []string{info.Cluster.Leader}}
	for _, peer := range info.Cluster.Replicas {
		if !peer.Offline {
			c.servers = append(c.servers, peer.Name)
		}
	}
	return c, &info.Config, nil
}

// unwritten says which copies failed to write, and whether so many of a stream's did
// that what it says is worth nothing: of one the one, of three two.
func unwritten(all []copies, facts []serverFacts) (failed []string, sick error) {
	for _, c := range all {
		var errs []error
		for _, f := range facts {
			if !slices.Contains(c.servers, f.Name) {
				continue
			}
			if err := f.failed(c.stream); err != nil {
				errs = append(errs, err)
				failed = append(failed, err.Error())
			}
		}
		if 2*len(errs) >= c.wanted && sick == nil {
			sick = errors.Join(errs...)
		}
	}
	slices.Sort(failed)
	return slices.Compact(failed), sick
}

// word is asked before and after a stream of an external server was heard. What it
// said is to be believed when both answer the same, and no error: most of its copies
// are known to be well, and a stream of one copy was not begun anew by another
// process meanwhile. Where nobody can look, its word is taken.
func (v *verifier) word(ctx context.Context, stream string) (string, error) {
	if v == nil {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	c, _, err := v.b.copiesOf(ctx, stream)
	if err != nil {
		return "", err
	}
	facts, err := v.b.opts.Verify.ask(ctx, v.b.opts.URL, c.servers)
	if failed, sick := unwritten([]copies{c}, facts); sick != nil {
		v.noteSick(failed, sick)
	}
	errs, well, word := []error{err}, 0, ""
	for _, f := range facts {
		if !slices.Contains(c.servers, f.Name) {
			continue
		}
		if err := cmp.Or(v.b.meant(f), f.well(stream, c.wanted)); err != nil {
			errs = append(errs, err)
			continue
		}
		if well++; c.wanted == 1 {
			word = f.ID
		}
	}
	if 2*well <= c.wanted {
		return "", errors.Join(append(errs, fmt.Errorf("of %d copies of stream %s %d are known to be well", c.wanted, stream, well))...)
	}
	return word, nil
}
