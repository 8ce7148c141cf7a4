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
	"sync"
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

// serverFacts is what we read of a server's /varz, and what it said of its health
// before that.
type serverFacts struct {
	ID      string `json:"server_id"` // another one after every start
	Name    string `json:"server_name"`
	Version string `json:"version"`
	Cluster struct {
		Name string `json:"name"` // "": a server alone
	} `json:"cluster"`
	JetStream struct {
		Config *struct {
			SyncAlways bool `json:"sync_always"`
		} `json:"config"`
	} `json:"jetstream"`

	health *health // nil: it did not say
}

func (f serverFacts) syncsAlways() bool {
	return f.JetStream.Config != nil && f.JetStream.Config.SyncAlways
}

// Bounds of one look.
const (
	lookTimeout   = 5 * time.Second
	healthTimeout = lookTimeout / 2 // of it, for what a server says of its health
	maxVarzBytes  = 1 << 20
	maxServers    = 256
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
	var mu sync.Mutex
	var asking sync.WaitGroup
	for _, at := range v.Monitor {
		asking.Go(func() { // one that is stuck does not keep us from the others
			f, err := askMonitor(ctx, at)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
				return
			}
			all = append(all, f)
		})
	}
	asking.Wait()
	return once(all), errors.Join(errs...)
}

// once leaves one answer of each server, one that says how it is if there is one, in
// the order of their names.
func once(all []serverFacts) []serverFacts {
	var out []serverFacts
	for _, f := range all {
		switch i := slices.IndexFunc(out, func(o serverFacts) bool { return o.ID == f.ID }); {
		case i < 0:
			out = append(out, f)
		case out[i].health == nil:
			out[i] = f
		}
	}
	slices.SortStableFunc(out, func(a, b serverFacts) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// askMonitor reads /healthz and then /varz of one server: so what it says of its
// health was said by the process that /varz names, or by one before it. A server
// that does not answer the first may be stuck, and answer the second.
func askMonitor(ctx context.Context, at string) (f serverFacts, err error) {
	first, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	var h health
	if err := readPage(first, at, "healthz?details=true", &h); err == nil {
		f.health = &h
	}
	return f, readPage(ctx, at, "varz", &f)
}

// readPage reads a page of a server's monitoring address. /healthz is 503 when
// something is wrong, and says what.
func readPage(ctx context.Context, at, page string, into any) error {
	where := strings.TrimSuffix(at, "/") + "/" + page
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, isHealth := into.(*health); response.StatusCode != http.StatusOK && !isHealth {
		return fmt.Errorf("%s: %s", request.URL.Redacted(), response.Status)
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxVarzBytes)).Decode(into); err != nil {
		return fmt.Errorf("%s is not what a NATS server says of itself: %w", request.URL.Redacted(), err)
	}
	return nil
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
	first, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	healths, err := askAll[health](first, nc, "HEALTHZ", `{"details":true}`, wanted)
	if errors.Is(err, errNotSystem) {
		return nil, err
	}
	all, err := askAll[serverFacts](ctx, nc, "VARZ", "", wanted)
	var facts []serverFacts
	for name, f := range all {
		if h, said := healths[name]; said {
			f.health = &h
		}
		facts = append(facts, f)
	}
	return facts, err
}

var errNotSystem = errors.New("nobody answers a question to the system account: are these credentials one of its users'?")

// askAll puts one question to all servers, and answers what they said by their names.
func askAll[T any](ctx context.Context, nc *nats.Conn, what, body string, wanted []string) (map[string]T, error) {
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	if err := nc.PublishRequest("$SYS.REQ.SERVER.PING."+what, inbox, []byte(body)); err != nil {
		return nil, err
	}
	all := map[string]T{}
	missing := slices.Clone(wanted)
	for len(missing) > 0 && len(all) < maxServers {
		msg, err := sub.NextMsgWithContext(ctx)
		switch {
		case err != nil && !errors.Is(err, nats.ErrNoResponders):
			return all, err
		case err != nil || msg.Header.Get("Status") == "503":
			return nil, errNotSystem
		}
		var answer struct {
			Server struct {
				Name string `json:"name"`
			} `json:"server"`
			Data T `json:"data"`
		}
		if err := json.Unmarshal(msg.Data, &answer); err != nil {
			return all, fmt.Errorf("a server's answer cannot be read: %w", err)
		}
		all[answer.Server.Name] = answer.Data
		missing = slices.DeleteFunc(missing, func(name string) bool { return name == answer.Server.Name })
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
