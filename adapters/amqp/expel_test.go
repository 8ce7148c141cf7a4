package amqp_test

import (
	"errors"
	"testing"

	client "github.com/Azure/go-amqp"

	"github.com/tributary-iot/tributary/adapters/adaptertest"
	"github.com/tributary-iot/tributary/adapters/amqp"
	"github.com/tributary-iot/tributary/device"
)

// TestTheHouseEndsASession: the peer is told why, and the house that it is over.
func TestTheHouseEndsASession(t *testing.T) {
	for why, condition := range map[device.Leaving]client.ErrCond{
		device.LeftTakenOver: client.ErrCondConnectionForced, device.LeftDisabled: client.ErrCondUnauthorizedAccess,
		device.LeftNodeLost: client.ErrCondConnectionForced,
	} {
		gate := &adaptertest.Gate{}
		conn, _ := dial(t, serve(t, amqp.Config{}, gate), nil)
		gate.Entered()[0].End(why)
		<-conn.Done()
		var closed *client.ConnError
		if err := conn.Err(); !errors.As(err, &closed) || closed.RemoteErr == nil || closed.RemoteErr.Condition != condition {
			t.Errorf("%s: closed with %v", why, err)
		}
		until(t, gate, "the session is left", func() bool { return gate.Entered()[0].Left == why })
	}
}
