package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/alecthomas/kong"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/tributary-iot/tributary/device"
	pb "github.com/tributary-iot/tributary/proto/tributary/v1"
)

// clientCommands are the subcommands that talk to a running server.
type clientCommands struct {
	Device   deviceCmd   `cmd:"" help:"Register devices, and say which may speak."`
	Send     sendCmd     `cmd:"" help:"Send a command to a device."`
	Call     callCmd     `cmd:"" help:"Send a command to a device and print what it answers."`
	Batch    batchCmd    `cmd:"" help:"Send one command to many devices, and see how far it is."`
	Commands commandsCmd `cmd:"" help:"See what became of commands, and cancel them."`
	Query    queryCmd    `cmd:"" help:"Print what a device said, newest N, oldest first."`
	Latest   latestCmd   `cmd:"" help:"Print the last value of everything devices measure."`
	Tail     tailCmd     `cmd:"" help:"Print messages as they are stored."`

	Deadletter deadletterCmd `cmd:"" help:"See messages that were not kept, and why; try them again."`
	Presence   presenceCmd   `cmd:"" help:"Print who is connected, and who comes and goes."`
	Bridge     bridgeCmd     `cmd:"" help:"Print how the bridges to other brokers are."`
	Token      tokenCmd      `cmd:"" help:"Make and end tokens for the API, each with a role in one tenant."`
	Status     statusCmd     `cmd:"" help:"Print whether the server is ready, part by part."`
}

// clientFlags say which server to talk to and how to print.
type clientFlags struct {
	Data      string `default:"tributary-data" type:"path" env:"TRIBUTARY_DATA" placeholder:"DIR" help:"Data directory of the server on this machine: its address and token are read there."`
	GRPC      string `name:"grpc" env:"TRIBUTARY_SERVER" placeholder:"ADDR" help:"Address of the server, instead of the one in DIR/addresses.json. Plain on loopback, TLS elsewhere."`
	CA        string `name:"ca" type:"path" env:"TRIBUTARY_CA" placeholder:"FILE" help:"Certificate of the authority to trust, in PEM form; speaks TLS on loopback, too. Default: the system's, and DIR/tls/ca.crt."`
	TokenFile string `type:"path" env:"TRIBUTARY_TOKEN_FILE" placeholder:"FILE" help:"File with an API token, or with the operator's, instead of DIR/admin.token."`
	Tenant    string `default:"default" env:"TRIBUTARY_TENANT" placeholder:"NAME" help:"Tenant of the devices; DEVICE@TENANT says it too."`
	Output    string `short:"o" env:"TRIBUTARY_OUTPUT" enum:"table,json" default:"table" help:"table, or json: one protobuf-JSON object a line."`
}

// client is a connection to a server.
type client struct {
	flags     *clientFlags
	conn      *grpc.ClientConn
	devices   pb.DeviceServiceClient
	commands  pb.CommandServiceClient
	batches   pb.CommandBatchServiceClient
	telemetry pb.TelemetryServiceClient
	letters   pb.DeadLetterServiceClient
	out       *output
}

// maxAnswerBytes bounds one answer of the server; a page is far smaller unless
// a single message is not.
const maxAnswerBytes = 64 << 20

// with runs do against the server, and says in a sentence what went wrong.
func (f *clientFlags) with(app *kong.Context, do func(*client) error) error {
	addr, token, err := f.find()
	if err != nil {
		return err
	}
	secure, err := clientTLS(addr, f.CA, f.Data)
	if err != nil {
		return err
	}
	transport := insecure.NewCredentials()
	if secure != nil {
		transport = credentials.NewTLS(secure)
	}
	addr = reachable(addr)
	conn, err := grpc.NewClient(addr,
		grpc.WithTransportCredentials(transport),
		grpc.WithPerRPCCredentials(operator(token)),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswerBytes)),
		grpc.WithDisableServiceConfig(), grpc.WithNoProxy())
	if err != nil {
		return fmt.Errorf("--grpc %s is not an address: %w", addr, err)
	}
	defer conn.Close()
	c := &client{
		flags: f, conn: conn, devices: pb.NewDeviceServiceClient(conn), commands: pb.NewCommandServiceClient(conn), batches: pb.NewCommandBatchServiceClient(conn),
		telemetry: pb.NewTelemetryServiceClient(conn), letters: pb.NewDeadLetterServiceClient(conn), out: newOutput(app.Stdout, app.Stderr, f.Output == "json"),
	}
	return f.explain(errors.Join(do(c), c.out.close()), addr)
}

// find answers the address and token of the server.
func (f *clientFlags) find() (addr, token string, err error) {
	if addr = f.GRPC; addr == "" {
		if addr, err = f.readAddress(); err != nil {
			return "", "", err
		}
	}
	raw, err := os.ReadFile(f.tokenPath())
	if err != nil {
		return "", "", fmt.Errorf("the operator's token cannot be read (%w): run this as the user who runs the server, or name a copy with --token-file", err)
	}
	return addr, strings.TrimSpace(string(raw)), nil
}

