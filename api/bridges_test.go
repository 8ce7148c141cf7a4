package api_test

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/tributary-iot/tributary/api"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

func TestBridgeService(t *testing.T) {
	since := time.Unix(1_700_000_000, 0)
	h := open(t, func(_ *api.Config, n *api.Needs) {
		n.Bridges = func(tenant string) []api.Bridge {
			if tenant != "acme" {
				return nil
			}
			return []api.Bridge{
				{Tenant: tenant, Name: "50%", Node: "n1", URL: "amqps://h", State: "up", Since: since, Receive: []string{"/a"}, Received: 5, Accepted: 3, Rejected: 1, InFlight: 1},
				{Tenant: tenant, Name: "b", State: "down", Err: "no such host", Since: since, RetryAt: since.Add(time.Second), Commands: "/c", Devices: 2, CommandsOut: 7, Answers: 6, Released: 9},
			}
		}
	})
	client := pb.NewBridgeServiceClient(h.conn)
	got, err := client.ListBridges(authorized(t), &pb.ListBridgesRequest{Parent: "tenants/acme"})
	if err != nil || len(got.GetBridges()) != 2 {
		t.Fatalf("answered %v, %v", got, err)
	}
	a, b := got.GetBridges()[0], got.GetBridges()[1]
	if a.GetName() != "tenants/acme/bridges/50%25" || a.GetNode() != "n1" || a.GetUrl() != "amqps://h" || a.GetState() != "up" || !a.GetSince().AsTime().Equal(since) ||
		a.GetRetryTime() != nil || !slices.Equal(a.GetReceive(), []string{"/a"}) || a.GetReceived() != 5 || a.GetAccepted() != 3 || a.GetRejected() != 1 || a.GetInFlight() != 1 {
		t.Errorf("the first is %v", a)
	}
	if b.GetState() != "down" || b.GetError() != "no such host" || !b.GetRetryTime().AsTime().Equal(since.Add(time.Second)) || b.GetCommands() != "/c" ||
		b.GetDevices() != 2 || b.GetCommandsOut() != 7 || b.GetAnswers() != 6 || b.GetReleased() != 9 {
		t.Errorf("the second is %v", b)
	}
	if got, err := client.ListBridges(authorized(t), &pb.ListBridgesRequest{Parent: "tenants/other"}); err != nil || len(got.GetBridges()) != 0 {
		t.Errorf("another tenant has %v, %v", got, err)
	}
	_, err = client.ListBridges(authorized(t), &pb.ListBridgesRequest{Parent: "acme"})
	wantCode(t, err, codes.InvalidArgument)
}

func TestNoBridgesHere(t *testing.T) {
	h := open(t)
	got, err := pb.NewBridgeServiceClient(h.conn).ListBridges(authorized(t), &pb.ListBridgesRequest{Parent: "tenants/acme"})
	if err != nil || len(got.GetBridges()) != 0 {
		t.Errorf("answered %v, %v", got, err)
	}
}
