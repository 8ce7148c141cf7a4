package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/alecthomas/kong"
)

// statusCmd prints whether a server is ready, part by part.
type statusCmd struct {
	Data   string `default:"tributary-data" type:"path" env:"TRIBUTARY_DATA" placeholder:"DIR" help:"Data directory of the server on this machine: its address is read there."`
	Admin  string `env:"TRIBUTARY_ADMIN" placeholder:"URL" help:"Where the server's admin listener is, instead of the address in DIR/addresses.json: http://HOST:PORT, or https."`
	CA     string `name:"ca" type:"path" env:"TRIBUTARY_CA" placeholder:"FILE" help:"Certificate of the authority to trust. Default: the system's, and DIR/tls/ca.crt."`
	Output string `short:"o" env:"TRIBUTARY_OUTPUT" enum:"table,json" default:"table" help:"table, or json: one object."`
}

// Help is shown by `tributary status --help`.
func (statusCmd) Help() string {
	return `Asks the admin listener's /readyz and prints what it says of every part. The
exit code is 0 when the server is ready and 1 when it is not, or cannot be asked.

Example:
  tributary status --data /var/lib/tributary`
}

// errNotReady only chooses the exit code; the report has said the rest.
var errNotReady = errors.New("the server is not ready")

// Run asks and prints.
func (c *statusCmd) Run(ctx context.Context, app *kong.Context) error {
	url := c.Admin
	if url == "" {
		addr, err := c.address()
		if err != nil {
			return err
		}
		if url = "http://" + addr; encrypts(addr) {
			url = "https://" + reachable(addr)
		}
	}
	secure, err := clientTLS("", c.CA, c.Data) // used where the URL says https
	if err != nil {
		return err
	}
	now, err := askReadiness(ctx, &http.Client{Transport: &http.Transport{TLSClientConfig: secure}}, url)
	if err != nil {
		return fmt.Errorf("the server at %s does not say how it is: %w", url, err)
	}
	if c.Output == "json" {
		err = json.NewEncoder(app.Stdout).Encode(now)
	} else {
		_, err = io.WriteString(app.Stdout, now.text())
	}
	if err == nil && !now.Ready {
		err = errNotReady
	}
	return err
}

func (c *statusCmd) address() (string, error) {
	raw, err := os.ReadFile(filepath.Join(c.Data, addressesFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("no server is ready on %s: start one with `tributary serve --data %s`, or name its directory with --data", c.Data, c.Data)
	}
	if err != nil {
		return "", fmt.Errorf("the server's addresses cannot be read: %w", err)
	}
	var addresses map[string]string
	if err := json.Unmarshal(raw, &addresses); err != nil {
		return "", fmt.Errorf("%s is not what a server writes: %w", addressesFile, err)
	}
	if addresses["admin"] == "" {
		return "", fmt.Errorf("the server on %s has its admin listener off: start it without `--admin off`", c.Data)
	}
	return addresses["admin"], nil
}

func askReadiness(ctx context.Context, client *http.Client, url string) (*readyReport, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/readyz?format=json", nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var now readyReport
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&now); err != nil {
		return nil, fmt.Errorf("%s: %w", response.Status, err)
	}
	return &now, nil
}
