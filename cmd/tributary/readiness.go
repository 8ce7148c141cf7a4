package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/tributary-iot/tributary/pipeline"
	"github.com/tributary-iot/tributary/registry"
)

// readiness answers, part by part, whether the server can keep its promises
// now. /readyz, gRPC health and `tributary status` all say what it says.
type readiness struct {
	mu     sync.Mutex
	checks []check
}

// check looks at one part. detail is for people; an error means not ready. It
// answers from what is known, and waits for nobody.
type check struct {
	part    string
	outside bool // what is wrong is told, and does not make the server not ready
	look    func() (detail string, err error)
}

// partState is one part's line in the report.
type partState struct {
	Part   string `json:"part"`
	Ready  bool   `json:"ready"`
	Detail string `json:"detail,omitempty"`
	Error  string `json:"error,omitempty"`
}

// readyReport is the readiness of the whole.
type readyReport struct {
	Ready bool        `json:"ready"`
	Parts []partState `json:"parts"`
}

func (r *readiness) add(part string, look func() (string, error)) {
	r.enter(check{part: part, look: look})
}

// addOutside is add for a part that depends on others' servers, without which this
// one keeps its promises all the same.
func (r *readiness) addOutside(part string, look func() (string, error)) {
	r.enter(check{part: part, outside: true, look: look})
}

func (r *readiness) enter(c check) {
	r.mu.Lock()
	r.checks = append(r.checks, c)
	r.mu.Unlock()
}

// now looks at every part.
func (r *readiness) now() readyReport {
	r.mu.Lock()
	checks := r.checks
	r.mu.Unlock()
	all := readyReport{Ready: true, Parts: make([]partState, 0, len(checks))}
	for _, c := range checks {
		s := partState{Part: c.part, Ready: true}
		detail, err := c.look()
		s.Detail = detail
		if err != nil {
			s.Ready, s.Error = false, oneLine(err.Error())
			all.Ready = all.Ready && c.outside
		}
		all.Parts = append(all.Parts, s)
	}
	return all
}

// ready says whether the named parts are, those there are of them.
func (r *readyReport) ready(parts ...string) bool {
	for _, s := range r.Parts {
		for _, part := range parts {
			if s.Part == part && !s.Ready {
				return false
			}
		}
	}
	return true
}

// text is the report for people: the first line is "ok" or "not ready".
func (r *readyReport) text() string {
	var b strings.Builder
	b.WriteString(map[bool]string{true: "ok\n", false: "not ready\n"}[r.Ready])
	for _, s := range r.Parts {
		fmt.Fprintf(&b, "%-10s %-9s %s\n", s.Part, stateWord(s.Ready), s.say())
	}
	return b.String()
}

func stateWord(ready bool) string { return map[bool]string{true: "ready", false: "NOT READY"}[ready] }

func (s *partState) say() string {
	if s.Error == "" || s.Detail == "" {
		return s.Error + s.Detail
	}
	return s.Error + " (" + s.Detail + ")"
}

// ServeHTTP answers /readyz: 200 or 503, as text, or as JSON when asked for it.
// A ready server says only "ok" unless asked for more.
func (r *readiness) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	now := r.now()
	status := http.StatusOK
	if !now.Ready {
		status = http.StatusServiceUnavailable
	}
	query := request.URL.Query()
	w.Header().Set("Cache-Control", "no-store")
	if query.Get("format") == "json" || strings.Contains(request.Header.Get("Accept"), "application/json") {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(now)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	if now.Ready && !query.Has("verbose") {
		fmt.Fprintln(w, "ok")
		return
	}
	fmt.Fprint(w, now.text())
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// look enters the checks of the parts that every door leans on.
func (h *house) look(belt *pipeline.Belt, node *pipeline.Node, store *storeKeeper, devices *registry.Registry) {
	h.ready.add("nats", h.lookNATS(belt))
	h.ready.add("stream", func() (string, error) { return pipeline.TelemetryStream, belt.Healthy() })
	h.ready.add("room", belt.RoomForTelemetry)
	h.ready.add("durability", func() (string, error) { return h.lookDurability(belt.Verification()) })
	h.ready.add("leases", func() (string, error) {
		incarnation, err := node.Acting()
		if err != nil {
			return "", err
		}
		return "acting as " + h.cfg.nodeName() + "/" + incarnation, nil
	})
	h.ready.add("store", store.look)
	h.ready.add("persister", store.lookPersister)
	h.ready.add("registry", func() (string, error) {
		if !devices.Watching() {
			return "", fmt.Errorf("changes made elsewhere are not followed; every device is looked up anew until they are")
		}
		return "changes are followed", nil
	})
}

// durabilityWords say what an acknowledgement means.
var durabilityWords = map[string]string{
	"strict":   "strict, verified: fsynced before it is acknowledged, by the server in this process",
	"relaxed":  "relaxed: acknowledged when written to the operating system; a power cut takes up to two minutes",
	"verified": "strict, verified: fsynced before it is acknowledged, as the NATS server's own settings say",
	"trusted":  "trusted: fsynced before it is acknowledged if the NATS server is set to",
}

// lookDurability says what an acknowledgement means, and what was seen of that
// on an external server. What is trusted cannot be found wrong.
func (h *house) lookDurability(seen string, wrong error) (string, error) {
	detail := durabilityWords[h.durability]
	switch {
	case wrong != nil && h.durability == string(pipeline.Verified):
		return detail, wrong
	case wrong != nil:
		return detail + "; " + oneLine(wrong.Error()), nil
	case seen != "":
		return detail + "; " + seen, nil
	case h.durability == string(pipeline.Trusted):
		return detail + "; nobody has looked", nil
	}
	return detail, nil
}

func (h *house) lookNATS(belt *pipeline.Belt) func() (string, error) {
	return func() (string, error) {
		if h.nats == nil {
			return "external", belt.Connected()
		}
		detail := "embedded"
		if n := h.nats.Restarts(); n > 0 {
			detail += fmt.Sprintf(", restarted %d times after a fault of the disk", n)
		}
		if err := h.nats.Healthy(); err != nil {
			return detail, err
		}
		return detail, belt.Connected()
	}
}

// lookDoor says where a door listens, while it does.
func (h *house) lookDoor(name, addr string, run func(context.Context) error) func(context.Context) error {
	var mu sync.Mutex
	state := fmt.Errorf("not serving yet")
	h.ready.add(name, func() (string, error) {
		mu.Lock()
		defer mu.Unlock()
		return addr, state
	})
	set := func(err error) {
		mu.Lock()
		state = err
		mu.Unlock()
	}
	return func(ctx context.Context) error {
		set(nil)
		defer set(fmt.Errorf("closed"))
		return run(ctx)
	}
}

// tellHealth keeps gRPC health in agreement with the report.
func (h *house) tellHealth(set func(serving func(service string) bool)) func(context.Context) error {
	return func(ctx context.Context) error {
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			now := h.ready.now()
			set(func(service string) bool {
				if needs, known := serviceNeeds[service]; known {
					return now.ready(needs...)
				}
				return now.Ready
			})
			select {
			case <-tick.C:
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// serviceNeeds are the parts without which a service has nothing true to say.
// Services that are not here, and the server as a whole, need all.
var serviceNeeds = map[string][]string{
	"tributary.v1.DeviceService":       {"nats", "registry"},
	"tributary.v1.CommandService":      {"nats", "stream", "leases"},
	"tributary.v1.CommandBatchService": {"nats", "stream"},
	"tributary.v1.TelemetryService":    {"store"},
	"tributary.v1.PresenceService":     {"nats", "leases"},
	"tributary.v1.BridgeService":       {},
}
