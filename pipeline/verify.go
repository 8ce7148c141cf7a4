package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// How often the servers are looked at again, and for how long a look that found
// all well is believed when they cannot be looked at.
const (
	verifyEvery  = 30 * time.Second
	retryLook    = 5 * time.Second
	believedLook = 5 * time.Minute
)

// verifier looks whether the servers that hold our streams fsync before they
// acknowledge, and whether they failed to. What it says is what it saw last.
type verifier struct {
	b *Belt

	mu      sync.Mutex
	servers []string  // that hold our streams and fsync always, as last seen
	seen    time.Time // when that was
	tried   time.Time // when it was last tried
	id      string    // of the server we were connected to then
	err     error     // what the last look found wrong, or why it found nothing
	failed  []string  // copies of streams that could not be written, as last seen
	sick    error     // so many of them that a stream is of no use
}

// errUnseen marks what keeps us from looking, which is not a finding.
var errUnseen = errors.New("the NATS servers cannot be looked at")

// look asks once, and remembers the answer.
func (v *verifier) look(ctx context.Context) error {
	id, now := v.b.nc.ConnectedServerId(), time.Now()
	servers, err := v.find(ctx)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.err, v.id, v.tried = err, id, now
	if err == nil {
		v.servers, v.seen = servers, now
	}
	return err
}

// find answers the servers that hold our streams, when all of them fsync always.
func (v *verifier) find(ctx context.Context) ([]string, error) {
	kept, err := v.b.holders(ctx)
	if err != nil {
		return nil, err
	}
	var holders []string
	for _, c := range kept {
		holders = append(holders, c.servers...)
	}
	slices.Sort(holders)
	holders = slices.Compact(holders)
	facts, err := v.b.opts.Verify.ask(ctx, v.b.opts.URL, holders)
	if err != nil && len(facts) == 0 {
		return nil, fmt.Errorf("%w: %w", errUnseen, err)
	}
	failed, sick := unwritten(kept, facts)
	if sick != nil || !slices.ContainsFunc(holders, func(name string) bool { return healthOf(facts, name) == nil }) {
		v.noteSick(failed, sick)
	}
	var found []string
	for _, name := range holders {
		i := slices.IndexFunc(facts, func(f serverFacts) bool { return f.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("%w: streams are on %s, and only %s answered%s", errUnseen, strings.Join(holders, ", "), names(facts), because(err))
		}
		if err := v.b.check(facts[i]); err != nil {
			return nil, err
		}
		found = append(found, name)
	}
	return found, nil
}

// check says what is wrong with a server that holds a stream.
func (b *Belt) check(f serverFacts) error {
	if err := b.meant(f); err != nil {
		return err
	}
	if !f.syncsAlways() {
		return fmt.Errorf("the NATS server %s does not fsync before it acknowledges: set jetstream { sync_interval: always } there and restart it, "+
			"or say --durability trusted to take what it gives", f.Name)
	}
	return nil
}

// meant says that a server that answered is not the one of its name that we speak to.
func (b *Belt) meant(f serverFacts) error {
	if id := b.nc.ConnectedServerId(); f.Name == b.nc.ConnectedServerName() && f.ID != id {
		return fmt.Errorf("%w: server %s answered as %s, and we are connected to %s of that name: look at the right one", errUnseen, f.Name, f.ID, id)
	}
	return nil
}

// noteSick remembers what of the streams could not be written, and logs what is new.
func (v *verifier) noteSick(failed []string, sick error) {
	v.mu.Lock()
	before := v.failed
	v.failed, v.sick = failed, sick
	v.mu.Unlock()
	for _, text := range failed {
		if !slices.Contains(before, text) {
			v.b.log.Error("a NATS server failed to write a stream and has to be restarted, when its disk takes data again", "error", text)
		}
	}
	if len(failed) == 0 && len(before) > 0 {
		v.b.log.Info("every NATS server can write its streams again")
	}
}

// healthy says that a stream could not be written by those that keep it.
func (v *verifier) healthy() error {
	if v == nil {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.sick == nil {
		return nil
	}
	return fmt.Errorf("%w: nothing it says of that is believed; restart it once its disk takes data again", v.sick)
}

// holders are the copies of the streams whose acknowledgements we pass on. A server
// that its cluster says is gone acknowledges nothing, and is looked at when it is back.
func (b *Belt) holders(ctx context.Context) ([]copies, error) {
	all := []string{"KV_" + DeviceBucket, "KV_" + TokenBucket, "KV_" + BatchBucket}
	for _, s := range b.streamConfigs() {
		all = append(all, s.Name)
	}
	var found []copies
	for _, name := range all {
		c, cfg, err := b.copiesOf(ctx, name)
		if err != nil {
			return nil, err
		}
		if err := keepsEnough(cfg, b.opts.Replicas); err != nil {
			return nil, fmt.Errorf("stream %s: %w", name, err)
		}
		found = append(found, c)
	}
	return found, nil
}

// keepsEnough says what makes a stream weaker than its server.
func keepsEnough(have *jetstream.StreamConfig, replicas int) error {
	if have.Replicas < replicas {
		return fmt.Errorf("is kept on %d servers, and --nats-replicas asks for %d: change it (nats stream edit --replicas %d), or ask for less", have.Replicas, replicas, replicas)
	}
	if have.PersistMode == jetstream.AsyncPersistMode {
		return errors.New("is acknowledged before it is written (persist mode async): it was made by somebody else; delete it if what it holds is not needed")
	}
	return nil
}

// run looks again from time to time, and at once when the server is another.
func (v *verifier) run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		v.mu.Lock()
		before, age, same := v.err, time.Since(v.tried), v.id == v.b.nc.ConnectedServerId()
		well := before == nil && len(v.failed) == 0
		v.mu.Unlock()
		if age < retryLook && same || age < verifyEvery && same && well || !v.b.nc.IsConnected() {
			continue
		}
		err := v.look(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil && (before == nil || before.Error() != err.Error()):
			v.b.log.Error("what an acknowledgement means cannot be verified", "error", err)
		case err == nil && before != nil:
			v.b.log.Info("what an acknowledgement means is verified again")
		}
	}
}

