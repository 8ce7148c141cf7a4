package api

import (
	"context"
	"strings"

	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tributary-iot/tributary/device"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// tokens is TokenService.
type tokens struct {
	pb.UnimplementedTokenServiceServer
	s *Server
}

func (t *tokens) CreateToken(ctx context.Context, req *pb.CreateTokenRequest) (*pb.Token, error) {
	tenant, err := parseTenant(req.GetParent())
	if err != nil {
		return nil, err
	}
	ttl, err := duration("ttl", req.GetTtl())
	if err != nil {
		return nil, err
	}
	role := device.Role(strings.ToLower(strings.TrimPrefix(req.GetRole().String(), "ROLE_")))
	made, secret, err := t.s.needs.Tokens.Create(ctx, device.Token{Tenant: tenant, Name: req.GetTokenId(), Role: role}, ttl)
	if err != nil {
		return nil, err
	}
	t.s.cfg.Logger.Info("API token made", "tenant", tenant, "token", made.Name, "role", made.Role, "by", callerOf(ctx))
	out := tokenToProto(made)
	out.Secret = secret
	return out, nil
}

func (t *tokens) ListTokens(ctx context.Context, req *pb.ListTokensRequest) (*pb.ListTokensResponse, error) {
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
	found, err := t.s.needs.Tokens.List(ctx, tenant, after, limit)
	if err != nil {
		return nil, err
	}
	resp := &pb.ListTokensResponse{}
	for _, f := range found {
		resp.Tokens = append(resp.Tokens, tokenToProto(f))
	}
	if len(found) == limit {
		resp.NextPageToken = nameToken(found[limit-1].Name)
	}
	return resp, nil
}

func (t *tokens) DeleteToken(ctx context.Context, req *pb.DeleteTokenRequest) (*emptypb.Empty, error) {
	tenant, name, err := parseToken(req.GetName())
	if err != nil {
		return nil, err
	}
	if err := t.s.needs.Tokens.Remove(ctx, tenant, name); err != nil {
		return nil, err
	}
	t.s.cfg.Logger.Info("API token removed", "tenant", tenant, "token", name, "by", callerOf(ctx))
	return &emptypb.Empty{}, nil
}

func tokenToProto(t device.Token) *pb.Token {
	out := &pb.Token{
		Name: TokenName(t.Tenant, t.Name), Tenant: t.Tenant, Id: t.Name,
		Role: pb.Role(pb.Role_value["ROLE_"+strings.ToUpper(string(t.Role))]), CreateTime: timestamppb.New(t.CreatedAt),
	}
	if !t.ExpiresAt.IsZero() {
		out.ExpireTime = timestamppb.New(t.ExpiresAt)
	}
	return out
}
