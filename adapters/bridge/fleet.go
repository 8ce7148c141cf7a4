package bridge

import (
	"container/list"
	"context"
	"strings"
	"sync"
	"time"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
)

// fleet is the devices whose commands a link takes out: those its pattern names in
// full, and those it heard of last. It outlives the connections, on each of which
// its devices are attached anew.
type fleet struct {
	link *link
	wake chan struct{} // a device was added

	mu    sync.Mutex
	known map[string]*bridged
	order *list.List // of *bridged, heard of last first; those named in full are not on it
}

// bridged is one device.
type bridged struct {
	name       string
	at         *list.Element       // nil: named in full
	attachment adapters.Attachment // nil: not attached
	retryAt    time.Time           // not attached before
	pause      time.Duration       // after the next command the broker did not take
}

// How long a device is left alone that could not be attached.
const (
	attachAgain  = 5 * time.Second // for want of the house's time
	refusedAgain = time.Minute     // because it may not
)

func newFleet(l *link) *fleet {
	f := &fleet{link: l, wake: make(chan struct{}, 1), known: map[string]*bridged{}, order: list.New()}
	for name := range strings.SplitSeq(string(l.For), ",") {
		if l.Commands != "" && !strings.Contains(name, "*") {
			f.known[name] = &bridged{name: name}
		}
	}
	return f
}

func (f *fleet) size() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.known)
}

// heard adds a device, or says that it lives. When there are too many, the one not
// heard of for longest is let go.
func (f *fleet) heard(name string) {
	var gone adapters.Attachment
	f.mu.Lock()
	b := f.known[name]
	switch {
	case b == nil:
		b = &bridged{name: name}
		b.at = f.order.PushFront(b)
		f.known[name] = b
		if f.order.Len() > f.link.cfg.MaxDevices {
			gone = f.forget(f.order.Back().Value.(*bridged))
		}
		f.link.metrics.devices.WithLabelValues(f.link.Name).Set(float64(len(f.known)))
		defer f.look()
	case b.at != nil:
		f.order.MoveToFront(b.at)
	}
	f.mu.Unlock()
	if gone != nil {
		gone.Detach("not heard of for longest")
	}
}

// forget takes a device off the lists. The caller holds mu.
func (f *fleet) forget(b *bridged) adapters.Attachment {
	f.order.Remove(b.at)
	delete(f.known, b.name)
	a := b.attachment
	b.attachment = nil
	return a
}

// look makes attach look for devices not attached.
func (f *fleet) look() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// attach keeps every device of the fleet attached until ctx ends, and detaches all.
// offer takes what is sent to them.
func (f *fleet) attach(ctx context.Context, offer func(*bridged, adapters.Attachment, device.Delivery)) error {
	defer f.detach()
	tick := time.NewTicker(attachAgain)
	defer tick.Stop()
	f.link.metrics.devices.WithLabelValues(f.link.Name).Set(float64(f.size()))
	for {
		var under sync.WaitGroup
		slots := make(chan struct{}, attaching)
		for _, b := range f.waiting() {
			if ctx.Err() != nil {
				break
			}
			slots <- struct{}{}
			under.Go(func() {
				f.attachOne(ctx, b, offer)
				<-slots
			})
		}
		under.Wait()
		select {
		case <-f.wake:
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// waiting are the devices to be attached now.
func (f *fleet) waiting() (all []*bridged) {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.known {
		if b.attachment == nil && !now.Before(b.retryAt) {
			all = append(all, b)
		}
	}
	return all
}

func (f *fleet) attachOne(ctx context.Context, b *bridged, offer func(*bridged, adapters.Attachment, device.Delivery)) {
	l := f.link
	ctx, cancel := context.WithTimeout(ctx, l.cfg.DialTimeout)
	defer cancel()
	session := device.Session{Device: device.ID{Tenant: l.Tenant, Device: b.name}, Via: l.Name, Protocol: device.AMQP, Client: l.cfg.ContainerID + "-" + l.Name}
	if b.name == l.Name {
		session.Via = ""
	}
	var a adapters.Attachment
	a, err := l.gate.Attach(ctx, session, func(d device.Delivery) { // not before the first Request
		offer(b, a, d)
	}, func() { l.log.Debug("a newer session receives the device's commands", session.Device.Log()) })
	f.mu.Lock()
	if err == nil && f.known[b.name] == b {
		b.attachment, b.pause = a, busyMin
	} else if err == nil {
		defer a.Detach("not heard of for longest")
	} else {
		b.retryAt = time.Now().Add(attachAgain)
		if !device.CodeOf(err).Retryable() {
			b.retryAt = time.Now().Add(refusedAgain)
		}
	}
	f.mu.Unlock()
	if err != nil {
		l.log.Debug("a device's commands are not received", session.Device.Log(), "error", err)
		return
	}
	a.Request(1)
}

// detach gives all commands back.
func (f *fleet) detach() {
	f.mu.Lock()
	var all []adapters.Attachment
	for _, b := range f.known {
		if b.attachment != nil {
			all = append(all, b.attachment)
		}
		b.attachment, b.retryAt = nil, time.Time{}
	}
	f.mu.Unlock()
	for _, a := range all {
		a.Detach("the bridge is down")
	}
}