// says is what the last look saw; an error when the promise is not known to hold.
func (v *verifier) says() (detail string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	age := time.Since(v.seen).Round(time.Second)
	if v.err != nil && (!errors.Is(v.err, errUnseen) || age >= believedLook || v.id != v.b.nc.ConnectedServerId()) {
		return "", v.err
	}
	detail = fmt.Sprintf("%s fsyncs always, seen %s ago", strings.Join(v.servers, ", "), age)
	if v.err != nil {
		detail += fmt.Sprintf("; now %v", v.err)
	}
	if len(v.failed) > 0 {
		detail += "; restart what failed: " + strings.Join(v.failed, "; ")
	}
	return detail, nil
}

// verify refuses to open under strict what cannot be verified. With trusted it
// is looked at and told all the same.
func (b *Belt) verify(ctx context.Context) error {
	if b.opts.URL == "" || !b.opts.Verify.any() {
		return nil
	}
	b.verifier = &verifier{b: b}
	err := b.verifier.look(ctx)
	switch {
	case err == nil || b.opts.Durability == Verified && ctx.Err() != nil:
		return err
	case b.opts.Durability != Verified:
		b.log.Warn("what an acknowledgement means cannot be verified", "error", err)
		return nil
	case errors.Is(err, errUnseen):
		err = fmt.Errorf("%w: mend that, or say --durability trusted to take the word of the server's operator", err)
	}
	return fmt.Errorf("strict durability cannot be verified: %w", err)
}

// Verify keeps looking whether the external servers fsync, until ctx ends. It
// returns at once when there is nothing to look at.
func (b *Belt) Verify(ctx context.Context) error {
	if b.verifier == nil {
		return nil
	}
	return b.verifier.run(ctx)
}

// Verification is what was last seen of the external servers: "" when nobody
// was to look. An error means that strict durability is not known to hold.
func (b *Belt) Verification() (detail string, err error) {
	if b.verifier == nil {
		return "", nil
	}
	return b.verifier.says()
}

func names(facts []serverFacts) string {
	if len(facts) == 0 {
		return "none"
	}
	var out []string
	for _, f := range facts {
		out = append(out, f.Name)
	}
	return strings.Join(out, ", ")
}

func because(err error) string {
	if err == nil {
		return ""
	}
	return " (" + err.Error() + ")"
}
