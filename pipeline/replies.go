package pipeline

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
)

// A message to a receiver that lives as long as its link is a core NATS request to
// the address's own subject, where the receiver's node listens. It answers that it
// has the message, again and again until its receiver has settled it, and then how.
const (
	replyRoot     = "reply"
	replyBeat     = 10 * time.Second
	replyPatience = 3       // beats, after which a node that says nothing is lost
	replyFind     = "find"  // header of a request that asks whether anybody receives
	replyClaim    = "claim" // header of a message that says who receives now
)

// Replies takes messages to receivers on any node.
type Replies struct {
	b    *Belt
	beat time.Duration // how often a message that is not settled is said to be held
}

var _ adapters.Replies = Replies{}

// Replies answers the belt's.
func (b *Belt) Replies() Replies { return Replies{b, replyBeat} }

func replySubject(tenant, address string) string {
	return string(appendLevel([]byte(replyRoot+"."), tenant, subjectEscape)) + "." + hash(address, 16)
}

// replyClaimed is who receives at an address: of two, the one who came later.
type replyClaimed struct {
	Since time.Time `json:"since"`
	Token string    `json:"token"`
}

func (c replyClaimed) compare(o replyClaimed) int {
	return cmp.Or(c.Since.Compare(o.Since), cmp.Compare(c.Token, o.Token))
}

// replyVerdict is an answer on the way back: that the message is held, or its end.
type replyVerdict struct {
	Held    bool        `json:"held,omitempty"`
	Refused bool        `json:"refused,omitempty"`
	Code    device.Code `json:"code,omitempty"` // with Text, of a refusal
	Text    string      `json:"text,omitempty"`
}

// receiving is one receiver, from its claim on the address until it has stopped.
type receiving struct {
	Replies
	address   string
	mine      replyClaimed
	take      func(data []byte, done func(error))
	taken     func()
	overtaken bool // read and written where messages come in
	stopped   atomic.Bool
}

// Receive implements adapters.Replies.
func (r Replies) Receive(ctx context.Context, tenant, address string, take func(data []byte, done func(error)), taken func()) (func(), error) {
	in := &receiving{Replies: r, address: address, mine: replyClaimed{time.Now().UTC(), nuid.Next()}, take: take, taken: taken}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	sub, err := r.b.rnc.Subscribe(replySubject(tenant, address), in.message)
	if err == nil {
		_ = sub.SetPendingLimits(-1, -1) // take does not block, and says when it has enough
		if err = in.claim(sub.Subject); err == nil {
			err = r.b.rnc.FlushWithContext(ctx)
		}
	}
	if err != nil {
		if sub != nil {
			_ = sub.Unsubscribe()
		}
		return nil, device.Wrap(device.Unavailable, "replies cannot be listened for now", err)
	}
	return func() {
		// Drained, not cut off: the server may send more until it has read that nobody
		// listens, and who sent that would wait for an answer until patience ends.
		in.stopped.Store(true)
		_ = sub.Drain()
	}, nil
}

// claim tells whoever receives at the address that this one does now.
func (in *receiving) claim(subject string) error {
	said, _ := json.Marshal(in.mine) // nothing in it has no JSON
	return in.b.rnc.PublishMsg(&nats.Msg{Subject: subject, Header: nats.Header{replyClaim: {string(said)}}})
}

func (in *receiving) message(m *nats.Msg) {
	stopped := in.stopped.Load()
	switch {
	case m.Header.Get(replyClaim) != "":
		in.claimed(m, stopped)
	case m.Reply == "", stopped && in.overtaken: // who has the address now answers
	case stopped: // it was on its way when the receiver went
		in.say(m, replyVerdict{Refused: true, Code: device.NotFound, Text: nobodyReceives(in.address)})
	case m.Header.Get(replyFind) != "":
		in.say(m, replyVerdict{Held: true})
	default:
		in.taking(m)
	}
}

func (in *receiving) claimed(m *nats.Msg, stopped bool) {
	var other replyClaimed
	if json.Unmarshal([]byte(m.Header.Get(replyClaim)), &other) != nil {
		return
	}
	switch c := other.compare(in.mine); {
	case c > 0 && !in.overtaken:
		in.overtaken = true
		go in.taken()
	case c < 0 && !stopped: // it came late, or its clock is
		_ = in.claim(m.Subject)
	}
}

// taking gives a message to its receiver, and tells its sender that it has it until
// it says what became of it.
func (in *receiving) taking(m *nats.Msg) {
	ended := make(chan error, 1)
	in.take(m.Data, func(err error) { ended <- err })
	go func() {
		beat := time.NewTicker(in.beat)
		defer beat.Stop()
		for {
			select {
			case err := <-ended:
				v := replyVerdict{}
				if err != nil {
					v = replyVerdict{Refused: true, Code: device.CodeOf(err), Text: device.PublicMessage(err)}
				}
				in.say(m, v)
				return
			case <-beat.C:
				in.say(m, replyVerdict{Held: true})
			}
		}
	}()
}

func (r Replies) say(m *nats.Msg, v replyVerdict) {
	said, _ := json.Marshal(v)
	if err := m.Respond(said); err != nil {
		r.b.log.Debug("what became of a reply is not told", "error", err)
	}
}

// Find implements adapters.Replies.
func (r Replies) Find(ctx context.Context, tenant, address string) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	_, err := r.b.rnc.RequestMsgWithContext(ctx, &nats.Msg{Subject: replySubject(tenant, address), Header: nats.Header{replyFind: {"1"}}})
	return replyError(err, address)
}

// Send implements adapters.Replies.
func (r Replies) Send(tenant, address string, data []byte, done func(error)) {
	inbox := r.b.rnc.NewInbox()
	sub, err := r.b.rnc.SubscribeSync(inbox)
	if err == nil {
		err = r.b.rnc.PublishRequest(replySubject(tenant, address), inbox, data)
	}
	go func() {
		if err == nil {
			err = r.outcome(sub)
		}
		if sub != nil {
			_ = sub.Unsubscribe()
		}
		done(replyError(err, address))
	}()
}

// outcome waits for what became of a message, as long as its node says that it has it.
func (r Replies) outcome(sub *nats.Subscription) error {
	for {
		m, err := sub.NextMsg(replyPatience * r.beat)
		if err != nil {
			return err
		}
		if len(m.Data) == 0 && m.Header.Get("Status") != "" {
			return nats.ErrNoResponders
		}
		var v replyVerdict
		if err := json.Unmarshal(m.Data, &v); err != nil {
			return err
		}
		switch {
		case v.Held:
		case v.Refused:
			return device.Errorf(v.Code, "%s", v.Text)
		default:
			return nil
		}
	}
}

func nobodyReceives(address string) string {
	return fmt.Sprintf("nobody receives from %.300q", address)
}

func replyError(err error, address string) error {
	var ours *device.Error
	switch {
	case err == nil || errors.As(err, &ours):
		return err
	case errors.Is(err, nats.ErrNoResponders):
		return device.Errorf(device.NotFound, "%s", nobodyReceives(address))
	case errors.Is(err, nats.ErrMaxPayload):
		return device.Errorf(device.TooLarge, "the message is too large for another node")
	}
	return device.Wrap(device.Unavailable, "the node of the receiver does not answer", err)
}
