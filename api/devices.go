package api

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tributary-iot/tributary/device"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// devices is DeviceService.
type devices struct {
	pb.UnimplementedDeviceServiceServer
	s *Server
}

func (d *devices) CreateDevice(ctx context.Context, req *pb.CreateDeviceRequest) (*pb.Device, error) {
	tenant, err := parseTenant(req.GetParent())
	if err != nil {
		return nil, err
	}
	n, err := newPrincipal(tenant, req)
	if err != nil {
		return nil, err
	}
	r, secret, err := d.s.needs.Devices.Add(ctx, n)
	return withSecret(r, secret, err)
}

// newPrincipal reads a request to create one in a tenant.
func newPrincipal(tenant string, req *pb.CreateDeviceRequest) (device.NewPrincipal, error) {
	kind, err := kindFromProto(req.GetKind())
	if err != nil {
		return device.NewPrincipal{}, err
	}
	n := device.NewPrincipal{
		ID: device.ID{Tenant: tenant, Device: req.GetDeviceId()}, Kind: kind, For: device.Pattern(req.GetPattern()),
		Labels: req.GetLabels(),
	}
	if n.Key, err = parseKey(req.GetCertificateKey()); err != nil {
		return n, err
	}
	return n, n.Validate()
}

// parseKey reads a certificate_key; "" is none.
func parseKey(text string) (device.KeyHash, error) {
	if text == "" {
		return device.KeyHash{}, nil
	}
	return device.ParseKeyHash(text)
}

// maxBatch bounds the devices created by one call.
const maxBatch = 1000

func (d *devices) BatchCreateDevices(ctx context.Context, req *pb.BatchCreateDevicesRequest) (*pb.BatchCreateDevicesResponse, error) {
	tenant, err := parseTenant(req.GetParent())
	if err != nil {
		return nil, err
	}
	if n := len(req.GetRequests()); n > maxBatch {
		return nil, device.Errorf(device.Invalid, "%d devices at once, the limit is %d", n, maxBatch)
	}
	results := make([]*pb.BatchCreateDevicesResult, len(req.GetRequests()))
	var good []device.NewPrincipal
	var at []int
	for i, one := range req.GetRequests() {
		n, err := newPrincipal(tenant, one)
		if p := one.GetParent(); err == nil && p != "" && p != req.GetParent() {
			err = device.Errorf(device.Invalid, "parent %q is not that of the batch", clip(p))
		}
		if err != nil {
			results[i] = failed(err)
			continue
		}
		good, at = append(good, n), append(at, i)
	}
	added, err := d.s.needs.Devices.AddMany(ctx, good)
	if err != nil {
		return nil, err
	}
	for i, a := range added {
		if a.Err != nil {
			results[at[i]] = failed(a.Err)
			continue
		}
		out := deviceToProto(a.Registration)
		out.Secret = a.Secret
		results[at[i]] = &pb.BatchCreateDevicesResult{Outcome: &pb.BatchCreateDevicesResult_Device{Device: out}}
	}
	return &pb.BatchCreateDevicesResponse{Results: results}, nil
}

func failed(err error) *pb.BatchCreateDevicesResult {
	return &pb.BatchCreateDevicesResult{Outcome: &pb.BatchCreateDevicesResult_Error{Error: device.PublicMessage(err)}}
}

func (d *devices) GetDevice(ctx context.Context, req *pb.GetDeviceRequest) (*pb.Device, error) {
	return one(ctx, req.GetName(), d.s.needs.Devices.Get)
}

func (d *devices) DisableDevice(ctx context.Context, req *pb.DisableDeviceRequest) (*pb.Device, error) {
	return one(ctx, req.GetName(), d.s.needs.Devices.Disable)
}

func (d *devices) EnableDevice(ctx context.Context, req *pb.EnableDeviceRequest) (*pb.Device, error) {
	return one(ctx, req.GetName(), d.s.needs.Devices.Enable)
}

