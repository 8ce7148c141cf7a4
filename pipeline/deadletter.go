package pipeline

import (
	"bytes"
	"context"
	"encoding/base64"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
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
	HeaderEpoch       = "Tributary-Epoch"        // of the sequence
	HeaderLength      = "Tributary-Length"       // of the raw bytes before the cut
	HeaderMessage     = "Tributary-Message"      // to replay it: the message without payload and measurements, in base64
)

const (
	maxDeadBytes  = 64 << 10 // of the raw bytes of a refusal; of what was acknowledged as many as fit
	maxDeadText   = 1 << 10  // of each header
	deadQueueSize = 1000     // refusals waiting to be written; more are dropped and counted
)

// deadLetter is a message that was not kept, and why.
type deadLetter struct {
	adapters.Refusal
	length int    // of Raw before it was cut
	stream string // "" for one refused at a door
	at     device.Position
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
	if l.Message != nil { // the payload is Raw, and must not be held beside it
		unread := *l.Message
		unread.Payload, unread.Measurements = nil, nil
		l.Message = &unread
	}
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
	it.body = it.body[:min(len(it.body), b.maxBody-headerRoom(it.header))]
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
	if l.at.Seq != 0 {
		set(HeaderSequence, strconv.FormatUint(l.at.Seq, 10))
		set(HeaderEpoch, strconv.FormatUint(l.at.Epoch, 10))
	}
	set(HeaderLength, strconv.Itoa(l.length))
	if l.Message != nil {
		h.Set(HeaderMessage, base64.StdEncoding.EncodeToString(devicepb.MarshalMessage(l.Message)))
	}
	return item{subject: deadLetterSubject(l.Device), header: h, body: l.Raw}
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
