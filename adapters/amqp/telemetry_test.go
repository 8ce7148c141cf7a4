package amqp_test

import (
	"bytes"
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	client "github.com/Azure/go-amqp"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/amqp"
	"github.com/tributary-iot/tributary/device"
)

func ptr[T any](v T) *T { return &v }

func TestMessageInOurWords(t *testing.T) {
	gate := &adaptertest.Gate{}
	_, session := dial(t, serve(t, amqp.Config{}, gate), nil)
	created := time.UnixMilli(1700000000123).UTC()
	m := client.NewMessage([]byte(`{"temperature":21.5}`))
	m.Properties = &client.MessageProperties{MessageID: client.UUID{1, 15: 2}, ContentType: ptr("application/json"), CreationTime: &created}
	m.ApplicationProperties = map[string]any{"site": "north", "n": int32(7), "ok": true}
	if err := sender(t, session, "/dev1/telemetry/room/1", nil).Send(soon(t), m, nil); err != nil {
		t.Fatal(err)
	}
	got := gate.Stored()
	if len(got) != 1 {
		t.Fatalf("%d messages stored", len(got))
	}
	g := got[0]
	if g.ID() != idOf("dev1") || g.Channel != "room/1" || g.Key != "01000000-0000-0000-0000-000000000002" || g.Protocol != device.AMQP ||
		g.QoS != 1 || g.ContentType != "application/json" || !g.CreatedAt.Equal(created) || g.ReceivedAt.IsZero() ||
		g.Properties["site"] != "north" || g.Properties["n"] != "7" || g.Properties["ok"] != "true" || string(g.Payload) != `{"temperature":21.5}` {
		t.Errorf("stored %+v", g)
	}
	if len(g.Measurements) != 1 || g.Measurements[0].Value != device.Double(21.5) {
		t.Errorf("measurements %+v", g.Measurements)
	}
}

func TestOutcomesByError(t *testing.T) {
	for code, want := range map[device.Code]client.ErrCond{
		device.Invalid: client.ErrCondInvalidField, device.TooLarge: client.ErrCondMessageSizeExceeded,
		device.Busy: client.ErrCondResourceLimitExceeded, device.Unavailable: client.ErrCondInternalError, device.Internal: client.ErrCondInternalError,
	} {
		for _, late := range []bool{false, true} {
			refusal := device.Errorf(code, "because")
			gate := &adaptertest.Gate{OnSubmit: func(_ *device.Message, done func(error)) error {
				if late {
					go done(refusal)
					return nil
				}
				return refusal
			}}
			_, session := dial(t, serve(t, amqp.Config{}, gate), nil)
			err := sender(t, session, "d/telemetry", nil).Send(soon(t), client.NewMessage([]byte("1")), nil)
			var rejected *client.Error
			if !errors.As(err, &rejected) || rejected.Condition != want || !strings.Contains(rejected.Description, "because") {
				t.Errorf("%s, late %v: %v", code, late, err)
			}
			if trail := len(gate.Refusals()) > 0; trail == code.Retryable() {
				t.Errorf("%s: trail %v", code, trail)
			}
		}
	}
}

