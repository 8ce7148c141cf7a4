package api

import (
	"context"

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
	id := device.ID{Tenant: tenant, Device: req.GetDeviceId()}
	if err := id.Validate(); err != nil {
		return nil, err
	}
	r, secret, err := d.s.needs.Devices.Add(ctx, id)
	return withSecret(r, secret, err)
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
	r, secret, err := d.s.needs.Devices.Rotate(ctx, id)
	return withSecret(r, secret, err)
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
	found, err := d.s.needs.Devices.List(ctx, tenant, after, limit)
	if err != nil {
		return nil, err
	}
	resp := &pb.ListDevicesResponse{}
	for _, r := range found {
		resp.Devices = append(resp.Devices, deviceToProto(r))
	}
	if len(found) == limit {
		resp.NextPageToken = nameToken(found[limit-1].ID.Device)
	}
	return resp, nil
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
	return &pb.Device{
		Name: DeviceName(r.ID.Tenant, r.ID.Device), Tenant: r.ID.Tenant, Device: r.ID.Device, Disabled: r.Disabled,
		CreateTime: timestamppb.New(r.CreatedAt), UpdateTime: timestamppb.New(r.UpdatedAt),
	}
}
