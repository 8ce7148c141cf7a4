package pipeline

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
)

// A new listener is known to its own NATS server at once, and to the others of a cluster
// a moment later: what is cast there meanwhile, nobody hears. So whoever begins to listen
// for a tenant asks all nodes to cast something that is for it alone, and does not say
// that it listens before it has heard each of them.
const (
	echoFirst = 2 * time.Millisecond // until it is asked again, and twice as long each time
	echoPause = 100 * time.Millisecond
	echoWait  = time.Second // for all of them: one may be dead, and not known to be
)

// echoes is what a new listener has heard.
type echoes struct {
	subject, token string

	mu    sync.Mutex
	heard map[string]bool // incarnations
	news  chan struct{}   // capacity 1
}

func newEchoes(tenant string) *echoes {
	return &echoes{subject: echoSubject(tenant), token: nuid.Next(), heard: map[string]bool{}, news: make(chan struct{}, 1)}
}

// echoSubject is where echoes for a tenant's listeners go: that of a topic without levels,
// which no message has.
func echoSubject(tenant string) string {
	return string(appendLevel([]byte(topicNowRoot+"."), tenant, subjectEscape)) + topicEnd
}

// echoAskSubject is where all nodes are asked for one.
func echoAskSubject(tenant string) string {
	return string(appendLevel([]byte(echoAskRoot+"."), tenant, subjectEscape))
}

// hear takes an echo, its own or somebody else's.
func (e *echoes) hear(body []byte) {
	incarnation, mine := strings.CutPrefix(string(body), e.token+" ")
	if !mine {
		return
	}
	e.mu.Lock()
	e.heard[incarnation] = true
	e.mu.Unlock()
	select {
	case e.news <- struct{}{}:
	default:
	}
}

// all reports whether every living node was heard.
func (e *echoes) all(n *Node) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, node := range n.Nodes() {
		if !e.heard[node.Incarnation] {
			return false
		}
	}
	return true
}

// awaitEchoes returns when what any living node casts is heard. One that does not answer
// keeps a listener waiting for echoWait, and no longer. An error is the end of ctx.
func (t *Topics) awaitEchoes(ctx context.Context, tenant string, e *echoes) error {
	if t.b.node == nil { // as in tests: nobody else is known
		return nil
	}
	wait, cancel := context.WithTimeout(ctx, echoWait)
	defer cancel()
	for pause := echoFirst; ; pause = min(2*pause, echoPause) {
		if err := t.b.rnc.Publish(echoAskSubject(tenant), []byte(e.token)); err != nil {
			return err
		}
		again := time.After(pause)
		for asked := true; asked; {
			if e.all(t.b.node) {
				return nil
			}
			select {
			case <-e.news:
			case <-again:
				asked = false
			case <-wait.Done():
				if ctx.Err() == nil {
					t.b.log.Debug("not every node is known to reach the topics that are listened to here", "tenant", tenant)
				}
				return ctx.Err()
			}
		}
	}
}

// answerEchoes casts an echo whenever a listener asks for it, on the connection that
// everything is cast on, until that is closed.
func (n *Node) answerEchoes() error {
	_, err := n.b.rnc.Subscribe(echoAskRoot+".*", func(m *nats.Msg) {
		tenant, err := unescape(strings.TrimPrefix(m.Subject, echoAskRoot+"."), subjectEscape)
		if err == nil {
			_ = n.b.nc.Publish(echoSubject(tenant), []byte(string(m.Data)+" "+n.Info().Incarnation)) // else it asks again
		}
	})
	return err
}
