package amqp_test

import (
	"errors"
	"testing"
	"time"

	client "github.com/Azure/go-amqp"

	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/amqp"
	"github.com/tributary-iot/tributary/device"
)

// tenants is a gate with an application and a device in each of two tenants.
func tenants() *adaptertest.Gate {
	gate := &adaptertest.Gate{Secrets: map[device.ID]string{}, Kinds: map[device.ID]device.PrincipalKind{}, RefuseAnonymous: true}
	for _, tenant := range []string{"default", "other"} {
		gate.Secrets[device.ID{Tenant: tenant, Device: "app"}] = "s"
		gate.Kinds[device.ID{Tenant: tenant, Device: "app"}] = device.KindApplication
		gate.Secrets[device.ID{Tenant: tenant, Device: "d"}] = "s"
	}
	return gate
}

func as(t testing.TB, s adapters.Adapter, user string) *client.Session {
	t.Helper()
	_, session := dial(t, s, &client.ConnOptions{SASLType: client.SASLTypePlain(user, "s"), ContainerID: user})
	return session
}

func stored(gate *adaptertest.Gate, tenant, dev, channel, payload string) {
	gate.Store(&device.Message{Tenant: tenant, Device: dev, Channel: channel, Payload: []byte(payload), Protocol: device.MQTT,
		ContentType: "text/plain", ReceivedAt: time.Now().Add(time.Duration(len(gate.Stored())) * time.Second)})
}

