package main

import "testing"

// stored are rows of messages, in the order of the stream.
func stored(device string, counters ...int) (rows []row) {
	for i, n := range counters {
		m := message{n: n}
		rows = append(rows, row{n: n, key: m.key(device), epoch: 1, seq: uint64(i + 1)})
	}
	return rows
}

// said are the messages 1 to n of a device, sent once and acknowledged.
func said(n int) (known []message) {
	for i := range n {
		known = append(known, message{n: i + 1, sends: 1, acked: true, round: 1})
	}
	return known
}

// TestJudge: every kind of broken promise is seen, and counted as what it is.
func TestJudge(t *testing.T) {
	const device = "mqtt0"
	all := []int{1, 2, 3, 4, 5, 6, 7, 8}
	for name, c := range map[string]struct {
		change func(known []message, rows []row) ([]message, []row)
		want   tally
	}{
		"nothing is wrong": {nil, tally{Acked: 8}},
		"lost": {func(k []message, r []row) ([]message, []row) { return k, append(r[:2:2], r[3:]...) },
			tally{Acked: 8, Lost: 1}},
		"never acknowledged, not there": {func(k []message, r []row) ([]message, []row) { k[7].acked = false; return k, r[:7] },
			tally{Acked: 7, Unknown: 1}},
		"never acknowledged, there": {func(k []message, r []row) ([]message, []row) { k[7].acked = false; return k, r },
			tally{Acked: 7, Unknown: 1, Stored: 1}},
		"one place twice": {func(k []message, r []row) ([]message, []row) { r[2].seq = r[1].seq; return k, r },
			tally{Acked: 8, TwicePlaces: 1}},
		"one key twice": {func(k []message, r []row) ([]message, []row) {
			k[2].sends = 2
			again := r[2]
			again.seq = 99
			return k, append(r, again)
		}, tally{Acked: 8, TwiceKeys: 1, Repeated: 1}},
		"no key, sent once, twice there": {func(k []message, r []row) ([]message, []row) {
			again := r[7]
			again.seq = 99
			return k, append(r, again)
		}, tally{Acked: 8, TwicePlaces: 1}},
		"out of order": {func(k []message, r []row) ([]message, []row) { r[2].seq, r[3].seq = r[3].seq, r[2].seq; return k, r },
			tally{Acked: 8, Reordered: 1}},
		"out of order because sent again": {func(k []message, r []row) ([]message, []row) {
			r[2].seq, r[3].seq, k[2].sends = r[3].seq, r[2].seq, 2
			return k, r
		}, tally{Acked: 8, Repeated: 1}},
		"a new epoch": {func(k []message, r []row) ([]message, []row) {
			for i := range r[4:] {
				r[4+i].epoch, r[4+i].seq = 2, uint64(i+1)
			}
			return k, r
		}, tally{Acked: 8}},
		"said by nobody": {func(k []message, r []row) ([]message, []row) { return k, append(r, row{epoch: 1, seq: 99}) },
			tally{Acked: 8, Foreign: 1}},
	} {
		known, rows := said(len(all)), stored(device, all...)
		if c.change != nil {
			known, rows = c.change(known, rows)
		}
		if got := judge(device, known, rows, t.Logf); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// TestPayloads: what comes back can be told from anything else.
func TestPayloads(t *testing.T) {
	seen := map[string]int{}
	for n := 1; n < 500; n++ {
		if old := seen[string(payload(n))]; old != 0 {
			t.Fatalf("%d and %d say the same", old, n)
		}
		seen[string(payload(n))] = n
	}
}
