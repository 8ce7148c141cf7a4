package topic

import (
	"strings"

	"github.com/tributary-iot/tributary/device"
)

// reaches says whether a filter takes the tenant's own topics, and telemetry:
// the second level of a topic tells one from the other. What a shared subscription
// takes is brought by its group.
func reaches(filter string) (own, telemetry bool) {
	first, rest, more := strings.Cut(filter, "/")
	switch first {
	case "#":
		return true, true
	case "$share":
		return false, false
	}
	second, _, _ := strings.Cut(rest, "/")
	switch {
	case !more:
		return true, false
	case second == "#" || second == "+":
		return true, true
	}
	return second != "telemetry", second == "telemetry"
}

// wakeReader has somebody read for a member that is behind and can take more.
// The lock is held.
func (m *member) wakeReader() {
	if m.reading || m.gone || m.nextBehind() == 0 {
		return
	}
	m.reading = true
	m.s.background(m.catchUp)
}

// nextBehind is a source in which the member is behind and can go on; 0 for none.
func (m *member) nextBehind() device.Source {
	if m.credit == 0 {
		return 0
	}
	for src := range m.lines {
		if l := &m.lines[src]; l.behind && len(l.queue) == 0 {
			return device.Source(src)
		}
	}
	return 0
}

// catchUp reads for the member until it keeps up or can take no more.
func (m *member) catchUp() {
	for {
		src, filters, after := m.plan()
		if src == 0 {
			return
		}
		select {
		case m.s.readers <- struct{}{}:
		case <-m.ctx.Done():
			m.stopReading()
			return
		}
		mark := m.meet(src)
		whole, err := m.s.log.Read(m.ctx, src, m.tenant.name, filters, after, m.caught)
		<-m.s.readers
		if err != nil && m.ctx.Err() == nil {
			m.s.cfg.Logger.Debug("reading for a session failed", "client", m.in.Key.Client, "error", err)
			pause(m.ctx, m.s.cfg.RetryAfter)
		}
		m.met(src, mark, whole && err == nil)
	}
}

// plan is what to read for the member next; 0 when there is nothing to do.
func (m *member) plan() (src device.Source, filters []string, after uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if src = m.nextBehind(); m.gone || src == 0 {
		m.reading = false
		return 0, nil, 0
	}
	for filter, sub := range m.subs {
		own, telemetry := reaches(filter)
		if sub.QoS > 0 && (src == device.SourceTopics && own || src == device.SourceTelemetry && telemetry) {
			filters = append(filters, filter)
		}
	}
	return src, filters, m.lines[src].cursor
}

func (m *member) stopReading() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reading = false
}

// meet lets what the feed brings from now on wait in the queue, and answers
// where that begins: the feed is not between two messages.
func (m *member) meet(src device.Source) (mark uint64) {
	f := m.s.feeds[src]
	f.mu.Lock()
	defer f.mu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lines[src].joining = true
	return f.pos.Load()
}

// met ends what meet began. When everything before the mark was read, the
// queue goes on from there.
func (m *member) met(src device.Source, mark uint64, whole bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := &m.lines[src]
	kept := l.joining
	l.joining = false
	switch {
	case m.gone:
	case whole && kept:
		l.behind = false
		l.cursor = max(l.cursor, mark)
		m.drain()
	case whole:
		l.cursor = max(l.cursor, mark)
	default:
		l.queue, l.bytes = nil, 0
	}
}

// caught takes one message that was read for the member alone; false when it
// can take no more.
func (m *member) caught(a device.Arrival) bool {
	m.mu.Lock()
	if m.gone || m.credit == 0 {
		m.mu.Unlock()
		return false
	}
	subs := m.taking(a)
	m.mu.Unlock()
	if len(subs) == 0 {
		return true
	}
	p, err := a.Open()
	if err != nil {
		m.s.metrics.unread.Inc()
		return true
	}
	d, ok := m.delivery(m.s.feeds[a.Source].ref(a), p, subs)
	m.mu.Lock()
	defer m.mu.Unlock()
	l := &m.lines[a.Source]
	switch {
	case m.gone || m.credit == 0:
		return false
	case a.Seq <= l.cursor:
		return true
	}
	l.cursor = a.Seq
	if ok && d.Granted > 0 {
		m.credit--
		m.offer(d)
	}
	return true
}

// taking is the member's subscriptions that take a message and want it kept.
// The lock is held.
func (m *member) taking(a device.Arrival) (subs []*subscription) {
	if a.Tenant != m.tenant.name {
		return nil
	}
	for _, sub := range m.subs {
		if sub.QoS > 0 && device.FilterMatches(sub.Filter, a.Topic) {
			subs = append(subs, sub)
		}
	}
	return subs
}