func (d *devices) DeleteDevice(ctx context.Context, req *pb.DeleteDeviceRequest) (*emptypb.Empty, error) {
	id, err := parseDevice(req.GetName())
	if err != nil {
		return nil, err
	}
	if err := d.s.needs.Devices.Remove(ctx, id); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

func (d *devices) RotateSecret(ctx context.Context, req *pb.RotateSecretRequest) (*pb.Device, error) {
	id, err := parseDevice(req.GetName())
	if err != nil {
		return nil, err
	}
	overlap, err := overlapOf(req)
	if err != nil {
		return nil, err
	}
	r, secret, err := d.s.needs.Devices.Rotate(ctx, id, overlap)
	return withSecret(r, secret, err)
}

func overlapOf(req *pb.RotateSecretRequest) (time.Duration, error) {
	if req.GetOverlap() == nil {
		return 0, nil
	}
	if err := req.GetOverlap().CheckValid(); err != nil {
		return 0, device.Wrap(device.Invalid, "overlap is not a duration", err)
	}
	return req.GetOverlap().AsDuration(), nil
}

func (d *devices) AddCredential(ctx context.Context, req *pb.AddCredentialRequest) (*pb.AddCredentialResponse, error) {
	id, err := parseDevice(req.GetName())
	if err != nil {
		return nil, err
	}
	key, err := parseKey(req.GetCertificateKey())
	if err != nil {
		return nil, err
	}
	info, secret, err := d.s.needs.Devices.AddCredential(ctx, id, key)
	if err != nil {
		return nil, err
	}
	return &pb.AddCredentialResponse{Credential: credentialToProto(info), Secret: secret}, nil
}

func (d *devices) RemoveCredential(ctx context.Context, req *pb.RemoveCredentialRequest) (*pb.Device, error) {
	return one(ctx, req.GetName(), func(ctx context.Context, id device.ID) (device.Registration, error) {
		return d.s.needs.Devices.RemoveCredential(ctx, id, req.GetCredentialId())
	})
}

func (d *devices) ListDevices(ctx context.Context, req *pb.ListDevicesRequest) (*pb.ListDevicesResponse, error) {
	tenant, err := parseTenant(req.GetParent())
	if err != nil {
		return nil, err
	}
	limit, err := pageSize(req.GetPageSize(), 100, 1000)
	if err != nil {
		return nil, err
	}
	after, err := parseNameToken(req.GetPageToken())
	if err != nil {
		return nil, err
	}
	selector, err := device.ParseSelector(req.GetSelector())
	if err != nil {
		return nil, err
	}
	resp := &pb.ListDevicesResponse{}
	for range maxListScan {
		var found []device.Registration
		if found, after, err = d.s.needs.Devices.List(ctx, tenant, after, limit); err != nil {
			return nil, err
		}
		for _, r := range found {
			if selector.Matches(r.Labels) {
				resp.Devices = append(resp.Devices, deviceToProto(r))
			}
		}
		if len(resp.Devices) > 0 || after == "" {
			break
		}
	}
	if after != "" {
		resp.NextPageToken = nameToken(after)
	}
	return resp, nil
}

// maxListScan bounds how many pages without a match one call looks through.
const maxListScan = 20

func (d *devices) UpdateLabels(ctx context.Context, req *pb.UpdateLabelsRequest) (*pb.Device, error) {
	return one(ctx, req.GetName(), func(ctx context.Context, id device.ID) (device.Registration, error) {
		return d.s.needs.Devices.Label(ctx, id, req.GetSet(), req.GetRemove())
	})
}

// one answers a device by its resource name, as act leaves it.
func one(ctx context.Context, name string, act func(context.Context, device.ID) (device.Registration, error)) (*pb.Device, error) {
	id, err := parseDevice(name)
	if err != nil {
		return nil, err
	}
	r, err := act(ctx, id)
	if err != nil {
		return nil, err
	}
	return deviceToProto(r), nil
}

func withSecret(r device.Registration, secret string, err error) (*pb.Device, error) {
	if err != nil {
		return nil, err
	}
	out := deviceToProto(r)
	out.Secret = secret
	return out, nil
}

func deviceToProto(r device.Registration) *pb.Device {
	out := &pb.Device{
		Name: DeviceName(r.ID.Tenant, r.ID.Device), Tenant: r.ID.Tenant, Device: r.ID.Device, Disabled: r.Disabled,
		CreateTime: timestamppb.New(r.CreatedAt), UpdateTime: timestamppb.New(r.UpdatedAt),
		Kind: kinds[r.Kind], Pattern: string(r.For),
		Labels: r.Labels,
	}
	for _, c := range r.Credentials {
		out.Credentials = append(out.Credentials, credentialToProto(c))
	}
	return out
}

func credentialToProto(c device.CredentialInfo) *pb.Credential {
	out := &pb.Credential{Id: c.ID, CreateTime: timestamppb.New(c.CreatedAt)}
	if !c.Key.IsZero() {
		out.CertificateKey = c.Key.String()
	}
	if !c.ExpiresAt.IsZero() {
		out.ExpireTime = timestamppb.New(c.ExpiresAt)
	}
	return out
}

var kinds = map[device.PrincipalKind]pb.PrincipalKind{
	device.KindDevice:      pb.PrincipalKind_PRINCIPAL_KIND_DEVICE,
	device.KindGateway:     pb.PrincipalKind_PRINCIPAL_KIND_GATEWAY,
	device.KindApplication: pb.PrincipalKind_PRINCIPAL_KIND_APPLICATION,
}

func kindFromProto(k pb.PrincipalKind) (device.PrincipalKind, error) {
	if k == pb.PrincipalKind_PRINCIPAL_KIND_UNSPECIFIED {
		return device.KindDevice, nil
	}
	for word, number := range kinds {
		if number == k {
			return word, nil
		}
	}
	return "", device.Errorf(device.Invalid, "kind %d is not one this server knows", k)
}
