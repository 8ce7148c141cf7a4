package command_test

import (
	"testing"
	"testing/synctest"

	"github.com/tributary-iot/tributary/command"
	"github.com/tributary-iot/tributary/device"
)

// behind attaches a gateway for the device.
func behind(t *testing.T, s *command.Service, gateway string) *door {
	t.Helper()
	return attachAs(t, s, device.Session{Device: dev, Via: gateway, Protocol: device.MQTT}, 100)
}

// goesTo sends a command and holds that exactly this one of the doors gets it.
func goesTo(t *testing.T, s *command.Service, to *door, others ...*door) device.Delivery {
	t.Helper()
	c := send(t, s, device.Command{OneWay: true})
	synctest.Wait()
	for _, d := range others {
		d.nothing()
	}
	v := to.next()
	is(t, v.Command.ID, c.ID)
	to.must(v, device.Accepted)
	return v
}

// TestLastGatewayThatSpoke: of several gateways that could bring a device its
// commands, the one that spoke last for it does; the trail says which.
func TestLastGatewayThatSpoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, newBelt())
		one, two := behind(t, s, "gw-1"), behind(t, s, "gw-2")
		goesTo(t, s, two, one) // which came last
		s.Spoke(dev, "gw-1")
		v := goesTo(t, s, one, two)
		r, err := s.Get(t.Context(), dev, v.Command.ID)
		if err != nil || r.Last().Via != "gw-1" {
			t.Errorf("the trail says via %q, %v", r.Last().Via, err)
		}
		s.Spoke(dev, "gw-1") // again, and by one that is not here: nothing changes
		s.Spoke(dev, "gw-3")
		goesTo(t, s, one, two)

		// An answer is speaking, too; what the other held is given back.
		held := send(t, s, device.Command{})
		one.next()
		done := make(chan error, 1)
		s.Respond(device.Response{Device: dev, Via: "gw-2", Command: held.ID, Status: 200, Protocol: device.MQTT}, func(err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		goesTo(t, s, two, one)
		two.at.Detach("gone")
		goesTo(t, s, one)
	})
}

// TestTheDeviceItselfComesFirst: no gateway gets the commands of a device that is
// connected itself, whoever comes last, or speaks.
func TestTheDeviceItselfComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, newBelt())
		early := behind(t, s, "gw-1")
		own := attach(t, s, device.AMQP, 100)
		late := behind(t, s, "gw-2")
		goesTo(t, s, own, early, late)
		s.Spoke(dev, "gw-1")
		goesTo(t, s, own, early, late)
		select {
		case <-own.lost:
			t.Error("the device lost its commands to a gateway")
		default:
		}
		held := send(t, s, device.Command{OneWay: true})
		own.next()
		own.at.Detach("gone")
		v := early.next() // it spoke last
		if v.Command.ID != held.ID || v.Attempt != 2 {
			t.Errorf("the gateway got %+v", v)
		}
		early.must(v, device.Accepted)
		late.nothing()
	})
}

// pair is two nodes that hear of one another's leases.
func pair(t *testing.T) (b *belt, one, two *command.Service) {
	t.Helper()
	b = newBelt()
	one, two = open(t, b), open(t, b, func(c *command.Config) { c.Node = "node-2" })
	b.leases.others = map[string]*command.Service{"node-1": one, "node-2": two}
	return b, one, two
}

// reaches sends a command through each of the nodes and holds that exactly this one
// of the doors gets them.
func reaches(t *testing.T, nodes []*command.Service, to *door, others ...*door) {
	t.Helper()
	for _, s := range nodes {
		synctest.Wait() // what was said has got around
		goesTo(t, s, to, others...)
	}
}

// TestLastGatewayThatSpokeOnAnyNode: the gateway that spoke last has the commands
// wherever it is connected, and whichever node takes them.
func TestLastGatewayThatSpokeOnAnyNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, one, two := pair(t)
		nodes := []*command.Service{one, two}
		first, second := behind(t, one, "gw-1"), behind(t, two, "gw-2")
		reaches(t, nodes, second, first) // which came last
		one.Spoke(dev, "gw-1")
		reaches(t, nodes, first, second)
		one.Spoke(dev, "gw-1")
		two.Spoke(dev, "gw-1") // by another connection, which takes no commands
		reaches(t, nodes, first, second)

		// An answer is speaking, too, and recorded as via; what the other held is given back.
		held := send(t, one, device.Command{})
		first.next()
		synctest.Wait()
		done := make(chan error, 1)
		two.Respond(device.Response{Device: dev, Via: "gw-2", Command: held.ID, Status: 200, Protocol: device.MQTT}, func(err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r, err := one.Get(t.Context(), dev, held.ID)
		if err != nil || r.Last().Via != "gw-2" || r.Last().State != device.StateSucceeded {
			t.Errorf("the trail ends with %+v, %v", r.Last(), err)
		}
		reaches(t, nodes, second, first)
		second.at.Detach("gone")
		reaches(t, nodes, first)
	})
}

// TestTheDeviceItselfComesFirstOnAnyNode: a gateway on another node gets nothing
// while the device itself is connected, is no reason to end the device's session, and
// has its turn when the device leaves or its node dies.
func TestTheDeviceItselfComesFirstOnAnyNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, one, two := pair(t)
		nodes := []*command.Service{one, two}
		early := behind(t, two, "gw-1")
		own := attach(t, one, device.AMQP, 100)
		late := behind(t, two, "gw-2")
		reaches(t, nodes, own, early, late)
		two.Spoke(dev, "gw-1")
		reaches(t, nodes, own, early, late)
		select {
		case <-own.lost:
			t.Error("the device lost its commands to a gateway")
		default:
		}
		own.at.Detach("gone")
		reaches(t, nodes, early, late) // it spoke last

		own = attach(t, one, device.AMQP, 100)
		reaches(t, nodes, own, early, late)
		held := send(t, two, device.Command{OneWay: true})
		own.next()
		b.leases.died("node-1")
		two.NodeGone("node-1", func() bool { return false })
		v := early.next()
		if v.Command.ID != held.ID || v.Attempt != 2 {
			t.Errorf("the gateway got %+v", v)
		}
		early.must(v, device.Accepted)
	})
}
