package natsdoor_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tributary-iot/tributary/pipeline/embedded"
	"github.com/tributary-iot/tributary/pipeline/natsdoor"
)

// forbidden are subjects a reader may not publish to.
var forbidden = []string{
	"telemetry.default.a", "command.default.a", "anything", "_INBOX.x", "_READERS.x", "_R_.x",
	"$JS.API.STREAM.CREATE.MINE", "$JS.API.STREAM.UPDATE.TELEMETRY", "$JS.API.STREAM.DELETE.TELEMETRY",
	"$JS.API.STREAM.PURGE.TELEMETRY", "$JS.API.STREAM.MSG.DELETE.TELEMETRY", "$JS.API.STREAM.MSG.GET.COMMANDS",
	"$JS.API.STREAM.SNAPSHOT.TELEMETRY", "$JS.API.STREAM.RESTORE.MINE", "$JS.API.STREAM.LIST", "$JS.API.STREAM.INFO.COMMANDS",
	"$JS.API.DIRECT.GET.TELEMETRY", "$JS.API.DIRECT.GET.COMMANDS", "$JS.API.CONSUMER.LIST.TELEMETRY", "$JS.API.CONSUMER.NAMES.TELEMETRY",
	"$JS.API.CONSUMER.CREATE.COMMANDS", "$JS.API.CONSUMER.CREATE.COMMANDS.mine", "$JS.API.CONSUMER.MSG.NEXT.COMMANDS.mine",
	"$JS.API.CONSUMER.PAUSE.TELEMETRY.mine", "$JS.API.CONSUMER.LEADER.STEPDOWN.TELEMETRY.mine", "$JS.API.META.LEADER.STEPDOWN",
	"$JS.API.SERVER.REMOVE", "$JS.ACK.COMMANDS.c.1.1.1.1.1", "$JS.FC.TELEMETRY.x", "$KV.DEVICES.default.a",
	"$SYS.REQ.SERVER.PING", "$SYS.REQ.ACCOUNT.PING.CONNZ", "$SYS.REQ.USER.INFO", "$SRV.PING",
}

func TestNothingElseCanBePublished(t *testing.T) {
	h := open(t, embedded.Readers{}, natsdoor.Config{})
	h.store("telemetry.default.a", "kept")
	h.store("command.default.a", "kept")
	denied := make(chan error, 1)
	nc := h.reader(denied)
	for _, subject := range forbidden {
		if err := nc.Publish(subject, []byte("{}")); err != nil {
			t.Fatal(err)
		}
		wantDenied(t, denied, subject)
	}
	if h.messages("TELEMETRY") != 1 || h.messages("COMMANDS") != 1 {
		t.Error("a stream was changed")
	}
}

func TestNothingElseCanBeSubscribed(t *testing.T) {
	h := open(t, embedded.Readers{}, natsdoor.Config{})
	denied := make(chan error, 1)
	nc := h.reader(denied)
	for _, subject := range []string{">", "*", "telemetry.>", "command.>", "$JS.>", "$JS.API.>", "$JS.EVENT.>", "$SYS.>", "$KV.>", "_READERS.>", "_R_.>", "*.>", "deadletter.>"} {
		if _, err := nc.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		wantDenied(t, denied, subject)
	}
}

func wantDenied(t *testing.T, denied <-chan error, what string) {
	t.Helper()
	select {
	case err := <-denied:
		if !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("%s: %v", what, err)
		}
	case <-time.After(20 * time.Second):
		t.Errorf("%s is not refused", what)
	}
}

