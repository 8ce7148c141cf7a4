package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/tributary-iot/tributary/api"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// tokenCmd is `tributary token`.
type tokenCmd struct {
	Create tokenCreateCmd `cmd:"" help:"Make an API token and print it, once."`
	List   tokenListCmd   `cmd:"" help:"Print the API tokens of a tenant, by name."`
	Rm     tokenRmCmd     `cmd:"" help:"End an API token and every call made with it."`
}

type tokenCreateCmd struct {
	clientFlags
	Name    string        `arg:"" help:"What the token is called; it says who has it."`
	Role    string        `required:"" env:"-" enum:"admin,operator,viewer,application" help:"What it may do in the tenant: admin (everything), operator (devices and commands), viewer (read), application (read telemetry, send commands)."`
	Expires time.Duration `env:"-" placeholder:"TIME" help:"How long it lives, for example 90d. Default: until it is removed."`
}

// Help is shown by "tributary token create --help".
func (tokenCreateCmd) Help() string {
	return `The token is generated, 256 bits, and shown this once: the server keeps only a
keyed hash of it. Programs show it as "authorization: Bearer TOKEN" over gRPC and
REST; the other subcommands take it from a file with --token-file. Which role may
make which call stands in docs/api.md.

Example:
  tributary token create dashboard --role viewer --expires 90d
  tributary token create ops --role operator --tenant acme -o json`
}

// Run makes the token.
func (t *tokenCreateCmd) Run(ctx context.Context, app *kong.Context) error {
	req := &pb.CreateTokenRequest{
		Parent: api.TenantName(t.Tenant), TokenId: t.Name, Role: pb.Role(pb.Role_value["ROLE_"+strings.ToUpper(t.Role)]),
	}
	if t.Expires < 0 {
		return fmt.Errorf("--expires %s: a token cannot expire before it is made", t.Expires)
	}
	if t.Expires > 0 {
		req.Ttl = durationpb.New(t.Expires)
	}
	return t.with(app, func(c *client) error {
		made, err := pb.NewTokenServiceClient(c.conn).CreateToken(ctx, req)
		if err != nil {
			return err
		}
		if c.out.json {
			return c.out.object(made)
		}
		rows := [][2]string{{"token", made.GetId()}, {"tenant", made.GetTenant()}, {"role", roleName(made)}, {"expires", expiry(made)}, {"secret", made.GetSecret()}}
		for _, row := range rows {
			if err := c.out.row(row[0], row[1]); err != nil {
				return err
			}
		}
		c.out.note("Keep the secret now: it is not shown again.")
		return nil
	})
}

type tokenListCmd struct{ clientFlags }

// Help is shown by "tributary token list --help".
func (tokenListCmd) Help() string {
	return `Example:
  tributary token list --tenant acme`
}

// Run prints all pages.
func (t *tokenListCmd) Run(ctx context.Context, app *kong.Context) error {
	return t.with(app, func(c *client) error {
		shown := 0
		for page := ""; ; {
			found, err := pb.NewTokenServiceClient(c.conn).ListTokens(ctx, &pb.ListTokensRequest{
				Parent: api.TenantName(t.Tenant), PageSize: 1000, PageToken: page,
			})
			if err != nil {
				return err
			}
			for _, one := range found.GetTokens() {
				if shown++; shown == 1 && !c.out.json {
					if err := c.out.row("TOKEN", "TENANT", "ROLE", "CREATED", "EXPIRES"); err != nil {
						return err
					}
				}
				if err := c.tokenRow(one); err != nil {
					return err
				}
			}
			if page = found.GetNextPageToken(); page == "" {
				break
			}
		}
		if shown == 0 {
			c.out.none("Tenant %s has no API tokens; `tributary token create%s` makes one.", t.Tenant, t.again())
		}
		return nil
	})
}

func (c *client) tokenRow(t *pb.Token) error {
	if c.out.json {
		return c.out.object(t)
	}
	return c.out.row(t.GetId(), t.GetTenant(), roleName(t), moment(t.GetCreateTime()), expiry(t))
}

func roleName(t *pb.Token) string {
	return strings.ToLower(strings.TrimPrefix(t.GetRole().String(), "ROLE_"))
}

// expiry says when a token ends, or that it has.
func expiry(t *pb.Token) string {
	switch at := t.GetExpireTime(); {
	case at == nil:
		return "never"
	case at.AsTime().Before(time.Now()):
		return "expired " + moment(at)
	default:
		return moment(at)
	}
}

type tokenRmCmd struct {
	clientFlags
	Name string `arg:"" help:"The token's name."`
}

// Help is shown by "tributary token rm --help".
func (tokenRmCmd) Help() string {
	return `Calls under way that were made with it, live ones included, end within a second,
on every node.

Example:
  tributary token rm dashboard`
}

// Run removes the token. It prints nothing with -o json.
func (t *tokenRmCmd) Run(ctx context.Context, app *kong.Context) error {
	return t.with(app, func(c *client) error {
		_, err := pb.NewTokenServiceClient(c.conn).DeleteToken(ctx, &pb.DeleteTokenRequest{Name: api.TokenName(t.Tenant, t.Name)})
		if err != nil || c.out.json {
			return err
		}
		return c.out.line("%s removed", t.Name)
	})
}
