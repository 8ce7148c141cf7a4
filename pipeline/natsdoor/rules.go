package natsdoor

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// What a consumer may ask for. Beyond it the answer is an error that says so,
// never a silent change.
const (
	maxAckPending  = 5000
	maxOpenPulls   = 64   // of one consumer
	maxPull        = 1000 // messages of one pull
	maxPullBytes   = 16 << 20
	maxPullExpires = 5 * time.Minute
	maxFilters     = 16
	maxFilterBytes = 1500
	maxBackOff     = 16
	maxAckWait     = time.Hour
	defaultIdle    = time.Minute
	maxAwayLimit   = 7 * 24 * time.Hour
)

var goodName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// admit checks what a reader wants and answers the consumer it gets: written
// anew from the fields we know, so that a field of a later release does nothing.
func (c *Config) admit(want *jetstream.ConsumerConfig) (jetstream.ConsumerConfig, error) {
	if err := c.refuse(want); err != nil {
		return jetstream.ConsumerConfig{}, err
	}
	idle, limit := min(defaultIdle, c.MaxIdle), c.MaxIdle
	if want.Durable != "" {
		idle, limit = c.MaxAway, max(c.MaxAway, maxAwayLimit)
	}
	if want.InactiveThreshold > limit {
		return jetstream.ConsumerConfig{}, fmt.Errorf("inactive_threshold is at most %s", limit)
	}
	return jetstream.ConsumerConfig{
		Name: cmp.Or(want.Durable, want.Name), Durable: want.Durable,
		DeliverPolicy: want.DeliverPolicy, OptStartSeq: want.OptStartSeq, OptStartTime: want.OptStartTime,
		AckPolicy: want.AckPolicy, AckWait: want.AckWait, MaxDeliver: want.MaxDeliver, BackOff: want.BackOff,
		FilterSubject: want.FilterSubject, FilterSubjects: want.FilterSubjects,
		ReplayPolicy: want.ReplayPolicy, HeadersOnly: want.HeadersOnly, MaxAckPending: want.MaxAckPending,
		MaxWaiting: cmp.Or(want.MaxWaiting, maxOpenPulls), MaxRequestBatch: cmp.Or(want.MaxRequestBatch, maxPull),
		MaxRequestExpires:  cmp.Or(want.MaxRequestExpires, maxPullExpires),
		MaxRequestMaxBytes: cmp.Or(want.MaxRequestMaxBytes, maxPullBytes),
		InactiveThreshold:  cmp.Or(max(want.InactiveThreshold, 0), idle),
		// One that need not outlive the server costs no disk.
		MemoryStorage: want.MemoryStorage || want.Durable == "", Replicas: 1,
		Metadata: map[string]string{readerMark: "1"},
	}, nil
}

func (c *Config) refuse(want *jetstream.ConsumerConfig) error {
	switch {
	case want.DeliverSubject != "" || want.DeliverGroup != "" || want.FlowControl || want.IdleHeartbeat != 0:
		return fmt.Errorf("push consumers are not offered; use a pull or an ordered consumer")
	case want.Durable != "" && want.Name != "" && want.Name != want.Durable:
		return fmt.Errorf("name and durable_name differ")
	case !goodName.MatchString(cmp.Or(want.Durable, want.Name)):
		return fmt.Errorf("the name of a consumer is 1 to 64 letters, digits, - or _")
	case want.DeliverPolicy == jetstream.DeliverLastPerSubjectPolicy:
		return fmt.Errorf("deliver policy last_per_subject is not offered; ask the query API for the newest of each device")
	case want.AckPolicy == jetstream.AckFlowControlPolicy || want.PauseUntil != nil || want.RateLimit != 0 || want.SampleFrequency != "":
		return fmt.Errorf("ack_policy flow_control, pause_until, rate_limit_bps and sample_freq are not offered")
	case want.PriorityPolicy != jetstream.PriorityPolicyNone || len(want.PriorityGroups) != 0 || want.PinnedTTL != 0:
		return fmt.Errorf("priority groups are not offered")
	case len(want.Description) > 0:
		return fmt.Errorf("description is not offered; the name says what it is for")
	case want.Replicas > 1:
		return fmt.Errorf("num_replicas is at most 1")
	}
	if err := bounds(want); err != nil {
		return err
	}
	for key := range want.Metadata {
		if key != readerMark && !strings.HasPrefix(key, "_nats.") {
			return fmt.Errorf("metadata is not offered")
		}
	}
	return c.filters(want)
}

func bounds(want *jetstream.ConsumerConfig) error {
	switch {
	case want.MaxAckPending < 0 || want.MaxAckPending > maxAckPending:
		return fmt.Errorf("max_ack_pending is at most %d", maxAckPending)
	case want.MaxWaiting < 0 || want.MaxWaiting > maxOpenPulls:
		return fmt.Errorf("max_waiting is at most %d", maxOpenPulls)
	case want.MaxRequestBatch < 0 || want.MaxRequestBatch > maxPull:
		return fmt.Errorf("max_batch is at most %d", maxPull)
	case want.MaxRequestExpires < 0 || want.MaxRequestExpires > maxPullExpires:
		return fmt.Errorf("max_expires is at most %s", maxPullExpires)
	case want.MaxRequestMaxBytes < 0 || want.MaxRequestMaxBytes > maxPullBytes:
		return fmt.Errorf("max_bytes is at most %d", maxPullBytes)
	case want.AckWait < 0 || want.AckWait > maxAckWait:
		return fmt.Errorf("ack_wait is at most %s", maxAckWait)
	case len(want.BackOff) > maxBackOff:
		return fmt.Errorf("backoff has at most %d steps", maxBackOff)
	}
	return nil
}

func (c *Config) filters(want *jetstream.ConsumerConfig) error {
	all := want.FilterSubjects
	if want.FilterSubject != "" {
		all = append([]string{want.FilterSubject}, all...)
	}
	if len(all) > maxFilters {
		return fmt.Errorf("a consumer has at most %d filters", maxFilters)
	}
	for _, f := range all {
		if len(f) > maxFilterBytes || f != ">" && !strings.HasPrefix(f, c.Root+".") || strings.ContainsAny(f, " \t\r\n") {
			return fmt.Errorf("filter %.80q is not within %s.>", f, c.Root)
		}
	}
	return nil
}
