package pipeline

import "sync"

// maxTopicNotes bounds what is noted between two looks at who holds what.
const maxTopicNotes = 1 << 17

// topicNotes is what this process stored in TOPICS of late, as far as somebody wants
// to know. Like the tail it is a shortcut and nothing depends on it: what is not noted
// is read from the stream.
type topicNotes struct {
	mu     sync.Mutex
	wanted bool
	notes  []topicNote
}

// topicNote is one message.
type topicNote struct {
	seq     uint64
	subject string
	body    int // bytes
}

// open notes what is stored from now on.
func (t *topicNotes) open() { t.reset(true) }

// close notes nothing, and forgets.
func (t *topicNotes) close() { t.reset(false) }

func (t *topicNotes) reset(wanted bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wanted, t.notes = wanted, nil
}

// push notes what was stored from sequence first on; when there are too many notes,
// nothing.
func (t *topicNotes) push(first uint64, items []item) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.wanted {
		return
	}
	for i := range items[:min(len(items), maxTopicNotes-len(t.notes))] {
		t.notes = append(t.notes, topicNote{first + uint64(i), items[i].subject, items[i].length()})
	}
}

// take answers what was noted since it was last called.
func (t *topicNotes) take() []topicNote {
	t.mu.Lock()
	defer t.mu.Unlock()
	taken := t.notes
	t.notes = nil
	return taken
}
