package pipeline

import (
	"bytes"
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
)

// The headers of a dead letter; its body is the raw bytes, cut to maxDeadBytes.
const (
	HeaderCode        = "Tributary-Code"         // device.Code of the reason
	HeaderReason      = "Tributary-Reason"       // the reason in words
	HeaderProtocol    = "Tributary-Protocol"     // the door it came through
	HeaderAddress     = "Tributary-Address"      // topic, target address or path
	HeaderContentType = "Tributary-Content-Type" // as declared
	HeaderStream      = "Tributary-Stream"       // when it had been in a stream: which,
	HeaderSequence    = "Tributary-Sequence"     // and where
	HeaderLength      = "Tributary-Length"       // of the raw bytes before the cut
)

const (
	maxDeadBytes  = 64 << 10 // of the raw bytes
	maxDeadText   = 1 << 10  // of each header
	deadQueueSize = 1000     // refusals waiting to be written; more are dropped and counted
)

// deadLetter is a message that was not kept, and why.
type deadLetter struct {
	adapters.Refusal
	length int    // of Raw before it was cut
	stream string // "" for one refused at a door
	seq    uint64
}

// deadLetters writes refusals in the background.
type deadLetters struct {
	b     *Belt
	queue chan deadLetter
	wg    sync.WaitGroup
	mu    sync.RWMutex
	shut  bool
}

func (b *Belt) openDeadLetters() *deadLetters {
	d := &deadLetters{b: b, queue: make(chan deadLetter, deadQueueSize)}
	d.wg.Go(func() {
		for l := range d.queue {
			it := l.item()
			it.done = func(_ uint64, err error) {
				if err != nil {
					b.metrics.deadDropped.Inc()
				}
			}
			if b.letters.publish(it) != nil {
				b.metrics.deadDropped.Inc()
			}
		}
	})
	return d
}

// Refused leaves a trail of a message an adapter did not keep (adapters.Gate).
// It never blocks and keeps none of r's memory: when too many wait, the letter
// is dropped and counted.
func (b *Belt) Refused(r adapters.Refusal) {
	d := b.deadLetters
	l := deadLetter{Refusal: r, length: len(r.Raw)}
	l.Raw = bytes.Clone(r.Raw[:min(len(r.Raw), maxDeadBytes)])
	d.mu.RLock()
	defer d.mu.RUnlock()
	if !d.shut {
		select {
		case d.queue <- l:
			b.metrics.deadLetters.WithLabelValues("refused").Inc()
			return
		default:
		}
	}
	b.metrics.deadDropped.Inc()
}

// bury writes a message that a stream holds and the store will never take; it
// returns when that is durable.
func (b *Belt) bury(ctx context.Context, l deadLetter, why string) error {
	it := l.item()
	_, err := b.letters.publishWait(ctx, it)
	if err == nil {
		b.metrics.deadLetters.WithLabelValues(why).Inc()
	}
	return err
}

func (d *deadLetters) close(ctx context.Context) {
	d.mu.Lock()
	if !d.shut {
		d.shut = true
		close(d.queue)
	}
	d.mu.Unlock()
	done := make(chan struct{})
	go func() { d.wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	case <-time.After(5 * time.Second):
	}
}

func (l *deadLetter) item() item {
	h := nats.Header{}
	set := func(k, v string) {
		if v != "" {
			h.Set(k, headerText(v))
		}
	}
	if l.Err != nil {
		set(HeaderCode, device.CodeOf(l.Err).String())
		set(HeaderReason, l.Err.Error())
	}
	set(HeaderProtocol, string(l.Protocol))
	set(HeaderAddress, l.Address)
	set(HeaderContentType, l.ContentType)
	set(HeaderStream, l.stream)
	if l.seq != 0 {
		set(HeaderSequence, strconv.FormatUint(l.seq, 10))
	}
	set(HeaderLength, strconv.Itoa(l.length))
	return item{subject: deadLetterSubject(l.Device), header: h, body: l.Raw[:min(len(l.Raw), maxDeadBytes)]}
}

// headerText makes text fit for one header line: no line breaks or other
// control characters, and a bounded length.
func headerText(s string) string {
	b := []byte(s[:min(len(s), maxDeadText)])
	for i, c := range b {
		if c < 0x20 || c == 0x7f {
			b[i] = ' '
		}
	}
	return string(b)
}
