package api_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/tributary-iot/tributary/api"
	"github.com/tributary-iot/tributary/device"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// fakeLetters is a box of letters with sequences from 1 on.
type fakeLetters struct {
	letters  []device.DeadLetter
	asked    device.DeadLetterQuery
	replayed []uint64
	fails    map[uint64]error
}

func (f *fakeLetters) Letters(_ context.Context, q device.DeadLetterQuery) (out []device.DeadLetter, next device.Position, err error) {
	f.asked = q
	for _, l := range f.letters {
		if l.Position.Seq <= q.After.Seq {
			continue
		}
		if len(out) == q.Limit {
			return out, next, nil
		}
		out, next = append(out, l), l.Position
	}
	return out, device.Position{}, nil
}

func (f *fakeLetters) Letter(_ context.Context, tenant string, at device.Position) (device.DeadLetter, error) {
	for _, l := range f.letters {
		if l.Position == at && l.Device.Tenant == tenant {
			return l, nil
		}
	}
	return device.DeadLetter{}, device.Errorf(device.NotFound, "there is no such dead letter")
}

func (f *fakeLetters) Replay(ctx context.Context, l device.DeadLetter) error {
	if err := f.fails[l.Position.Seq]; err != nil {
		return err
	}
	f.replayed = append(f.replayed, l.Position.Seq)
	return f.Remove(ctx, l.Position)
}

func (f *fakeLetters) Remove(_ context.Context, at device.Position) error {
	f.letters = slices.DeleteFunc(slices.Clone(f.letters), func(l device.DeadLetter) bool { return l.Position == at })
	return nil
}

func TestDeadLetterService(t *testing.T) {
	box := &fakeLetters{fails: map[uint64]error{3: device.Errorf(device.Undecodable, "still not JSON")}}
	h, ctx := open(t, func(_ *api.Config, n *api.Needs) { n.DeadLetters = box }), authorized(t)
	client := pb.NewDeadLetterServiceClient(h.conn)
	for seq := range uint64(250) {
		box.letters = append(box.letters, device.DeadLetter{Position: device.Position{Epoch: 9, Seq: seq + 1}, BuriedAt: time.Unix(int64(seq), 0),
			Device: device.ID{Tenant: "acme", Device: "d1"}, Code: device.Undecodable, Reason: "cut \xc3", Raw: []byte{1, 2}, Length: 5, Message: &device.Message{}})
	}
	var names []string
	list := &pb.ListDeadLettersRequest{Parent: "tenants/acme/devices/-", Codes: []string{"undecodable"}}
	for {
		page, err := client.ListDeadLetters(ctx, list)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range page.GetDeadLetters() {
			names = append(names, l.GetName())
			if l.GetRaw() != nil || l.GetLength() != 5 || !l.GetReplayable() || l.GetReason() != "cut \uFFFD" {
				t.Fatalf("listed %v", l)
			}
		}
		if list.PageToken = page.GetNextPageToken(); list.PageToken == "" {
			break
		}
	}
	if len(names) != 250 || box.asked.Tenant != "acme" || box.asked.Device != "" || !slices.Equal(box.asked.Codes, []device.Code{device.Undecodable}) {
		t.Fatalf("%d letters, asked %+v", len(names), box.asked)
	}
	for name, want := range map[string]codes.Code{
		"tenants/acme/devices/-/deadLetters/" + names[0][len(names[0])-4:]: codes.InvalidArgument, "tenants/acme": codes.InvalidArgument,
	} {
		_, err := client.GetDeadLetter(ctx, &pb.GetDeadLetterRequest{Name: name})
		wantCode(t, err, want)
	}
	// Replay one, then all: those that fail stay, and are passed.
	if _, err := client.ReplayDeadLetter(ctx, &pb.ReplayDeadLetterRequest{Name: api.DeadLetterName("acme", "", lastPart(names[0]))}); err != nil {
		t.Fatal(err)
	}
	_, err := client.ReplayDeadLetter(ctx, &pb.ReplayDeadLetterRequest{Name: api.DeadLetterName("acme", "", lastPart(names[0]))})
	wantCode(t, err, codes.NotFound)
	_, err = client.ReplayDeadLetter(ctx, &pb.ReplayDeadLetterRequest{Name: api.DeadLetterName("acme", "other", lastPart(names[1]))})
	wantCode(t, err, codes.NotFound)
	replay, replayed, failures := &pb.ReplayDeadLettersRequest{Parent: "tenants/acme/devices/-"}, int64(0), 0
	for {
		page, err := client.ReplayDeadLetters(ctx, replay)
		if err != nil {
			t.Fatal(err)
		}
		replayed, failures = replayed+page.GetReplayed(), failures+len(page.GetFailures())
		if replay.PageToken = page.GetNextPageToken(); replay.PageToken == "" {
			break
		}
	}
	if replayed != 248 || failures != 1 || len(box.letters) != 1 || !slices.IsSorted(box.replayed) {
		t.Errorf("%d replayed, %d failed, %d left", replayed, failures, len(box.letters))
	}
	// What is not the letter's fault ends the call.
	box.fails[3] = device.Errorf(device.Unavailable, "the stream is down")
	_, err = client.ReplayDeadLetters(ctx, &pb.ReplayDeadLettersRequest{Parent: "tenants/acme/devices/-"})
	wantCode(t, err, codes.Unavailable)
	for _, force := range []bool{false, true} {
		r, err := client.PurgeDeadLetters(ctx, &pb.PurgeDeadLettersRequest{Parent: "tenants/acme/devices/-", Force: force})
		if err != nil || r.GetPurged() != 1 || (len(box.letters) == 0) != force {
			t.Errorf("force %v: %v, %v, %d left", force, r, err, len(box.letters))
		}
	}
	for _, req := range []*pb.ListDeadLettersRequest{{Parent: "tenants/-/devices/-"}, {Parent: "tenants/acme/devices/-", Codes: []string{"bad"}},
		{Parent: "tenants/acme/devices/-", PageToken: "x"}, {Parent: "tenants/acme/devices/-", PageSize: -1}} {
		_, err := client.ListDeadLetters(ctx, req)
		wantCode(t, err, codes.InvalidArgument)
	}
}

func lastPart(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }
