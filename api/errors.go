package api

import (
	"context"
	"errors"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/device/devicepb"
)

// grpcCodes says each refusal in gRPC's words (AIP-193). Conflict is always an
// existing thing here: a device's name, a command's key.
var grpcCodes = map[device.Code]codes.Code{
	device.Internal:        codes.Internal,
	device.Invalid:         codes.InvalidArgument,
	device.Undecodable:     codes.InvalidArgument,
	device.TooLarge:        codes.InvalidArgument,
	device.Unauthenticated: codes.Unauthenticated,
	device.Forbidden:       codes.PermissionDenied,
	device.NotFound:        codes.NotFound,
	device.Conflict:        codes.AlreadyExists,
	device.Precondition:    codes.FailedPrecondition,
	device.Busy:            codes.ResourceExhausted,
	device.Unavailable:     codes.Unavailable,
}

// toStatus is what the caller is told of err. An error without a code is
// "internal error" and nothing else.
func toStatus(err error) error {
	var coded *device.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &coded):
		return status.Error(grpcCodes[coded.Code], coded.Message)
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, "the call was cancelled")
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, "the call's deadline has passed")
	}
	if _, ok := status.FromError(err); ok { // of gRPC itself: a broken stream
		return err
	}
	return status.Error(codes.Internal, "internal error")
}

// purgedStatus is OUT_OF_RANGE with the position to go on from (AIP-193).
func purgedStatus(gone OutOfStream, text string) error {
	last := gone.FirstKept()
	last.Seq = max(last.Seq, 1) - 1
	st, err := status.New(codes.OutOfRange, text).WithDetails(&errdetails.ErrorInfo{
		Reason: "POSITION_PURGED", Domain: "tributary", Metadata: map[string]string{resumeAfter: devicepb.EncodePosition(last)},
	})
	if err != nil { // only what is no message
		return status.Error(codes.OutOfRange, text)
	}
	return st.Err()
}
