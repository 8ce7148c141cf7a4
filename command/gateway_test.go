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
