package api_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/tributary-iot/tributary/api"
	"github.com/tributary-iot/tributary/device"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// fakeTokens knows the text "ROLE TENANT" for every role and tenant, until it
// is removed.
type fakeTokens struct {
	mu    sync.Mutex
	lives map[string]context.Context
	ends  map[string]context.CancelFunc
}

func text(role device.Role, tenant string) string { return string(role) + "-of-" + tenant }

func (f *fakeTokens) Verify(_ context.Context, text string) (device.Token, context.Context, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	role, tenant, ok := strings.Cut(text, "-of-")
	if !ok {
		return device.Token{}, nil, device.Errorf(device.Unauthenticated, "not known")
	}
	if f.lives == nil {
		f.lives, f.ends = map[string]context.Context{}, map[string]context.CancelFunc{}
	}
	if f.lives[text] == nil {
		f.lives[text], f.ends[text] = context.WithCancel(context.Background())
	}
	return device.Token{Tenant: tenant, Name: "somebody", Role: device.Role(role)}, f.lives[text], nil
}

func (f *fakeTokens) end(text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ends[text]()
}

func (f *fakeTokens) Create(_ context.Context, t device.Token, ttl time.Duration) (device.Token, string, error) {
	if err := t.Validate(); err != nil {
		return t, "", err
	}
	t.CreatedAt = time.Unix(1, 0)
	if ttl > 0 {
		t.ExpiresAt = t.CreatedAt.Add(ttl)
	}
	return t, "shown once", nil
}

func (f *fakeTokens) List(_ context.Context, tenant, after string, limit int) ([]device.Token, error) {
	all := []device.Token{{Tenant: tenant, Name: "a", Role: device.RoleAdmin}, {Tenant: tenant, Name: "b", Role: device.RoleViewer}}
	all = slices.DeleteFunc(all, func(t device.Token) bool { return t.Name <= after })
	return all[:min(limit, len(all))], nil
}

func (f *fakeTokens) Remove(_ context.Context, _, name string) error {
	return device.Errorf(device.NotFound, "there is no token %q", name)
}

func withTokens(f *fakeTokens) func(*api.Config, *api.Needs) {
	return func(_ *api.Config, n *api.Needs) { n.Tokens = f }
}

func bearer(t *testing.T, text string) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+text)
}

