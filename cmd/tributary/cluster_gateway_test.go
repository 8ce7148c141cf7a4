package main

import (
	"context"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// TestGatewaysOnTwoNodes: of two gateways on two nodes the one that spoke last for a
// device has its commands, whichever node takes them, and its answer is recorded as
// via; while the device is connected itself it has them, wherever it is.
func TestGatewaysOnTwoNodes(t *testing.T) {
	t.Parallel()
	c := newCluster(t, startNATS(t, true))
	enter := func(s *server, name string, options ...string) *mqtt5Conn {
		conn, err := knockMQTT5(s, name, c.b.addDevice(name, options...))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	own := enter(c.b, "dev") // and takes no commands yet
	one := enter(c.a, "gw-1", "--kind", "gateway", "--for", "dev*")
	two := enter(c.b, "gw-2", "--kind", "gateway", "--for", "dev*")
	one.subscribe(t, "dev/commands/#")
	two.subscribe(t, "dev/commands/#")
	nodes := []*server{c.a, c.b}
	for _, s := range nodes {
		c.obeys(s, two, "gw-2") // which came last
	}
	one.publish(t, "dev/telemetry", "1")
	for _, s := range nodes {
		c.obeys(s, one, "gw-1")
	}
	own.subscribe(t, "commands/#")
	for _, s := range nodes {
		c.obeys(s, own, "")
	}
	two.publish(t, "dev/telemetry", "2")
	one.publish(t, "dev/telemetry", "3")
	for _, s := range nodes {
		c.obeys(s, own, "")
	}
	own.Close()
	eventually(t, "the end of the device's own session", func() bool { return len(c.sessions(c.a, "dev")) == 2 })
	one.publish(t, "dev/telemetry", "4")
	for _, s := range nodes {
		c.obeys(s, one, "gw-1")
	}
}

// obeys sends a command through a node, has a connection carry it out, and holds the
// trail to the gateway that did.
func (c *cluster) obeys(s *server, conn *mqtt5Conn, via string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client := pb.NewCommandServiceClient(apiOf(c.t, s))
	sent, err := client.SendCommand(ctx, &pb.SendCommandRequest{
		Parent: "tenants/default/devices/dev", Command: "go", Ttl: durationpb.New(time.Hour), ResponseTimeout: durationpb.New(time.Hour),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	conn.accept(c.t, sent.GetId())
	conn.publish(c.t, "dev/responses/"+sent.GetId()+"/200", "done")
	eventually(c.t, "the answer", func() bool {
		got, err := client.GetCommand(ctx, &pb.GetCommandRequest{Name: "tenants/default/devices/dev/commands/" + sent.GetId()})
		if err != nil || got.GetState() != pb.CommandState_COMMAND_STATE_SUCCEEDED {
			return false
		}
		events := got.GetEvents()
		if answer, receipt := events[len(events)-1], events[len(events)-2]; answer.GetVia() != via || receipt.GetVia() != via {
			c.t.Errorf("delivered via %q and answered via %q, want %q", receipt.GetVia(), answer.GetVia(), via)
		}
		return true
	})
}

// publish sends a message and waits for its receipt.
func (c *mqtt5Conn) publish(t *testing.T, topic, payload string) {
	t.Helper()
	const id = 7
	if _, err := (&packets.Publish{Topic: topic, QoS: 1, PacketID: id, Payload: []byte(payload)}).WriteTo(c); err != nil {
		t.Fatal(err)
	}
	p := c.await(t, func(p *packets.ControlPacket) bool { return p.Type == packets.PUBACK })
	if p == nil || p.Content.(*packets.Puback).ReasonCode >= 0x80 {
		t.Fatalf("%s was refused: %v", topic, p)
	}
}