// TestTheServersInboxesAreOutOfSight: what the server asks itself is answered
// in its own account.
func TestTheServersInboxesAreOutOfSight(t *testing.T) {
	h := open(t, embedded.Readers{}, natsdoor.Config{})
	nc := h.reader(nil)
	all, err := nc.SubscribeSync("_INBOX.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	h.store("telemetry.default.a", "1") // a request with an inbox of the server's own
	if err := h.inside.Conn().Publish("_INBOX.secret", []byte("secret")); err != nil {
		t.Fatal(err)
	}
	if err := h.inside.Conn().Publish("_READERS.end", []byte("end")); err != nil {
		t.Fatal(err)
	}
	m, err := all.NextMsg(20 * time.Second)
	if err != nil || m.Subject != "_INBOX.end" {
		t.Errorf("first seen is %v, %v", m, err)
	}
}

// TestReplySubjectsCarryNothingAway: the server would publish its answers
// wherever a request asks it to, with its own rights.
func TestReplySubjectsCarryNothingAway(t *testing.T) {
	h := open(t, embedded.Readers{}, natsdoor.Config{})
	h.store("telemetry.default.a", "1", "2")
	_, s := h.readerStream()
	if _, err := s.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Name: "mine"}); err != nil {
		t.Fatal(err)
	}
	nc := h.reader(nil)
	for _, reply := range []string{"command.default.a", "telemetry.default.a", "$JS.API.STREAM.PURGE.TELEMETRY", "$JS.API.STREAM.DELETE.COMMANDS",
		"$JS.ACK.TELEMETRY.x.1.1.1.1.1", "_READERS.x", "_R_.x", "$JS.API.CONSUMER.DELETE.TELEMETRY.mine"} {
		for _, subject := range []string{"$JS.API.STREAM.INFO.TELEMETRY", "$JS.API.CONSUMER.INFO.TELEMETRY.mine", "$JS.API.CONSUMER.MSG.NEXT.TELEMETRY.mine"} {
			if err := nc.PublishMsg(&nats.Msg{Subject: subject, Reply: reply, Data: []byte("1"),
				Header: nats.Header{"Nats-Trace-Dest": {"command.default.trace"}}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := nc.Request("$JS.API.CONSUMER.INFO.TELEMETRY.mine", nil, 20*time.Second); err != nil { // all before it is done with
		t.Fatal(err)
	}
	if got := h.messages("COMMANDS"); got != 0 {
		t.Errorf("%d messages were smuggled into COMMANDS", got)
	}
	if got := h.messages("TELEMETRY"); got != 2 {
		t.Errorf("TELEMETRY holds %d messages", got)
	}
	info, err := h.inside.Consumer(t.Context(), "TELEMETRY", "mine")
	if err != nil || info.CachedInfo().Delivered.Consumer != 0 {
		t.Errorf("a pull with a foreign reply was served: %+v, %v", info, err)
	}
}

// TestTheServersOwnConsumersAreNotTouched, even by who knows their names.
func TestTheServersOwnConsumersAreNotTouched(t *testing.T) {
	h := open(t, embedded.Readers{}, natsdoor.Config{})
	h.store("telemetry.default.a", "1")
	own, err := h.inside.CreateConsumer(t.Context(), "TELEMETRY", jetstream.ConsumerConfig{Name: "persister", MemoryStorage: true, AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	_, s := h.readerStream()
	if err := s.DeleteConsumer(t.Context(), "persister"); !errors.Is(err, jetstream.ErrConsumerNotFound) {
		t.Errorf("delete: %v", err)
	}
	if _, err := s.Consumer(t.Context(), "persister"); !errors.Is(err, jetstream.ErrConsumerNotFound) {
		t.Errorf("look at: %v", err)
	}
	if _, err := s.CreateOrUpdateConsumer(t.Context(), jetstream.ConsumerConfig{Name: "persister"}); err == nil || !strings.Contains(err.Error(), "taken") {
		t.Errorf("change: %v", err)
	}
	nc := h.reader(nil)
	if m, err := nc.Request("$JS.API.CONSUMER.MSG.NEXT.TELEMETRY.persister", []byte("1"), 200*time.Millisecond); err == nil {
		t.Errorf("pulled %q", m.Data)
	}
	got, err := own.Next(jetstream.FetchMaxWait(20 * time.Second))
	if err != nil || string(got.Data()) != "1" {
		t.Fatalf("the server's own consumer reads %v, %v", got, err)
	}
	meta, err := got.Metadata()
	if err != nil || meta.Sequence.Consumer != 1 {
		t.Errorf("it was robbed: %+v, %v", meta, err)
	}
}

func TestConsumersThatWouldHarmAreRefused(t *testing.T) {
	h := open(t, embedded.Readers{}, natsdoor.Config{MaxConsumers: 3, MaxDurables: 1})
	nc := h.reader(nil)
	for _, c := range []struct{ config, say string }{
		{`{"name":"c","deliver_subject":"command.default.a"}`, "push"},
		{`{"name":"c","filter_subject":"command.>"}`, "filter"},
		{`{"name":"c","filter_subjects":["telemetry.a.>","telemetry.b\r\nPUB x 0"]}`, "filter"},
		{`{"name":"c","deliver_policy":"last_per_subject"}`, "last_per_subject"},
		{`{"name":"c","max_ack_pending":1000000}`, "max_ack_pending"},
		{`{"name":"c","max_ack_pending":-1}`, "max_ack_pending"},
		{`{"name":"c","max_waiting":100000}`, "max_waiting"},
		{`{"name":"c","max_batch":100000}`, "max_batch"},
		{`{"name":"c","inactive_threshold":9000000000000000}`, "inactive_threshold"},
		{`{"name":"c","metadata":{"a":"b"}}`, "metadata"},
		{`{"name":"c","num_replicas":3}`, "num_replicas"},
		{`{"name":"c","some_new_thing":true}`, "some_new_thing"},
		{`{"name":"a.b"}`, "name"},
		{fmt.Sprintf(`{"name":%q}`, strings.Repeat("n", 65)), "name"},
	} {
		if got := create(t, nc, "$JS.API.CONSUMER.CREATE.TELEMETRY", c.config); !strings.Contains(got, c.say) {
			t.Errorf("%s is answered %q", c.config, got)
		}
	}
	if got := create(t, nc, "$JS.API.CONSUMER.DURABLE.CREATE.TELEMETRY.one", `{"durable_name":"one","ack_policy":"explicit"}`); got != "" {
		t.Fatal(got)
	}
	if got := create(t, nc, "$JS.API.CONSUMER.CREATE.TELEMETRY.two", `{"durable_name":"two"}`); !strings.Contains(got, "no more") {
		t.Errorf("a second durable is answered %q", got)
	}
	for range 2 {
		if got := create(t, nc, "$JS.API.CONSUMER.CREATE.TELEMETRY", `{}`); got != "" {
			t.Fatal(got)
		}
	}
	if got := create(t, nc, "$JS.API.CONSUMER.CREATE.TELEMETRY", `{}`); !strings.Contains(got, "no more") {
		t.Errorf("a fourth consumer is answered %q", got)
	}
}

// create asks for a consumer and answers the refusal, "" for none.
func create(t *testing.T, nc *nats.Conn, subject, config string) string {
	t.Helper()
	m, err := nc.Request(subject, []byte(`{"stream_name":"TELEMETRY","config":`+config+`}`), 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Error *struct{ Description string } `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		t.Fatal(err)
	}
	if answer.Error == nil {
		return ""
	}
	return answer.Error.Description
}