// call makes any call about a tenant, and answers its error.
func call(ctx context.Context, t *testing.T, conn *grpc.ClientConn, method, tenant string) error {
	t.Helper()
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(strings.ReplaceAll(method[1:], "/", ".")))
	if err != nil {
		t.Fatalf("%s: %v", method, err)
	}
	desc := found.(protoreflect.MethodDescriptor)
	of := func(m protoreflect.MessageDescriptor) proto.Message {
		kind, err := protoregistry.GlobalTypes.FindMessageByName(m.FullName())
		if err != nil {
			t.Fatal(err)
		}
		return kind.New().Interface()
	}
	req, resp := of(desc.Input()), of(desc.Output())
	for _, field := range []protoreflect.Name{"parent", "name"} {
		if f := desc.Input().Fields().ByName(field); f != nil {
			req.ProtoReflect().Set(f, protoreflect.ValueOfString("tenants/"+tenant+"/devices/d"))
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !desc.IsStreamingServer() {
		return conn.Invoke(ctx, method, req, resp)
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	_ = stream.SendMsg(req) // the answer says why it failed
	_ = stream.CloseSend()
	if err := stream.RecvMsg(resp); err != io.EOF {
		return err
	}
	return nil
}

// documented reads the table of docs/api.md: which roles may make a call.
func documented(t *testing.T) map[string][]device.Role {
	t.Helper()
	raw, err := os.ReadFile("../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	table := map[string][]device.Role{}
	row := regexp.MustCompile("(?m)^\\| `(\\w+)\\.(\\w+)` \\|([^|]*)\\|([^|]*)\\|([^|]*)\\|([^|]*)\\|")
	for _, m := range row.FindAllStringSubmatch(string(raw), -1) {
		roles := []device.Role{}
		for i, role := range device.Roles() {
			if strings.TrimSpace(m[3+i]) == "yes" {
				roles = append(roles, role)
			}
		}
		table[m[1]+"."+m[2]] = roles
	}
	return table
}

// TestEveryRoleMayWhatTheDocsSay makes every call of every service in every
// role, and about another tenant.
func TestEveryRoleMayWhatTheDocsSay(t *testing.T) {
	h := open(t, withTokens(&fakeTokens{}))
	table := documented(t)
	for service, info := range h.server.Services() {
		for _, m := range info.Methods {
			short := service[strings.LastIndexByte(service, '.')+1:] + "." + m.Name
			if service == "grpc.health.v1.Health" {
				continue // open to all, TestEveryCallNeedsTheToken
			}
			roles, listed := table[short]
			if !listed {
				t.Errorf("%s has no row in the table of docs/api.md", short)
			}
			for _, role := range device.Roles() {
				t.Run(fmt.Sprint(short, " ", role), func(t *testing.T) {
					method := "/" + service + "/" + m.Name
					err := call(bearer(t, text(role, "acme")), t, h.conn, method, "acme")
					refused := status.Code(err) == codes.PermissionDenied
					if refused == slices.Contains(roles, role) || status.Code(err) == codes.Unauthenticated {
						t.Errorf("is answered %v, and docs/api.md names %v: enter the call in api/roles.go and there", err, roles)
					}
					if short == "ServerReflection.ServerReflectionInfo" {
						return // about no tenant
					}
					for _, other := range []string{"other", "-", "acme2"} {
						if c := status.Code(call(bearer(t, text(role, "acme")), t, h.conn, method, other)); c != codes.PermissionDenied && c != codes.InvalidArgument {
							t.Errorf("about tenant %q is answered %s", other, c)
						}
					}
				})
			}
			if err := call(authorized(t), t, h.conn, "/"+service+"/"+m.Name, "acme"); status.Code(err) == codes.PermissionDenied || status.Code(err) == codes.Unauthenticated {
				t.Errorf("the operator is answered %v", err)
			}
		}
	}
}

func TestTokenService(t *testing.T) {
	h := open(t, withTokens(&fakeTokens{}))
	client := pb.NewTokenServiceClient(h.conn)
	made, err := client.CreateToken(bearer(t, text(device.RoleAdmin, "acme")), &pb.CreateTokenRequest{Parent: "tenants/acme", TokenId: "ci", Role: pb.Role_ROLE_VIEWER})
	if err != nil || made.GetSecret() != "shown once" || made.GetName() != "tenants/acme/tokens/ci" || made.GetRole() != pb.Role_ROLE_VIEWER || made.GetExpireTime() != nil {
		t.Errorf("answered %v, %v", made, err)
	}
	for _, wrong := range []*pb.CreateTokenRequest{
		{Parent: "tenants/acme", TokenId: "ci"}, {Parent: "tenants/acme", Role: pb.Role_ROLE_ADMIN},
		{Parent: "tenants/acme", TokenId: "ci", Role: 99}, {Parent: "acme", TokenId: "ci", Role: pb.Role_ROLE_ADMIN},
	} {
		_, err := client.CreateToken(authorized(t), wrong)
		wantCode(t, err, codes.InvalidArgument)
	}
	page, err := client.ListTokens(authorized(t), &pb.ListTokensRequest{Parent: "tenants/acme", PageSize: 1})
	if err != nil || len(page.GetTokens()) != 1 || page.GetTokens()[0].GetSecret() != "" {
		t.Fatalf("answered %v, %v", page, err)
	}
	page, err = client.ListTokens(authorized(t), &pb.ListTokensRequest{Parent: "tenants/acme", PageToken: page.GetNextPageToken()})
	if err != nil || len(page.GetTokens()) != 1 || page.GetTokens()[0].GetId() != "b" || page.GetNextPageToken() != "" {
		t.Errorf("the second page is %v, %v", page, err)
	}
	_, err = client.DeleteToken(authorized(t), &pb.DeleteTokenRequest{Name: "tenants/acme/tokens/x"})
	wantCode(t, err, codes.NotFound)
}

// TestRemovingATokenEndsItsStreams over gRPC and REST, and nobody else's.
func TestRemovingATokenEndsItsStreams(t *testing.T) {
	tokens := &fakeTokens{}
	r := openREST(t, withTokens(tokens))
	r.feed.follow = stream(nil)
	subscribe := func(text string) grpc.ServerStreamingClient[pb.Message] {
		s, err := pb.NewTelemetryServiceClient(r.conn).Subscribe(bearer(t, text), &pb.SubscribeRequest{Parent: "tenants/acme"})
		if err == nil {
			_, err = s.Header()
		}
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	viewer, admin := text(device.RoleViewer, "acme"), text(device.RoleAdmin, "acme")
	gone, stays := subscribe(viewer), subscribe(admin)
	events := r.events(t.Context(), "/v1/tenants/acme/telemetry:subscribe", "Authorization", "Bearer "+viewer)
	tokens.end(viewer)
	_, err := gone.Recv()
	if wantCode(t, err, codes.Unauthenticated); !strings.Contains(status.Convert(err).Message(), "removed") {
		t.Errorf("told %v", err)
	}
	if got := events.must(); got.name != "error" || !strings.Contains(got.data, `"UNAUTHENTICATED"`) {
		t.Errorf("a stream of events is told %+v", got)
	}
	r.server.EndStreams()
	_, err = stays.Recv()
	wantCode(t, err, codes.Unavailable)
}

// TestCommandsNameTheirSender: a command says whose token sent it.
func TestCommandsNameTheirSender(t *testing.T) {
	h := open(t, withTokens(&fakeTokens{}))
	h.commands.send = func(c device.Command) (device.CommandRecord, error) { return device.CommandRecord{Command: c}, nil }
	for ctx, want := range map[context.Context]string{
		authorized(t): "operator", bearer(t, text(device.RoleApplication, "acme")): "token somebody",
	} {
		got, err := pb.NewCommandServiceClient(h.conn).SendCommand(ctx, &pb.SendCommandRequest{Parent: "tenants/acme/devices/d", Command: "heat"})
		if err != nil || got.GetSender() != want {
			t.Errorf("from %q, %v, want %q", got.GetSender(), err, want)
		}
	}
}
