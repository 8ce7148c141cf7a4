package api

import (
	"slices"
	"strings"

	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"

	"github.com/tributary-iot/tributary/device"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// Who is meant by a line of the table.
var (
	everybody = device.Roles()
	people    = []device.Role{device.RoleAdmin, device.RoleOperator, device.RoleViewer}
	operators = []device.Role{device.RoleAdmin, device.RoleOperator}
	senders   = []device.Role{device.RoleAdmin, device.RoleOperator, device.RoleApplication}
	admins    = []device.Role{device.RoleAdmin}
)

// callers is the one table of who may call what. The operator's own token may
// call everything; a call that stands nowhere may be made with that only. The
// table in docs/api.md says the same, and a test compares them with what the
// server does.
var callers = map[string][]device.Role{
	pb.DeviceService_GetDevice_FullMethodName:          people,
	pb.DeviceService_ListDevices_FullMethodName:        people,
	pb.DeviceService_CreateDevice_FullMethodName:       operators,
	pb.DeviceService_BatchCreateDevices_FullMethodName: operators,
	pb.DeviceService_UpdateLabels_FullMethodName:       operators,
	pb.DeviceService_DisableDevice_FullMethodName:      operators,
	pb.DeviceService_EnableDevice_FullMethodName:       operators,
	pb.DeviceService_DeleteDevice_FullMethodName:       operators,
	pb.DeviceService_AddCredential_FullMethodName:      operators,
	pb.DeviceService_RemoveCredential_FullMethodName:   operators,
	pb.DeviceService_RotateSecret_FullMethodName:       operators,

	pb.CommandService_SendCommand_FullMethodName:   senders,
	pb.CommandService_Call_FullMethodName:          senders,
	pb.CommandService_CancelCommand_FullMethodName: senders,
	pb.CommandService_GetCommand_FullMethodName:    everybody,
	pb.CommandService_ListCommands_FullMethodName:  everybody,
	pb.CommandService_WatchCommand_FullMethodName:  everybody,

	pb.CommandBatchService_CreateCommandBatch_FullMethodName:       senders,
	pb.CommandBatchService_PauseCommandBatch_FullMethodName:        senders,
	pb.CommandBatchService_ResumeCommandBatch_FullMethodName:       senders,
	pb.CommandBatchService_CancelCommandBatch_FullMethodName:       senders,
	pb.CommandBatchService_GetCommandBatch_FullMethodName:          everybody,
	pb.CommandBatchService_ListCommandBatches_FullMethodName:       everybody,
	pb.CommandBatchService_WatchCommandBatch_FullMethodName:        everybody,
	pb.CommandBatchService_WatchCommandBatchResults_FullMethodName: everybody,

	pb.TelemetryService_Query_FullMethodName:       everybody,
	pb.TelemetryService_QueryPoints_FullMethodName: everybody,
	pb.TelemetryService_Aggregate_FullMethodName:   everybody,
	pb.TelemetryService_Latest_FullMethodName:      everybody,
	pb.TelemetryService_Subscribe_FullMethodName:   everybody,

	pb.PresenceService_ListSessions_FullMethodName:  everybody,
	pb.PresenceService_WatchPresence_FullMethodName: everybody,

	pb.DeadLetterService_ListDeadLetters_FullMethodName:   people,
	pb.DeadLetterService_GetDeadLetter_FullMethodName:     people,
	pb.DeadLetterService_ReplayDeadLetter_FullMethodName:  operators,
	pb.DeadLetterService_ReplayDeadLetters_FullMethodName: operators,
	pb.DeadLetterService_PurgeDeadLetters_FullMethodName:  operators,

	pb.TokenService_CreateToken_FullMethodName: admins,
	pb.TokenService_ListTokens_FullMethodName:  admins,
	pb.TokenService_DeleteToken_FullMethodName: admins,

	pb.BridgeService_ListBridges_FullMethodName: people,

	reflectionv1.ServerReflection_ServerReflectionInfo_FullMethodName: everybody,
}

// mayCall refuses a token whose role the table does not name.
func mayCall(t device.Token, method string) error {
	if slices.Contains(callers[method], t.Role) {
		return nil
	}
	return device.Errorf(device.Forbidden, "token %q has the role %s, which may not call %s", t.Name, t.Role, method[strings.LastIndexByte(method, '/')+1:])
}

// maySee refuses a request about another tenant than the token's. Every request
// of ours says in its parent or its name which one it is about; one that does
// not is not for tokens.
func maySee(t device.Token, req any) error {
	var names []string
	if r, ok := req.(interface{ GetParent() string }); ok {
		names = append(names, r.GetParent())
	}
	if r, ok := req.(interface{ GetName() string }); ok {
		names = append(names, r.GetName())
	}
	if _, ok := req.(*reflectionv1.ServerReflectionRequest); ok {
		return nil
	}
	if len(names) == 0 {
		return device.Errorf(device.Forbidden, "this call is about no tenant, and token %q is for tenant %q only", t.Name, t.Tenant)
	}
	for _, name := range names {
		tenant, err := tenantOf(name)
		if err != nil {
			return err
		}
		if tenant != t.Tenant {
			return device.Errorf(device.Forbidden, "token %q is for tenant %q only", t.Name, t.Tenant)
		}
	}
	return nil
}