func TestUndecodablePayloadIsRejected(t *testing.T) {
	gate := &adaptertest.Gate{}
	_, session := dial(t, serve(t, amqp.Config{}, gate), nil)
	link := sender(t, session, "d/telemetry", nil)
	bad := client.NewMessage([]byte("{"))
	bad.Properties = &client.MessageProperties{ContentType: ptr("application/json")}
	other := &client.Message{Value: 1.5, Properties: &client.MessageProperties{ContentType: ptr("application/cbor")}}
	for name, m := range map[string]*client.Message{"broken JSON": bad, "a value said to be CBOR": other, "a batch": {Format: 0x80013700, Data: [][]byte{[]byte("x")}}} {
		var rejected *client.Error
		if err := link.Send(soon(t), m, nil); !errors.As(err, &rejected) {
			t.Errorf("%s: %v", name, err)
		} else if name != "a batch" && rejected.Condition != client.ErrCondDecodeError {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(gate.Refusals()) != 3 || len(gate.Stored()) != 0 {
		t.Errorf("%d refusals, %d stored", len(gate.Refusals()), len(gate.Stored()))
	}
	// The link goes on.
	if err := link.Send(soon(t), &client.Message{Value: "21.5"}, nil); err != nil {
		t.Error(err)
	}
}

func TestSettledMessages(t *testing.T) {
	gate := &adaptertest.Gate{}
	_, session := dial(t, serve(t, amqp.Config{Credit: 10}, gate), nil)
	link := sender(t, session, "d/telemetry", &client.SenderOptions{SettlementMode: ptr(client.SenderSettleModeSettled)})
	const n = 200 // twenty times the credit
	for range n {
		if err := link.Send(soon(t), client.NewMessage([]byte("1")), nil); err != nil {
			t.Fatal(err)
		}
	}
	until(t, gate, "all are stored", func() bool { return len(gate.Stored()) == n })
	if q := gate.Stored()[0].QoS; q != 0 {
		t.Errorf("QoS %d", q)
	}
}

// Nothing is accepted before it is stored, and a house that is behind leaves
// the sender without credit.
func TestAcceptedOnlyOnceStored(t *testing.T) {
	var mu sync.Mutex
	var waiting []func(error)
	gate := &adaptertest.Gate{}
	arrived := make(chan struct{}, 100)
	gate.OnSubmit = func(m *device.Message, done func(error)) error {
		mu.Lock()
		waiting = append(waiting, func(err error) { gate.Store(m); done(err) })
		mu.Unlock()
		arrived <- struct{}{}
		return nil
	}
	_, session := dial(t, serve(t, amqp.Config{Credit: 4}, gate), nil)
	link := sender(t, session, "d/telemetry", nil)
	var receipts []client.SendReceipt
	for range 4 {
		r, err := link.SendWithReceipt(soon(t), client.NewMessage([]byte("1")), nil)
		if err != nil {
			t.Fatal(err)
		}
		receipts = append(receipts, r)
		<-arrived
	}
	fifth := make(chan error, 1)
	go func() { fifth <- link.Send(soon(t), client.NewMessage([]byte("5")), nil) }()
	// A round trip on another link: whatever was to be told has been told by then.
	sender(t, session, "other/telemetry", nil)
	select {
	case <-arrived:
		t.Fatal("a message came without credit")
	case err := <-fifth:
		t.Fatal("the fifth message ended without being stored", err)
	default:
	}
	mu.Lock()
	for i := len(waiting) - 1; i >= 0; i-- { // any order will do
		go waiting[i](nil)
	}
	mu.Unlock()
	for _, r := range receipts {
		if state, err := r.Wait(soon(t)); err != nil {
			t.Error(err)
		} else if _, ok := state.(*client.StateAccepted); !ok {
			t.Errorf("state %T", state)
		}
	}
	<-arrived
	mu.Lock()
	waiting[4](nil)
	mu.Unlock()
	if err := <-fifth; err != nil {
		t.Error(err)
	}
}

func TestLargeMessageOverSmallFrames(t *testing.T) {
	gate := &adaptertest.Gate{}
	s := serve(t, amqp.Config{MaxFrameSize: 4096}, gate)
	_, session := dial(t, s, &client.ConnOptions{MaxFrameSize: 4096})
	payload := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	link := sender(t, session, "d/telemetry", nil)
	if err := link.Send(soon(t), client.NewMessage(payload), nil); err != nil {
		t.Fatal(err)
	}
	if got := gate.Stored(); len(got) != 1 || !bytes.Equal(got[0].Payload, payload) {
		t.Error("the payload did not come as it was sent")
	}
	var rejected *client.Error
	if err := link.Send(soon(t), client.NewMessage(append(payload, 'x')), nil); !errors.As(err, &rejected) || rejected.Condition != client.ErrCondMessageSizeExceeded {
		t.Errorf("one byte more: %v", err)
	}
	if max := link.MaxMessageSize(); max < 1<<20 {
		t.Errorf("the announced max-message-size is %d", max)
	}

	// And down again.
	gate.Send(device.Command{ID: "big", Tenant: "default", Device: "d", Payload: payload})
	m, err := receiver(t, session, "d/commands", nil).Receive(soon(t), nil)
	if err != nil || !bytes.Equal(m.GetData(), payload) {
		t.Errorf("the command did not come as it was sent: %v", err)
	}
}

func TestCredentials(t *testing.T) {
	gate := &adaptertest.Gate{Secrets: map[device.ID]string{idOf("alice"): "sesame"}, RefuseAnonymous: true}
	s := serve(t, amqp.Config{}, gate)
	for name, sasl := range map[string]client.SASLType{
		"wrong secret": client.SASLTypePlain("alice", "x"), "unknown": client.SASLTypePlain("eve", "sesame"),
		"anonymous": client.SASLTypeAnonymous(), "none": nil, "other mechanism": client.SASLTypeXOAUTH2("alice", "t", 512),
	} {
		if conn, err := client.Dial(soon(t), "amqp://"+addr(s), &client.ConnOptions{SASLType: sasl}); err == nil {
			// Without SASL the OPEN is answered before the CLOSE.
			if _, err = conn.NewSession(soon(t), nil); err == nil {
				t.Errorf("%s: let in", name)
			}
			_ = conn.Close()
		}
	}
	_, session := dial(t, s, &client.ConnOptions{SASLType: client.SASLTypePlain("alice", "sesame")})
	if err := sender(t, session, "telemetry", nil).Send(soon(t), client.NewMessage([]byte("1")), nil); err != nil {
		t.Error(err)
	}
	var refused *client.Error
	for _, at := range []string{"bob/telemetry", "nowhere", "alice/commands", "commands"} {
		if _, err := session.NewSender(soon(t), at, nil); !errors.As(err, &refused) {
			t.Errorf("a sender to %s: %v", at, err)
		}
	}
	for _, at := range []string{"bob/commands", "telemetry", "alice/telemetry", ""} {
		if _, err := session.NewReceiver(soon(t), at, nil); !errors.As(err, &refused) {
			t.Errorf("a receiver from %s: %v", at, err)
		}
	}
	if got := gate.Stored(); len(got) != 1 || got[0].Device != "alice" {
		t.Errorf("stored %+v", got)
	}
}

func TestShortFormOfAnonymousPeer(t *testing.T) {
	gate := &adaptertest.Gate{}
	s := serve(t, amqp.Config{}, gate)
	for _, sasl := range []client.SASLType{nil, client.SASLTypeAnonymous()} {
		_, session := dial(t, s, &client.ConnOptions{ContainerID: "thermo-1", SASLType: sasl})
		if err := sender(t, session, "telemetry/x", nil).Send(soon(t), client.NewMessage([]byte("1")), nil); err != nil {
			t.Error(err)
		}
	}
	for _, m := range gate.Stored() {
		if m.Device != "thermo-1" || m.Channel != "x" {
			t.Errorf("stored %+v", m)
		}
	}
	if n := len(gate.Stored()); n != 2 {
		t.Errorf("%d stored", n)
	}
}

func TestAnonymousTerminus(t *testing.T) {
	gate := &adaptertest.Gate{}
	_, session := dial(t, serve(t, amqp.Config{}, gate), nil)
	link := sender(t, session, "", nil)
	for _, to := range []string{"a/telemetry", "b/telemetry/c"} {
		m := client.NewMessage([]byte("1"))
		m.Properties = &client.MessageProperties{To: &to}
		if err := link.Send(soon(t), m, nil); err != nil {
			t.Error(err)
		}
	}
	var rejected *client.Error
	if err := link.Send(soon(t), client.NewMessage([]byte("1")), nil); !errors.As(err, &rejected) || rejected.Condition != client.ErrCondNotFound {
		t.Errorf("no address: %v", err)
	}
	if got := gate.Stored(); len(got) != 2 || got[1].Device != "b" || got[1].Channel != "c" {
		t.Errorf("stored %+v", got)
	}
}

// What AMQP's own types say is read, and kept as JSON.
func TestTypedBodies(t *testing.T) {
	gate := &adaptertest.Gate{}
	_, session := dial(t, serve(t, amqp.Config{}, gate), nil)
	link := sender(t, session, "d/telemetry", nil)
	for _, m := range []*client.Message{
		{Value: map[string]any{"temperature": 21.5}}, {Value: 21.5}, {Sequence: [][]any{{21.5}, {int32(4)}}},
	} {
		if err := link.Send(soon(t), m, nil); err != nil {
			t.Fatal(err)
		}
	}
	got := gate.Stored()
	for i, want := range []string{`{"temperature":21.5}`, `21.5`, `[21.5,4]`} {
		if string(got[i].Payload) != want || got[i].ContentType != "application/json" {
			t.Errorf("stored %s of type %s, want %s", got[i].Payload, got[i].ContentType, want)
		}
	}
	if m := got[0].Measurements; len(m) != 1 || m[0].Name != "temperature" || m[0].Value != device.Double(21.5) {
		t.Errorf("measurements %+v", m)
	}
}

// What a message says of itself is kept beside its payload.
func TestSectionsAreKept(t *testing.T) {
	gate := &adaptertest.Gate{}
	_, session := dial(t, serve(t, amqp.Config{}, gate), nil)
	expires := time.UnixMilli(1700000000123).UTC()
	m := client.NewMessage([]byte("1"))
	m.Properties = &client.MessageProperties{
		UserID: []byte("u"), Subject: ptr("s"), ReplyTo: ptr("r"), CorrelationID: uint64(7), ContentEncoding: ptr("identity"),
		AbsoluteExpiryTime: &expires, GroupID: ptr("g"), GroupSequence: ptr(uint32(3)), ReplyToGroupID: ptr("rg"),
	}
	m.Annotations = client.Annotations{"x-opt-site": "north", "x-opt-floor": int32(2)}
	m.ApplicationProperties = map[string]any{"subject": "its own"}
	if err := sender(t, session, "d/telemetry", nil).Send(soon(t), m, nil); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"subject": "its own", "amqp.user-id": "u", "amqp.subject": "s", "amqp.reply-to": "r", "amqp.correlation-id": "7",
		"amqp.content-encoding": "identity", "amqp.absolute-expiry-time": "2023-11-14T22:13:20.123Z", "amqp.group-id": "g",
		"amqp.group-sequence": "3", "amqp.reply-to-group-id": "rg",
		"amqp.annotation.x-opt-site": "north", "amqp.annotation.x-opt-floor": "2",
	}
	if got := gate.Stored()[0].Properties; !maps.Equal(got, want) {
		t.Errorf("kept %v\nwant %v", got, want)
	}
}

func TestSettlesSecondWhereThePeerWantsIt(t *testing.T) {
	gate := &adaptertest.Gate{}
	_, session := dial(t, serve(t, amqp.Config{Credit: 2}, gate), nil)
	link := sender(t, session, "d/telemetry", &client.SenderOptions{RequestedReceiverSettleMode: ptr(client.ReceiverSettleModeSecond)})
	for range 10 { // five times the credit: what the peer has settled gives it back
		if err := link.Send(soon(t), client.NewMessage([]byte("1")), nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(gate.Stored()); n != 10 {
		t.Errorf("%d messages stored", n)
	}
}

func TestUnavailableIsNotAWrongSecret(t *testing.T) {
	s := serve(t, amqp.Config{}, &adaptertest.Gate{AuthErr: device.Errorf(device.Unavailable, "later")})
	_, err := client.Dial(soon(t), "amqp://"+addr(s), &client.ConnOptions{SASLType: client.SASLTypePlain("a", "b")})
	if err == nil || !strings.Contains(err.Error(), "0x4") && !strings.Contains(err.Error(), "4") {
		t.Errorf("the outcome is %v, want code 4", err)
	}
}
