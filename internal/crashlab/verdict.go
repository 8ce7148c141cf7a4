package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// tally is a verdict in numbers.
type tally struct {
	Acked       int // messages acknowledged to a device
	Lost        int // of them, not what Query answers
	TwicePlaces int // places in the stream that are stored more than once, and keyless messages that are
	TwiceKeys   int // keyed messages stored more than once
	Reordered   int // messages sent and acknowledged once, stored before an older one of their device
	Foreign     int // stored, and no device said that
	Unknown     int // sent and never acknowledged
	Stored      int // of the unknown, those that are there
	Repeated    int // messages that were sent more than once
	Stuck       int // rounds in which the server did not come back by itself

	Starts  int           // of the server
	Slowest time.Duration // from the end of a fault until it acknowledged again
}

func (t *tally) add(o tally) {
	t.Acked += o.Acked
	t.Lost += o.Lost
	t.TwicePlaces += o.TwicePlaces
	t.TwiceKeys += o.TwiceKeys
	t.Reordered += o.Reordered
	t.Foreign += o.Foreign
	t.Unknown += o.Unknown
	t.Stored += o.Stored
	t.Repeated += o.Repeated
	t.Stuck += o.Stuck
	t.Starts += o.Starts
	t.Slowest = max(t.Slowest, o.Slowest)
}

// broken is how many violations there are, without those of Lost.
func (t *tally) broken() int {
	return t.TwicePlaces + t.TwiceKeys + t.Reordered + t.Foreign + t.Stuck
}

// more is what is good to know beside the verdict.
func (t *tally) more() string {
	return fmt.Sprintf("%d sent more than once, %d of the unknown are stored, %d starts of the server, slowest return %s",
		t.Repeated, t.Stored, t.Starts, t.Slowest.Round(time.Millisecond))
}

func (t tally) String() string {
	text := fmt.Sprintf("acked %d, lost %d, duplicated %d (position), duplicated %d (key), reordered %d, unknown %d", t.Acked, t.Lost, t.TwicePlaces, t.TwiceKeys, t.Reordered, t.Unknown)
	if t.Foreign > 0 {
		text += fmt.Sprintf(", foreign %d", t.Foreign)
	}
	if t.Stuck > 0 {
		text += fmt.Sprintf(", stuck %d", t.Stuck)
	}
	return text
}

// missing are the acknowledged messages that rows do not hold.
func missing(known []message, rows []row) (list []message) {
	there := map[int]bool{}
	for _, r := range rows {
		there[r.n] = true
	}
	for _, m := range known {
		if m.acked && !there[m.n] {
			list = append(list, m)
		}
	}
	return list
}

// judge holds everything stored of a device to what the device knows.
func judge(name string, known []message, rows []row, say func(string, ...any)) (t tally) {
	copies, places := map[int]int{}, map[[2]uint64]int{}
	for _, r := range rows {
		places[[2]uint64{r.epoch, r.seq}]++
		if copies[r.n]++; r.n == 0 || r.n > len(known) {
			t.Foreign++
			say("%s: a message is stored that it did not send, at %d/%d with key %q", name, r.epoch, r.seq, r.key)
		}
	}
	for place, n := range places {
		if n > 1 {
			t.TwicePlaces += n - 1
			say("%s: position %v is stored %d times", name, place, n)
		}
	}
	for _, m := range missing(known, rows) {
		t.Lost++
		say("%s: message %d is lost; it was acknowledged in round %d, sent %d times", name, m.n, m.round, m.sends)
	}
	for _, m := range known {
		t.count(&m, copies[m.n], name, say)
	}
	t.Reordered = reordered(name, known, rows, say)
	return t
}

func (t *tally) count(m *message, copies int, name string, say func(string, ...any)) {
	switch {
	case copies > 1 && m.keyed():
		t.TwiceKeys += copies - 1
		say("%s: message %d is stored %d times under its key; it was sent %d times", name, m.n, copies, m.sends)
	case copies > 1:
		t.TwicePlaces += copies - 1
		say("%s: message %d has no key, was sent once and is stored %d times", name, m.n, copies)
	}
	if m.sends > 1 {
		t.Repeated++
	}
	if m.acked {
		t.Acked++
		return
	}
	t.Unknown++
	if copies > 0 {
		t.Stored++
	}
}

// reordered looks at the messages that were sent once and acknowledged: they
// must stand in the stream in the order in which the device counted. What was
// sent again may be stored behind what came after its first try.
func reordered(name string, known []message, rows []row, say func(string, ...any)) (n int) {
	slices.SortFunc(rows, func(a, b row) int { return cmp.Or(cmp.Compare(a.epoch, b.epoch), cmp.Compare(a.seq, b.seq)) })
	last := 0
	for _, r := range rows {
		if r.n == 0 || r.n > len(known) || known[r.n-1].sends != 1 || !known[r.n-1].acked {
			continue
		}
		if r.n < last {
			n++
			say("%s: message %d is stored behind %d", name, r.n, last)
		}
		last = max(last, r.n)
	}
	return n
}
