package pipeline

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// replyReceiver is a receiver in a test: verdict says what it answers.
type replyReceiver struct {
	mu    sync.Mutex
	got   []string
	done  []func(error)
	taken chan struct{}
	stop  func()
}

func receiveReplies(t testing.TB, b *Belt, tenant, address string, verdict func(data string) (error, bool)) *replyReceiver {
	t.Helper()
	r := &replyReceiver{taken: make(chan struct{}, 1)}
	stop, err := Replies{b, 2 * time.Second}.Receive(t.Context(), tenant, address, func(data []byte, done func(error)) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.got = append(r.got, string(data))
		if err, now := verdict(string(data)); now {
			done(err)
			return
		}
		r.done = append(r.done, done)
	}, func() {
		select {
		case r.taken <- struct{}{}:
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	r.stop = stop
	t.Cleanup(stop)
	return r
}

func accepting(string) (error, bool) { return nil, true }

// sendReply sends and waits for what became of it.
func sendReply(b *Belt, tenant, address, data string) error {
	told := make(chan error, 1)
	Replies{b, 2 * time.Second}.Send(tenant, address, []byte(data), func(err error) { told <- err })
	return <-told
}

func TestRepliesBetweenNodes(t *testing.T) {
	t.Parallel()
	server := startEmbedded(t, t.TempDir(), Relaxed)
	here, there := openOn(t, Options{Server: server, Durability: Relaxed}), openOn(t, Options{Server: server, Durability: Relaxed})
	const at = "$reply/x y.*"
	r := receiveReplies(t, here, "default", at, func(data string) (error, bool) {
		switch data {
		case "bad":
			return device.Errorf(device.Invalid, "the receiver rejected it"), true
		case "broken":
			return errOutage, true
		}
		return nil, true
	})
	if err := there.Replies().Find(t.Context(), "default", at); err != nil {
		t.Errorf("it is not found: %v", err)
	}
	for _, b := range []*Belt{here, there} {
		if err := sendReply(b, "default", at, "good"); err != nil {
			t.Error(err)
		}
	}
	if err := sendReply(there, "default", at, "bad"); device.CodeOf(err) != device.Invalid || device.PublicMessage(err) != "the receiver rejected it" {
		t.Errorf("rejected is told as %v", err)
	}
	if err := sendReply(there, "default", at, "broken"); device.CodeOf(err) != device.Internal || strings.Contains(err.Error(), errOutage.Error()) {
		t.Errorf("a fault is told as %v", err)
	}
	for tenant, address := range map[string]string{"default": "$reply/other", "other": at} {
		if err := sendReply(there, tenant, address, "good"); device.CodeOf(err) != device.NotFound {
			t.Errorf("%s of %s: %v", address, tenant, err)
		}
		if err := there.Replies().Find(t.Context(), tenant, address); device.CodeOf(err) != device.NotFound {
			t.Errorf("%s of %s is found: %v", address, tenant, err)
		}
	}
	if err := sendReply(there, "default", at, strings.Repeat("x", int(there.nc.MaxPayload())+1)); device.CodeOf(err) != device.TooLarge {
		t.Errorf("a large one: %v", err)
	}
	r.stop()
	if err := sendReply(there, "default", at, "good"); device.CodeOf(err) != device.NotFound {
		t.Errorf("after it has stopped: %v", err)
	}
	if got := strings.Join(r.got, " "); got != "good good bad broken" {
		t.Errorf("received %q", got)
	}
}

// TestReplyIsHeldAsLongAsItTakes, and one whose node is lost is not waited for.
func TestReplyIsHeldAsLongAsItTakes(t *testing.T) {
	t.Parallel()
	server := startEmbedded(t, t.TempDir(), Relaxed)
	here, there := openOn(t, Options{Server: server, Durability: Relaxed}), openOn(t, Options{Server: server, Durability: Relaxed})
	holding := func(string) (error, bool) { return nil, false }
	slow := receiveReplies(t, here, "default", "slow", holding)
	told := make(chan error, 1)
	go func() { told <- sendReply(there, "default", "slow", "1") }()
	lost := openOn(t, Options{Server: server, Durability: Relaxed})
	other := receiveReplies(t, lost, "default", "lost", holding)
	gone := make(chan error, 1)
	go func() { gone <- sendReply(there, "default", "lost", "1") }()
	// While the other's node is given up, this one's is not, and it waits the longer.
	eventually(t, "both have it", func() bool {
		slow.mu.Lock()
		other.mu.Lock()
		defer slow.mu.Unlock()
		defer other.mu.Unlock()
		return len(slow.done) == 1 && len(other.done) == 1
	})
	stopWithin(t, func(ctx context.Context) error { return lost.Close(ctx) })
	if err := <-gone; device.CodeOf(err) != device.Unavailable {
		t.Errorf("a lost node: %v", err)
	}
	select {
	case err := <-told:
		t.Fatalf("what is held was told as %v", err)
	default:
	}
	slow.done[0](nil)
	if err := <-told; err != nil {
		t.Error(err)
	}
}

// TestNewerReceiverTakesTheAddress, whichever node it is on; of many that come at
// once one is left.
func TestNewerReceiverTakesTheAddress(t *testing.T) {
	t.Parallel()
	server := startEmbedded(t, t.TempDir(), Relaxed)
	here, there := openOn(t, Options{Server: server, Durability: Relaxed}), openOn(t, Options{Server: server, Durability: Relaxed})
	var all []*replyReceiver
	for i := range 6 {
		b := here
		if i%2 == 1 {
			b = there
		}
		all = append(all, receiveReplies(t, b, "default", "app/responses", accepting))
	}
	for i, r := range all[:5] {
		select {
		case <-r.taken:
			r.stop()
		case <-time.After(20 * time.Second):
			t.Fatal(fmt.Errorf("receiver %d of 6 still has the address", i+1))
		}
	}
	if err := sendReply(here, "default", "app/responses", "1"); err != nil {
		t.Error(err)
	}
	if newest := all[5]; len(newest.taken) != 0 || len(newest.got) != 1 {
		t.Errorf("the newest received %q", newest.got)
	}
}
