package pipeline

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"
)

// The server's numbers for what a publisher has to tell apart.
const (
	codeWrongLastSequence         = 10071
	codeWrongLastSequenceConstant = 10164
	codeBatchIncomplete           = 10176
	codeBatchDuplicate            = 10201
	codeMessageTooLarge           = 10054
	codeNotStored                 = 10077 // among others: a stream has as many messages as it may
	codeAccountFull               = 10002
	codeServerFull                = 10023
	codeStorageFull               = 10047
)

// reply is the server's answer to a publish or a commit.
type reply struct {
	seq       uint64
	duplicate bool
	code      int    // 0: stored
	text      string // of the code
}

func (r *reply) err() error { return fmt.Errorf("NATS error %d: %s", r.code, r.text) }

// errNoStream is an answer of the NATS server itself: no stream took the
// message, so it is known not to be stored, now.
var errNoStream = errors.New("no stream took the message: JetStream is not available")

// inbox receives the replies of one publisher on one subscription. Each group
// sent has a number, and each reply it waits for an index.
type inbox struct {
	prefix string
	sub    *nats.Subscription
	next   atomic.Uint64
	mu     sync.Mutex
	groups map[uint64]func(index int, r reply)
}

func openInbox(nc *nats.Conn) (*inbox, error) {
	in := &inbox{prefix: nc.NewInbox() + ".", groups: map[uint64]func(int, reply){}}
	sub, err := nc.Subscribe(in.prefix+"*.*", in.receive)
	if err != nil {
		return nil, err
	}
	in.sub = sub
	return in, sub.SetPendingLimits(-1, -1)
}

// expect registers a group; forget must follow.
func (in *inbox) expect(on func(index int, r reply)) (number uint64) {
	number = in.next.Add(1)
	in.mu.Lock()
	in.groups[number] = on
	in.mu.Unlock()
	return number
}

func (in *inbox) forget(number uint64) {
	in.mu.Lock()
	delete(in.groups, number)
	in.mu.Unlock()
}

// subject is where the reply of one index of a group is to go.
func (in *inbox) subject(number uint64, index int) string {
	b := make([]byte, 0, len(in.prefix)+16)
	b = strconv.AppendUint(append(b, in.prefix...), number, 10)
	return string(strconv.AppendInt(append(b, '.'), int64(index), 10))
}

func (in *inbox) receive(m *nats.Msg) {
	group, index, _ := strings.Cut(m.Subject[len(in.prefix):], ".")
	number, err1 := strconv.ParseUint(group, 10, 64)
	i, err2 := strconv.Atoi(index)
	if err1 != nil || err2 != nil {
		return
	}
	in.mu.Lock()
	on := in.groups[number]
	in.mu.Unlock()
	if on == nil {
		return // answered after we gave up; the retry learns the same
	}
	on(i, parseReply(m))
}

func (in *inbox) close() { _ = in.sub.Unsubscribe() }

// noStreamCode stands for errNoStream in a reply.
const noStreamCode = -1

func parseReply(m *nats.Msg) (r reply) {
	if len(m.Data) == 0 {
		return reply{code: noStreamCode, text: errNoStream.Error()}
	}
	if seq, ok := parseStored(m.Data); ok {
		return reply{seq: seq}
	}
	var full struct {
		Seq       uint64 `json:"seq"`
		Duplicate bool   `json:"duplicate"`
		Error     *struct {
			Code        int    `json:"code"`
			ErrCode     int    `json:"err_code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &full); err != nil {
		return reply{code: noStreamCode, text: "reply that is no JSON: " + err.Error()}
	}
	if e := full.Error; e != nil {
		return reply{code: max(e.ErrCode, e.Code, 1), text: e.Description}
	}
	return reply{seq: full.Seq, duplicate: full.Duplicate}
}

// parseStored reads the usual reply, {"stream":"NAME","seq":123}, without the
// cost of a JSON decoder; ok is false for any other.
func parseStored(data []byte) (seq uint64, ok bool) {
	const mark = `","seq":`
	at := bytes.Index(data, []byte(mark))
	if at < 0 || !bytes.HasPrefix(data, []byte(`{"stream":"`)) {
		return 0, false
	}
	digits, end := data[at+len(mark):], 0
	for end < len(digits) && '0' <= digits[end] && digits[end] <= '9' {
		seq = seq*10 + uint64(digits[end]-'0')
		end++
	}
	return seq, end > 0 && end < 20 && string(digits[end:]) == "}"
}
