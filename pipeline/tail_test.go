package pipeline

import (
	"testing"

	"github.com/tributary-iot/tributary/device"
)

func pushed(t *tail, body int, seqs ...uint64) {
	for _, s := range seqs {
		t.push(s, []item{{body: make([]byte, body), message: &device.Message{}}})
	}
}

func taken(t *testing.T, from *tail, next uint64, room int) (seqs []uint64, missed bool) {
	t.Helper()
	run, missed := from.take(make([]entry, 0, room), next)
	for i, e := range run {
		if e.seq != next+uint64(i) {
			t.Fatalf("asked for %d on, got %d at place %d", next, e.seq, i)
		}
		seqs = append(seqs, e.seq)
	}
	return seqs, missed
}

func TestTail(t *testing.T) {
	tests := []struct {
		name   string
		fill   func(*tail)
		next   uint64
		want   int
		missed bool
	}{
		{"empty", func(*tail) {}, 1, 0, false},
		{"what follows is not there yet", func(l *tail) { pushed(l, 1, 1, 2, 3) }, 4, 0, false},
		{"a run", func(l *tail) { pushed(l, 1, 5, 6, 7) }, 5, 3, false},
		{"a run up to a gap", func(l *tail) { pushed(l, 1, 5, 6, 8) }, 5, 2, false},
		{"at a gap", func(l *tail) { pushed(l, 1, 5, 6, 8) }, 7, 0, true},
		{"before it began", func(l *tail) { pushed(l, 1, 5) }, 4, 0, true},
		{"the stream has it, the tail was not told", func(l *tail) { l.saw(9) }, 9, 0, true},
		{"a place taken by a newer one", func(l *tail) { pushed(l, 1, 5, 5+tailMessages) }, 5, 0, true},
		{"no room", func(l *tail) { pushed(l, tailBytes/2, 1, 2) }, 2, 0, true},
		{"room again once older ones were taken", func(l *tail) {
			pushed(l, tailBytes/2, 1)
			l.take(make([]entry, 0, 1), 1)
			pushed(l, tailBytes/2, 2)
		}, 2, 1, false},
		{"another stream's", func(l *tail) { pushed(l, 1, 1, 2, 3); l.reset(true) }, 2, 0, false},
		{"closed", func(l *tail) { l.reset(false); pushed(l, 1, 1) }, 1, 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newTail()
			l.reset(true)
			tt.fill(l)
			got, missed := taken(t, l, tt.next, 100)
			if len(got) != tt.want || missed != tt.missed {
				t.Errorf("took %v, missed %v", got, missed)
			}
		})
	}
}

// TestTailKeepsNothingTaken holds the accounting: a tail that was emptied has
// all its room again.
func TestTailKeepsNothingTaken(t *testing.T) {
	l := newTail()
	l.reset(true)
	for seq := uint64(1); seq <= 3*tailMessages; seq++ {
		pushed(l, 100, seq)
		if got, _ := taken(t, l, seq, 1); len(got) != 1 {
			t.Fatalf("sequence %d is missing", seq)
		}
	}
	if l.bytes != 0 {
		t.Errorf("%d bytes are held by an empty tail", l.bytes)
	}
}
