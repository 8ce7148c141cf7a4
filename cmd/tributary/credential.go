package main

import (
	"context"
	"fmt"
	"os"

	"github.com/alecthomas/kong"

	"github.com/tributary-iot/tributary/device"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// credentialCmd is `tributary device credential`.
type credentialCmd struct {
	Add credentialAddCmd `cmd:"" help:"Add a secret, printed once, or a client certificate."`
	Rm  credentialRmCmd  `cmd:"" help:"Remove a credential and end the connections that came in with it."`
}

// certFile is a flag that names a PEM file and holds the hash of its
// certificate's key, "" when it is not given.
type certFile struct{ key string }

// UnmarshalText implements encoding.TextUnmarshaler for the command line.
func (c *certFile) UnmarshalText(path []byte) error {
	if len(path) == 0 {
		return nil
	}
	file, err := os.ReadFile(string(path))
	if err != nil {
		return fmt.Errorf("the certificate cannot be read: %w", err)
	}
	key, err := device.KeyHashOfPEM(file)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	c.key = key.String()
	return nil
}

type credentialAddCmd struct {
	deviceArg
	Cert certFile `placeholder:"FILE" help:"PEM file of a client certificate, whose key is added. Without it a secret is made."`
}

// Help is shown by `tributary device credential add --help`.
func (credentialAddCmd) Help() string {
	return `A device may have up to 16 credentials; any one of them lets it in.

Example:
  tributary device credential add thermo-1 --cert thermo-1.pem`
}

// Run adds the credential.
func (d *credentialAddCmd) Run(ctx context.Context, app *kong.Context) error {
	return d.act(app, func(c *client, name string) error {
		added, err := c.devices.AddCredential(ctx, &pb.AddCredentialRequest{Name: name, CertificateKey: d.Cert.key})
		if err != nil {
			return err
		}
		if c.out.json {
			return c.out.object(added)
		}
		if added.GetSecret() == "" {
			return c.printCredentials([]*pb.Credential{added.GetCredential()})
		}
		for _, row := range [][2]string{{"credential", added.GetCredential().GetId()}, {"secret", added.GetSecret()}} {
			if err := c.out.row(row[0], row[1]); err != nil {
				return err
			}
		}
		c.out.note("Keep the secret now: it is not shown again.")
		return nil
	})
}

type credentialRmCmd struct {
	deviceArg
	ID string `arg:"" help:"The credential, as \"device show\" names it."`
}

// Help is shown by `tributary device credential rm --help`.
func (credentialRmCmd) Help() string {
	return `Example:
  tributary device show thermo-1
  tributary device credential rm thermo-1 c7k2m4qa`
}

// Run removes the credential.
func (d *credentialRmCmd) Run(ctx context.Context, app *kong.Context) error {
	return d.act(app, func(c *client, name string) error {
		left, err := c.devices.RemoveCredential(ctx, &pb.RemoveCredentialRequest{Name: name, CredentialId: d.ID})
		if err != nil {
			return err
		}
		if c.out.json {
			return c.out.object(left)
		}
		return c.out.line("credential %s of %s removed", d.ID, d.Name)
	})
}

// printCredentials shows a person what there is; the hash of a certificate's
// key is no secret.
func (c *client) printCredentials(all []*pb.Credential) error {
	if c.out.json {
		return nil
	}
	if err := c.out.close(); err != nil { // the table before has columns of its own
		return err
	}
	if len(all) == 0 {
		c.out.none("No credentials: it cannot connect. `tributary device credential add` gives it one.")
		return nil
	}
	if err := c.out.row("CREDENTIAL", "TYPE", "KEY (SHA-256)", "CREATED", "EXPIRES"); err != nil {
		return err
	}
	for _, one := range all {
		what, key := "secret", "-"
		if k := one.GetCertificateKey(); k != "" {
			what, key = "certificate", k
		}
		if err := c.out.row(one.GetId(), what, key, moment(one.GetCreateTime()), moment(one.GetExpireTime())); err != nil {
			return err
		}
	}
	return nil
}
