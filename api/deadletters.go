package api

import (
	"context"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// deadLetters is DeadLetterService.
type deadLetters struct {
	pb.UnimplementedDeadLetterServiceServer
	box DeadLetters
}

// newDeadLetters is the service; without a box every call is Unimplemented.
func newDeadLetters(s *Server) pb.DeadLetterServiceServer {
	if s.needs.DeadLetters == nil {
		return pb.UnimplementedDeadLetterServiceServer{}
	}
	return &deadLetters{box: s.needs.DeadLetters}
}

// lettersAsked is what the three calls over many letters have in common.
type lettersAsked interface {
	timesAsked
	GetParent() string
	GetCodes() []string
	GetPageSize() int32
	GetPageToken() string
}

type timesAsked interface {
	GetSince() *timestamppb.Timestamp
	GetUntil() *timestamppb.Timestamp
}

func letterQuery(req lettersAsked) (q device.DeadLetterQuery, err error) {
	id, err := parseScope(req.GetParent())
	if err != nil {
		return q, err
	}
	q.Tenant, q.Device = id.Tenant, id.Device
	for _, text := range req.GetCodes() {
		code, ok := device.ParseCode(text)
		if !ok {
			return q, device.Errorf(device.Invalid, "%q is not a kind of reason: use those letters show, such as undecodable", clip(text))
		}
		q.Codes = append(q.Codes, code)
	}
	if q.Since, q.Until, err = timeRange(req.GetSince(), req.GetUntil()); err != nil {
		return q, err
	}
	if q.Limit, err = pageSize(req.GetPageSize(), 100, 1000); err != nil {
		return q, err
	}
	if req.GetPageToken() != "" {
		if q.After, err = devicepb.DecodePosition(req.GetPageToken()); err != nil {
			return q, errPageToken
		}
	}
	return q, nil
}

// letters reads one page.
func (d *deadLetters) letters(ctx context.Context, req lettersAsked) ([]device.DeadLetter, string, error) {
	q, err := letterQuery(req)
	if err != nil {
		return nil, "", err
	}
	letters, next, err := d.box.Letters(ctx, q)
	if err != nil || next == (device.Position{}) {
		return letters, "", err
	}
	return letters, devicepb.EncodePosition(next), nil
}

func (d *deadLetters) ListDeadLetters(ctx context.Context, req *pb.ListDeadLettersRequest) (*pb.ListDeadLettersResponse, error) {
	letters, next, err := d.letters(ctx, req)
	if err != nil {
		return nil, err
	}
	resp := &pb.ListDeadLettersResponse{NextPageToken: next}
	for i := range letters {
		resp.DeadLetters = append(resp.DeadLetters, letterToProto(&letters[i], false))
	}
	return resp, nil
}

func (d *deadLetters) GetDeadLetter(ctx context.Context, req *pb.GetDeadLetterRequest) (*pb.DeadLetter, error) {
	l, err := d.letter(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	return letterToProto(&l, true), nil
}

// letter reads the letter of a name; the device may be "-".
func (d *deadLetters) letter(ctx context.Context, name string) (l device.DeadLetter, err error) {
	ids, err := parseName(name, "tenants", "devices", "deadLetters")
	if err != nil {
		return l, err
	}
	id, err := deviceID(ids)
	if err != nil {
		return l, err
	}
	at, err := devicepb.DecodePosition(ids[2])
	if err != nil {
		return l, device.Errorf(device.Invalid, "resource name %q names no dead letter: use a name that ListDeadLetters answered", clip(name))
	}
	l, err = d.box.Letter(ctx, id.Tenant, at)
	if err == nil && id.Device != "" && l.Device != id {
		return l, device.Errorf(device.NotFound, "there is no such dead letter of device %q", id.Device)
	}
	return l, err
}

func (d *deadLetters) ReplayDeadLetter(ctx context.Context, req *pb.ReplayDeadLetterRequest) (*pb.ReplayDeadLetterResponse, error) {
	l, err := d.letter(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	if err := d.box.Replay(ctx, l); err != nil {
		return nil, err
	}
	return &pb.ReplayDeadLetterResponse{}, nil
}

func (d *deadLetters) ReplayDeadLetters(ctx context.Context, req *pb.ReplayDeadLettersRequest) (*pb.ReplayDeadLettersResponse, error) {
	letters, next, err := d.letters(ctx, req)
	if err != nil {
		return nil, err
	}
	resp := &pb.ReplayDeadLettersResponse{NextPageToken: next}
	for i := range letters {
		l := &letters[i]
		err := d.box.Replay(ctx, *l)
		switch {
		case err == nil:
			resp.Replayed++
		case ctx.Err() != nil, device.CodeOf(err).Retryable(): // the letter is not at fault: go on from here later
			return nil, err
		default:
			resp.Failures = append(resp.Failures, &pb.ReplayFailure{Name: letterName(l), Code: device.CodeOf(err).String(), Reason: device.PublicMessage(err)})
		}
	}
	return resp, nil
}

func (d *deadLetters) PurgeDeadLetters(ctx context.Context, req *pb.PurgeDeadLettersRequest) (*pb.PurgeDeadLettersResponse, error) {
	letters, next, err := d.letters(ctx, req)
	if err != nil {
		return nil, err
	}
	if req.GetForce() {
		for i := range letters {
			if err := d.box.Remove(ctx, letters[i].Position); err != nil {
				return nil, err
			}
		}
	}
	return &pb.PurgeDeadLettersResponse{Purged: int64(len(letters)), NextPageToken: next}, nil
}

func letterName(l *device.DeadLetter) string {
	return DeadLetterName(l.Device.Tenant, l.Device.Device, devicepb.EncodePosition(l.Position))
}

func letterToProto(l *device.DeadLetter, raw bool) *pb.DeadLetter {
	text := func(s string) string { return strings.ToValidUTF8(s, "\uFFFD") } // headers are cut anywhere
	out := &pb.DeadLetter{
		Name: letterName(l), Tenant: l.Device.Tenant, Device: l.Device.Device, BuryTime: timestamppb.New(l.BuriedAt),
		Code: l.Code.String(), Reason: text(l.Reason), Protocol: text(string(l.Protocol)), Address: text(l.Address),
		ContentType: text(l.ContentType), Stream: text(l.Stream), Sequence: l.At.Seq, Length: int64(l.Length), Replayable: l.Message != nil,
	}
	if raw {
		out.Raw = l.Raw
	}
	return out
}
