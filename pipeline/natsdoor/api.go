package natsdoor

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	apiPrefix = "$JS.API."
	ackPrefix = "$JS.ACK."
	typeStem  = "io.nats.jetstream.api.v1."
)

// apiError is JetStream's form of a refusal.
type apiError struct {
	Code        int    `json:"code"`     // as HTTP's
	Number      int    `json:"err_code"` // JetStream's own
	Description string `json:"description"`
}

func (e *apiError) Error() string { return e.Description }

func refused(err error) error { return &apiError{403, 10003, err.Error()} }

var errUnknownConsumer = &apiError{404, 10014, "consumer not found"}

// onAPI answers one request of a reader.
func (p *Porter) onAPI(m *nats.Msg) {
	if _, ok := p.delivery(m.Reply); !ok || len(m.Data) > maxRequest {
		p.metrics.requests.WithLabelValues("api", "refused").Inc()
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	kind, answer, err := p.serve(ctx, strings.TrimPrefix(m.Subject, apiPrefix), m.Data)
	outcome := "passed"
	if err != nil {
		outcome = "failed"
		e := &apiError{503, 10008, "the server cannot answer now, try again: " + err.Error()}
		if errors.As(err, &e) {
			outcome = "refused"
		}
		answer, err = json.Marshal(map[string]any{"type": typeStem + kind, "error": e})
	}
	p.metrics.requests.WithLabelValues("api", outcome).Inc()
	if err == nil {
		_ = p.outside.Publish(m.Reply, answer)
	}
}

// serve answers the type of the response and its body.
func (p *Porter) serve(ctx context.Context, what string, body []byte) (kind string, answer []byte, err error) {
	stream := "." + p.cfg.Stream
	if what == "INFO" {
		answer, err = p.accountInfo()
		return "account_info_response", answer, err
	}
	if what == "STREAM.NAMES" {
		answer, err = json.Marshal(map[string]any{"type": typeStem + "stream_names_response",
			"total": 1, "offset": 0, "limit": 1024, "streams": []string{p.cfg.Stream}})
		return "stream_names_response", answer, err
	}
	if what == "STREAM.INFO"+stream { // without the body: it could ask for every subject
		answer, err = p.ask(ctx, what, nil)
		return "stream_info_response", answer, err
	}
	if name, ok := strings.CutPrefix(what, "CONSUMER.INFO"+stream+"."); ok {
		answer, err = p.askOfOwn(ctx, what, name)
		return "consumer_info_response", answer, err
	}
	if name, ok := strings.CutPrefix(what, "CONSUMER.DELETE"+stream+"."); ok {
		if answer, err = p.askOfOwn(ctx, what, name); err == nil {
			p.ledger.remove(name)
		}
		return "consumer_delete_response", answer, err
	}
	for _, form := range []string{"CONSUMER.CREATE" + stream, "CONSUMER.DURABLE.CREATE" + stream} {
		if rest, ok := strings.CutPrefix(what, form); ok && (rest == "" || rest[0] == '.') {
			answer, err = p.create(ctx, strings.TrimPrefix(rest, "."), body)
			return "consumer_create_response", answer, err
		}
	}
	return "error", nil, refused(fmt.Errorf("this door reads stream %s and does nothing else", p.cfg.Stream))
}

func (p *Porter) ask(ctx context.Context, what string, body []byte) ([]byte, error) {
	m, err := p.inside.RequestWithContext(ctx, apiPrefix+what, body)
	if err != nil {
		return nil, err
	}
	return m.Data, nil
}

func (p *Porter) askOfOwn(ctx context.Context, what, name string) ([]byte, error) {
	if !p.ledger.has(name) {
		return nil, errUnknownConsumer
	}
	return p.ask(ctx, what, nil)
}

func (p *Porter) accountInfo() ([]byte, error) {
	all, _ := p.ledger.count("")
	return json.Marshal(map[string]any{
		"type": typeStem + "account_info_response", "memory": 0, "storage": 0, "streams": 1, "consumers": all,
		"limits": map[string]any{"max_memory": 0, "max_storage": 0, "max_streams": 0, "max_consumers": p.cfg.MaxConsumers},
		"api":    map[string]any{"total": 0, "errors": 0},
	})
}

// createRequest is what clients send to make or change a consumer.
type createRequest struct {
	Stream   string                   `json:"stream_name"`
	Config   jetstream.ConsumerConfig `json:"config"`
	Action   string                   `json:"action,omitempty"`
	Pedantic bool                     `json:"pedantic,omitempty"`
}

// create makes or changes a consumer; rest is what the subject says of it: its
// name, and its filter, which count for nothing beside the body.
func (p *Porter) create(ctx context.Context, rest string, body []byte) ([]byte, error) {
	var r createRequest
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return nil, refused(fmt.Errorf("not a consumer this door offers: %w", err))
	}
	if r.Stream != p.cfg.Stream || r.Pedantic || r.Action != "" && r.Action != "create" && r.Action != "update" {
		return nil, refused(fmt.Errorf("only consumers of stream %s, and neither pedantic nor of another action", p.cfg.Stream))
	}
	named, _, _ := strings.Cut(rest, ".")
	if own := cmp.Or(r.Config.Durable, r.Config.Name); own == "" {
		r.Config.Name = cmp.Or(named, rand.Text())
	} else if named != "" && named != own {
		return nil, refused(errors.New("the request is addressed to another consumer than it describes"))
	}
	cfg, err := p.cfg.admit(&r.Config)
	if err != nil {
		return nil, refused(err)
	}
	p.making.Lock() // so that the count holds
	defer p.making.Unlock()
	if err := p.room(ctx, &cfg); err != nil {
		return nil, err
	}
	return p.make(ctx, createRequest{Stream: p.cfg.Stream, Config: cfg, Action: r.Action})
}

// room checks that the name is not one of the server's own consumers and that
// there are not too many.
func (p *Porter) room(ctx context.Context, cfg *jetstream.ConsumerConfig) error {
	if p.ledger.has(cfg.Name) {
		return nil
	}
	full := func() bool {
		all, durable := p.ledger.count(cfg.Name)
		return all >= p.cfg.MaxConsumers || cfg.Durable != "" && durable >= p.cfg.MaxDurables
	}
	if full() { // some may be gone
		if err := p.load(ctx); err != nil {
			return err
		}
		if full() {
			return &apiError{400, 10026, fmt.Sprintf("readers have %d consumers, of them %d that keep their place, and no more; delete one that is not needed",
				p.cfg.MaxConsumers, p.cfg.MaxDurables)}
		}
	}
	_, err := p.js.Consumer(ctx, p.cfg.Stream, cfg.Name)
	switch {
	case err == nil || errors.Is(err, jetstream.ErrNotPullConsumer):
		return refused(errors.New("the name is taken; choose another"))
	case errors.Is(err, jetstream.ErrConsumerNotFound):
		return nil
	}
	return err
}

func (p *Porter) make(ctx context.Context, r createRequest) ([]byte, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	subject := "CONSUMER.CREATE." + p.cfg.Stream + "." + r.Config.Name
	if r.Config.FilterSubject != "" {
		subject += "." + r.Config.FilterSubject
	}
	answer, err := p.ask(ctx, subject, body)
	if err != nil {
		return nil, err
	}
	var made struct {
		Error *apiError `json:"error"`
	}
	if err := json.Unmarshal(answer, &made); err != nil {
		return nil, err
	}
	if made.Error == nil {
		p.ledger.add(r.Config.Name, r.Config.Durable != "")
		all, _ := p.ledger.count("")
		p.metrics.consumers.Set(float64(all))
	}
	return answer, nil
}