func receive(t testing.TB, r *client.Receiver, payload string) *client.Message {
	t.Helper()
	m, err := r.Receive(soon(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(m.GetData()); got != payload {
		t.Errorf("received %q, want %q", got, payload)
	}
	return m
}

// take is receive, and accepts.
func take(t testing.TB, r *client.Receiver, payload string) *client.Message {
	t.Helper()
	m := receive(t, r, payload)
	if err := r.AcceptMessage(soon(t), m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestApplicationReceivesTelemetry(t *testing.T) {
	gate := tenants()
	s := serve(t, amqp.Config{}, gate)
	r := receiver(t, as(t, s, "app"), "telemetry", &client.ReceiverOptions{Credit: -1})
	if err := r.IssueCredit(1); err != nil {
		t.Fatal(err)
	}
	gate.Gap = &adapters.Gap{After: "7", Before: "9"}
	m := client.NewMessage([]byte("21.5"))
	created := time.UnixMilli(1700000000123).UTC()
	m.Properties = &client.MessageProperties{MessageID: "k1", ContentType: ptr("application/json"), CreationTime: &created}
	m.ApplicationProperties = map[string]any{"site": "north"}
	to := sender(t, as(t, s, "d"), "telemetry/room/1", nil)
	for range 2 {
		if err := to.Send(soon(t), m, nil); err != nil {
			t.Fatal(err)
		}
	}
	got := receive(t, r, "21.5")
	p, a := got.Properties, got.Annotations
	if p.MessageID != "k1" || *p.To != "d/telemetry/room/1" || *p.ContentType != "application/json" || !p.CreationTime.Equal(created) ||
		got.ApplicationProperties["site"] != "north" || got.Header != nil {
		t.Errorf("received %+v, %v", p, got.ApplicationProperties)
	}
	if a["x-opt-device"] != "d" || a["x-opt-channel"] != "room/1" || a["x-opt-protocol"] != "amqp" || a["x-opt-position"] != "1" ||
		a["x-opt-gap-after"] != "7" || a["x-opt-gap-before"] != "9" || time.Since(a["x-opt-stored-at"].(time.Time)) > time.Minute {
		t.Errorf("annotations %v", a)
	}
	// Credit was one. What is released comes again; what is rejected does not.
	if extra := r.Prefetched(); extra != nil {
		t.Errorf("beyond the credit came %s", extra.GetData())
	}
	if err := r.ReleaseMessage(soon(t), got); err != nil {
		t.Fatal(err)
	}
	if err := r.IssueCredit(3); err != nil {
		t.Fatal(err)
	}
	again := receive(t, r, "21.5")
	if again.Header == nil || again.Header.DeliveryCount != 1 {
		t.Errorf("released, and came again with %+v", again.Header)
	}
	if err := r.AcceptMessage(soon(t), again); err != nil {
		t.Fatal(err)
	}
	if err := r.RejectMessage(soon(t), receive(t, r, "21.5"), nil); err != nil {
		t.Fatal(err)
	}
	until(t, gate, "three outcomes", func() bool { return len(gate.Consumed()) == 3 })
	if got := gate.Consumed(); got[0] != device.Released || got[1] != device.Accepted || got[2] != device.Rejected {
		t.Errorf("settled as %v", got)
	}
}

func TestTelemetryAddressesAndFilters(t *testing.T) {
	gate := tenants()
	for _, m := range [][3]string{{"a", "", "1"}, {"a", "room", "2"}, {"b", "room/x", "3"}, {"b", "room", "4"}} {
		stored(gate, "default", m[0], m[1], m[2])
	}
	stored(gate, "other", "a", "room", "not for you")
	session := as(t, serve(t, amqp.Config{}, gate), "app")
	from := func(v any) *client.ReceiverOptions {
		return &client.ReceiverOptions{Filters: []client.LinkFilter{client.NewLinkFilter("tributary:from", 0, v)}}
	}
	check := func(at string, opts *client.ReceiverOptions, payloads ...string) {
		t.Helper()
		r := receiver(t, session, at, opts)
		for _, p := range payloads {
			take(t, r, p)
		}
		if r.LinkSourceFilterValue("tributary:from") == nil && opts != nil {
			t.Error("the filter is not echoed")
		}
		if err := r.Close(soon(t)); err != nil {
			t.Error(err)
		}
	}
	check("telemetry", from("first"), "1", "2", "3", "4")
	check("/telemetry/#", from("first"), "1", "2", "3", "4")
	check("telemetry/room", from("first"), "2", "4")
	check("telemetry/room/#", from("first"), "2", "3", "4")
	check("b/telemetry", from("first"), "3", "4")
	check("b/telemetry/room", from("first"), "4")
	check("telemetry", from("2"), "3", "4")
	check("telemetry", from(gate.Stored()[3].ReceivedAt), "4")
	until(t, gate, "all readers have left", func() bool { return gate.Readers() == 0 })

	for at, opts := range map[string]*client.ReceiverOptions{"telemetry": from(1.5), "telemetry/": from("nonsense")} {
		var refused *client.Error
		if _, err := session.NewReceiver(soon(t), at, opts); !errors.As(err, &refused) || refused.Condition != client.ErrCondInvalidField {
			t.Errorf("%q with a bad filter: %v", at, err)
		}
	}
	// Filters that are not ours are not echoed: the peer learns that they do nothing.
	r := receiver(t, session, "telemetry", &client.ReceiverOptions{Filters: []client.LinkFilter{client.NewSelectorFilter("a = 1")}})
	if r.LinkSourceFilterValue("apache.org:selector-filter:string") != nil {
		t.Error("a selector is echoed")
	}
}

func TestReceiversShareASubscription(t *testing.T) {
	gate := tenants()
	s := serve(t, amqp.Config{}, gate)
	named := func(name string) *client.ReceiverOptions {
		return &client.ReceiverOptions{Name: name, Credit: 2, SourceCapabilities: []string{"shared", "global"}, SourceDurability: client.DurabilityUnsettledState,
			SourceExpiryPolicy: client.ExpiryPolicyNever}
	}
	one := receiver(t, as(t, s, "app"), "telemetry", named("jobs|1"))
	other, err := client.Dial(soon(t), "amqp://"+addr(s), &client.ConnOptions{SASLType: client.SASLTypePlain("app", "s")})
	if err != nil {
		t.Fatal(err)
	}
	session, err := other.NewSession(soon(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	two := receiver(t, session, "telemetry", named("jobs|2"))
	foreign := receiver(t, as(t, s, "app@other"), "telemetry", named("jobs|1"))
	for _, p := range []string{"x", "x", "x", "x"} {
		stored(gate, "default", "d", "", p)
	}
	for _, r := range []*client.Receiver{one, one, two, two} { // two each: their credit
		receive(t, r, "x")
	}
	// What a reader that is lost had is the other's.
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	stored(gate, "other", "d", "", "theirs")
	receive(t, foreign, "theirs")
	until(t, gate, "one reader left in the tenant", func() bool { return gate.Readers() == 2 })

	// The position outlives its readers.
	if err := one.Close(soon(t)); err != nil {
		t.Fatal(err)
	}
	until(t, gate, "no reader left in the tenant", func() bool { return gate.Readers() == 1 })
	later := receiver(t, as(t, s, "app"), "telemetry", named("jobs"))
	for range 2 {
		m := receive(t, later, "x")
		if m.Header == nil || m.Header.DeliveryCount != 1 {
			t.Errorf("what was left came with %+v", m.Header)
		}
		if err := later.AcceptMessage(soon(t), m); err != nil {
			t.Fatal(err)
		}
	}
	// The same name for something else is refused.
	var refused *client.Error
	if _, err := as(t, s, "app").NewReceiver(soon(t), "d/telemetry", named("jobs")); !errors.As(err, &refused) || refused.Condition != client.ErrCondResourceLocked {
		t.Errorf("the name for something else: %v", err)
	}
}

func TestOnlyApplicationsReadAndCommand(t *testing.T) {
	gate := tenants()
	s := serve(t, amqp.Config{}, gate)
	refusedWith := func(what string, err error, want client.ErrCond) {
		t.Helper()
		var refused *client.Error
		if !errors.As(err, &refused) || refused.Condition != want {
			t.Errorf("%s: %v, want %s", what, err, want)
		}
	}
	dev, app := as(t, s, "d"), as(t, s, "app")
	for _, at := range []string{"telemetry", "d/telemetry", "x/telemetry/room", "responses", "d/responses"} {
		_, err := dev.NewReceiver(soon(t), at, nil)
		refusedWith("a device receives from "+at, err, client.ErrCondUnauthorizedAccess)
	}
	_, err := dev.NewSender(soon(t), "x/commands", nil)
	refusedWith("a device commands", err, client.ErrCondUnauthorizedAccess)
	_, err = app.NewSender(soon(t), "d/telemetry", nil)
	refusedWith("an application speaks for a device", err, client.ErrCondUnauthorizedAccess)
	_, err = app.NewReceiver(soon(t), "d/commands", nil)
	refusedWith("an application receives commands", err, client.ErrCondUnauthorizedAccess)
	_, err = app.NewReceiver(soon(t), "d/responses", nil)
	refusedWith("an application receives another's responses", err, client.ErrCondUnauthorizedAccess)
	_, err = app.NewSender(soon(t), "commands", nil)
	refusedWith("a command to nobody", err, client.ErrCondInvalidField)
}

func TestDrainedReaderGivesBack(t *testing.T) {
	gate := tenants()
	session := as(t, serve(t, amqp.Config{DrainGrace: 20 * time.Millisecond}, gate), "app")
	r := receiver(t, session, "telemetry", &client.ReceiverOptions{Credit: -1})
	if err := r.IssueCredit(10); err != nil {
		t.Fatal(err)
	}
	stored(gate, "default", "d", "", "1")
	take(t, r, "1")
	if err := r.DrainCredit(soon(t), nil); err != nil {
		t.Fatal(err)
	}
	stored(gate, "default", "d", "", "2")
	if m := r.Prefetched(); m != nil {
		t.Errorf("after the drain came %s", m.GetData())
	}
	if err := r.IssueCredit(1); err != nil {
		t.Fatal(err)
	}
	receive(t, r, "2")
	if n := gate.Readers(); n != 1 {
		t.Errorf("%d readers: the drain gave the subscription up", n)
	}
}
