package pipeline

// holdings is how much of a bounded stream each tenant holds, and how old it is.
type holdings struct {
	next  uint64 // sequence from which nothing was counted yet
	grain int64  // how exactly
	least int64  // what a message counts, however small it is
	of    map[string]*holding
}

// holding is one tenant's, the oldest first.
type holding struct {
	parts []part
	bytes int64
}

// part is some messages of a tenant: those after the part before it, to last.
type part struct {
	last  uint64
	bytes int64
}

// eviction says that the messages of a tenant up to a sequence are to go.
type eviction struct {
	tenant  string
	through uint64
}

// add counts a message.
func (h *holdings) add(tenant string, seq uint64, bytes int64) {
	h.next = seq + 1
	bytes = max(bytes, h.least)
	t := h.of[tenant]
	if t == nil {
		t = &holding{}
		h.of[tenant] = t
	}
	t.bytes += bytes
	if n := len(t.parts); n > 0 && t.parts[n-1].bytes+bytes <= h.grain {
		t.parts[n-1].bytes += bytes
		t.parts[n-1].last = seq
		return
	}
	t.parts = append(t.parts, part{seq, bytes})
}

// follow counts what was noted of the messages that come next, and answers the notes
// from the first gap on.
func (h *holdings) follow(notes []topicNote) (rest []topicNote) {
	for i, n := range notes {
		switch {
		case n.seq > h.next:
			return notes[i:]
		case n.seq == h.next:
			h.add(topicTenant(n.subject), n.seq, topicSize(n.subject, n.body))
		}
	}
	return nil
}

// forget leaves out what the stream has dropped by itself: it begins with first.
func (h *holdings) forget(first uint64) {
	for tenant, t := range h.of {
		for len(t.parts) > 0 && t.parts[0].last < first {
			t.drop()
		}
		if len(t.parts) == 0 {
			delete(h.of, tenant)
		}
	}
}

func (t *holding) drop() {
	t.bytes -= t.parts[0].bytes
	t.parts = t.parts[1:]
}

// evict says what has to go, and counts it no more, for a stream that holds used
// bytes to hold no more than most: always of the tenant that holds most by then.
func (h *holdings) evict(used, most int64) (all []eviction) {
	through := map[string]uint64{}
	for used > most && len(h.of) > 1 {
		var name string
		var hog *holding
		for tenant, t := range h.of {
			if hog == nil || t.bytes > hog.bytes {
				name, hog = tenant, t
			}
		}
		used -= hog.parts[0].bytes
		through[name] = hog.parts[0].last
		if hog.drop(); len(hog.parts) == 0 {
			delete(h.of, name)
		}
	}
	for tenant, last := range through {
		all = append(all, eviction{tenant, last})
	}
	return all
}
