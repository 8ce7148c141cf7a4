package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Verify says how the settings of external servers can be seen. Either
// is enough; with none nobody looks.
type Verify struct {
	Monitor     []string // monitoring addresses (http://host:8222), of every server with a copy of our streams
	SystemCreds string   // file: credentials of a user of the system account, or one line user:password
}

func (v Verify) any() bool { return len(v.Monitor) > 0 || v.SystemCreds != "" }

// serverFacts is what we read of a server's /varz.
type serverFacts struct {
	ID        string `json:"server_id"`
	Name      string `json:"server_name"`
	JetStream struct {
		Config *struct {
			SyncAlways bool `json:"sync_always"`
		} `json:"config"`
	} `json:"jetstream"`
}

func (f serverFacts) syncsAlways() bool {
	return f.JetStream.Config != nil && f.JetStream.Config.SyncAlways
}

// Bounds of one look.
const (
	lookTimeout  = 5 * time.Second
	maxVarzBytes = 1 << 20
	maxServers   = 256
)

// ask answers what the servers say of themselves, at least those wanted when
// they answer. The error says why one did not; others may have.
func (v Verify) ask(ctx context.Context, servers string, wanted []string) ([]serverFacts, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	var all []serverFacts
	var errs []error
	if v.SystemCreds != "" {
		answered, err := v.askSystem(ctx, servers, wanted)
		all, errs = answered, append(errs, err)
	}
	for _, at := range v.Monitor {
		f, err := askMonitor(ctx, at)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, f)
	}
	return all, errors.Join(errs...)
}

// askMonitor reads /varz of one server.
func askMonitor(ctx context.Context, at string) (f serverFacts, err error) {
	where, err := url.JoinPath(at, "varz")
	if err != nil {
		return f, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return f, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return f, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return f, fmt.Errorf("%s: %s", request.URL.Redacted(), response.Status)
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxVarzBytes)).Decode(&f); err != nil {
		return f, fmt.Errorf("%s is not what a NATS server says of itself: %w", request.URL.Redacted(), err)
	}
	return f, nil
}

// askSystem asks every server of the cluster over the system account, until
// those wanted have answered.
func (v Verify) askSystem(ctx context.Context, servers string, wanted []string) ([]serverFacts, error) {
	identity, err := v.systemIdentity()
	if err != nil {
		return nil, err
	}
	nc, err := nats.Connect(withoutUser(servers), identity, nats.Name("tributary verify"), nats.Timeout(lookTimeout), nats.NoReconnect())
	if err != nil {
		return nil, fmt.Errorf("connect with the system account: %w", err)
	}
	defer nc.Close()
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	if err := nc.PublishRequest("$SYS.REQ.SERVER.PING.VARZ", inbox, nil); err != nil {
		return nil, err
	}
	var all []serverFacts
	missing := slices.Clone(wanted)
	for len(missing) > 0 && len(all) < maxServers {
		msg, err := sub.NextMsgWithContext(ctx)
		switch {
		case err != nil && !errors.Is(err, nats.ErrNoResponders):
			return all, err
		case err != nil || msg.Header.Get("Status") == "503":
			return nil, errors.New("nobody answers a question to the system account: are these credentials one of its users'?")
		}
		var answer struct {
			Data serverFacts `json:"data"`
		}
		if err := json.Unmarshal(msg.Data, &answer); err != nil {
			return all, fmt.Errorf("a server's answer cannot be read: %w", err)
		}
		all = append(all, answer.Data)
		missing = slices.DeleteFunc(missing, func(name string) bool { return name == answer.Data.Name })
	}
	return all, nil
}

// systemIdentity reads the file: what `nsc` writes, or one line user:password.
func (v Verify) systemIdentity() (nats.Option, error) {
	raw, err := os.ReadFile(v.SystemCreds)
	if err != nil {
		return nil, err
	}
	if strings.Contains(string(raw), "-----BEGIN NATS USER JWT-----") {
		return nats.UserCredentials(v.SystemCreds), nil
	}
	user, password, ok := strings.Cut(strings.TrimSpace(string(raw)), ":")
	if !ok || strings.ContainsAny(user+password, "\r\n") {
		return nil, fmt.Errorf("%s holds neither NATS credentials nor one line user:password", v.SystemCreds)
	}
	return nats.UserInfo(user, password), nil
}

// withoutUser takes the user out of server URLs, where it would win over ours.
func withoutUser(servers string) string {
	var out []string
	for s := range strings.SplitSeq(servers, ",") {
		if u, err := url.Parse(strings.TrimSpace(s)); err == nil && u.User != nil {
			u.User = nil
			s = u.String()
		}
		out = append(out, s)
	}
	return strings.Join(out, ",")
}