func (f *clientFlags) tokenPath() string {
	if f.TokenFile != "" {
		return f.TokenFile
	}
	return filepath.Join(f.Data, tokenFile)
}

func (f *clientFlags) readAddress() (string, error) {
	path := filepath.Join(f.Data, addressesFile)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("no server is ready on %s: start one with `tributary serve --data %s`, or name its directory with --data", f.Data, f.Data)
	}
	if err != nil {
		return "", fmt.Errorf("the server's addresses cannot be read: %w", err)
	}
	var addresses map[string]string
	if err := json.Unmarshal(raw, &addresses); err != nil {
		return "", fmt.Errorf("%s is not what a server writes: %w", path, err)
	}
	if addresses["grpc"] == "" {
		return "", fmt.Errorf("the server on %s has its gRPC listener off: start it without `--grpc off`", f.Data)
	}
	return addresses["grpc"], nil
}

// explain turns a status into a sentence that says what to do.
func (f *clientFlags) explain(err error, addr string) error {
	var s interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &s) {
		return err
	}
	told := s.GRPCStatus()
	switch {
	case told.Code() == codes.Unauthenticated:
		return fmt.Errorf("the server at %s does not accept the token in %s: it is another server's, was removed, or has expired", addr, f.tokenPath())
	case told.Code() == codes.Unavailable && strings.Contains(told.Message(), "x509: certificate signed by unknown authority"):
		return fmt.Errorf("nobody we trust vouches for the server at %s: name its authority with --ca (the development one is tls/ca.crt of its data directory)", addr)
	case told.Code() == codes.Unavailable && strings.Contains(told.Message(), "x509: "):
		_, why, _ := strings.Cut(told.Message(), "x509: ")
		return fmt.Errorf("the certificate of the server at %s does not hold: %s", addr, strings.TrimSuffix(why, "\""))
	case told.Code() == codes.Unavailable && strings.Contains(told.Message(), "server preface"):
		return fmt.Errorf("what answers at %s speaks no plain gRPC: if it speaks TLS, name its authority with --ca", addr)
	case told.Code() == codes.Unavailable && strings.Contains(told.Message(), "connection error"):
		return fmt.Errorf("no server answers at %s: start it with `tributary serve --data %s` and try again", addr, f.Data)
	case told.Code() == codes.Unavailable && strings.Contains(told.Message(), "reading from server"):
		return fmt.Errorf("the server at %s has gone away: start it and try again", addr)
	case told.Code() == codes.NotFound && strings.Contains(told.Message(), "no device"):
		return fmt.Errorf("%s: `tributary device list%s` shows those there are", told.Message(), f.again())
	case told.Code() == codes.NotFound && strings.Contains(told.Message(), "no such command"):
		return fmt.Errorf("%s: `tributary commands list%s` shows those there are", told.Message(), f.again())
	case told.Code() == codes.NotFound && strings.Contains(told.Message(), "no token"):
		return fmt.Errorf("%s: `tributary token list%s` shows those there are", told.Message(), f.again())
	case told.Code() == codes.AlreadyExists && strings.Contains(told.Message(), "device"):
		return fmt.Errorf("%s: `tributary device rotate` gives it a new secret", told.Message())
	case told.Code() == codes.Internal:
		return fmt.Errorf("the server at %s failed (%s): its log says why", addr, told.Message())
	}
	return errors.New(told.Message())
}

// again is what a command line that is suggested needs to find this server.
func (f *clientFlags) again() string {
	if usual, err := filepath.Abs("tributary-data"); err == nil && usual == f.Data {
		return ""
	}
	return " --data " + f.Data
}

// device reads a device's name as typed: DEVICE, or DEVICE@TENANT.
func (f *clientFlags) device(name string) (device.ID, error) {
	id := device.ID{Tenant: f.Tenant, Device: name}
	if strings.Contains(name, "@") {
		return device.ParseUser(name)
	}
	return id, id.Validate()
}

// deviceOrAny is device, and any device of the tenant for "".
func (f *clientFlags) deviceOrAny(name string) (device.ID, error) {
	if name == "" {
		return device.ID{Tenant: f.Tenant}, nil
	}
	return f.device(name)
}

// operator shows the token with every call.
type operator string

func (t operator) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(t)}, nil
}

// RequireTransportSecurity is false for loopback; elsewhere clientTLS sees to it.
func (operator) RequireTransportSecurity() bool { return false }

// exitError chooses the program's exit code.
type exitError struct {
	code int
	text string
}

func (e *exitError) Error() string { return e.text }
func (e *exitError) ExitCode() int { return e.code }
