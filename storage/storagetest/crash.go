package storagetest

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/storage"
)

// The crash test starts this test binary again. The child writes what is a
// function of the sequence alone, and says on its output what was stored; the
// parent kills it, again and again, and at the end counts.

const (
	crashDirEnv  = "STORAGETEST_CRASH_DIR"
	crashDevices = 5
	crashMark    = "stored up to "
)

// crashLast is the newest sequence up to seq of the device that keeps no history:
// every fourteenth.
func crashLast(seq uint64) uint64 { return seq / 14 * 14 }

// crashMessage is the message of a sequence. Of every seventh there is none: it
// was purged from the stream before it could be stored, or is crashLast's.
func crashMessage(seq uint64) *device.Message {
	if seq%7 == 0 {
		return nil
	}
	m := message(fmt.Sprintf("d%d", seq%crashDevices), "", float64(seq), value("v", device.Int(int64(seq))), value("s", device.String(fmt.Sprint(seq%3))))
	if original := crashOriginal(seq); original != 0 {
		m.Key, m.Payload = fmt.Sprint("key ", original), fmt.Append(nil, original)
	}
	return m
}

// crashOriginal is the sequence of the message that seq repeats under its key:
// itself for the first, 0 for one without a key.
func crashOriginal(seq uint64) uint64 {
	const back = 9 * crashDevices // an odd multiple of 9, of the same device
	switch {
	case seq%18 == 9:
		return seq
	case seq%18 == 0 && seq > back:
		return seq - back
	}
	return 0
}

// crashKept says whether the message of a sequence is one to be stored.
func crashKept(seq uint64) bool {
	original := crashOriginal(seq)
	return crashMessage(seq) != nil && (original == 0 || original == seq || crashMessage(original) == nil)
}

// crashChild writes until it is killed.
func crashChild(t *testing.T, st storage.Store) {
	pos, err := st.Position(t.Context(), telemetry)
	if err != nil {
		t.Fatal(err)
	}
	pos.Epoch = 1
	if pos.Seq > 0 { // what was stored is redelivered, and refused
		if err := st.Write(t.Context(), crashBatch(pos.Seq-1, pos.Seq)); err == nil {
			t.Fatal("a batch was stored twice")
		}
	}
	fmt.Printf("%s%d\n", crashMark, pos.Seq)
	for {
		to := pos.Seq + 1 + rand.Uint64N(60)
		if err := st.Write(t.Context(), crashBatch(pos.Seq, to)); err != nil {
			t.Fatal(err)
		}
		pos.Seq = to
		fmt.Printf("%s%d\n", crashMark, to)
	}
}

func crashBatch(from, to uint64) storage.Batch {
	b := storage.Batch{Stream: telemetry, Epoch: 1, From: from, To: to}
	for seq := from + 1; seq <= to; seq++ {
		if m := crashMessage(seq); m != nil {
			b.Messages = append(b.Messages, stored(seq, m, m.ReceivedAt))
		} else if crashLast(seq) == seq {
			m := message("last", "", float64(seq), value("v", device.Int(int64(seq))))
			one := stored(seq, m, m.ReceivedAt)
			one.Last = true
			b.Messages = append(b.Messages, one)
		}
	}
	return b
}

func testCrash(t *testing.T, open Open) {
	kills := 20
	if testing.Short() {
		kills = 5
	}
	dir, acked := t.TempDir(), uint64(0)
	for range kills {
		acked = crashOnce(t, dir, acked)
	}
	t.Logf("%d kills, stored up to %d", kills, acked)
	r := &rig{t: t, open: open, dir: dir, st: open(t, dir)}
	t.Cleanup(func() { r.st.Close() })
	r.both(func() { r.countAfterCrash(acked) })
}

// crashOnce starts a child, lets it work for a moment and kills it. It answers
// the last sequence the child said was stored.
func crashOnce(t *testing.T, dir string, acked uint64) uint64 {
	t.Helper()
	root, _, _ := strings.Cut(t.Name(), "/")
	child := exec.Command(os.Args[0], "-test.run=^"+root+"$", "-test.v=false")
	child.Env = append(os.Environ(), crashDirEnv+"="+dir)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var kill *time.Timer
	defer func() { child.Process.Kill(); child.Wait() }()
	last, said := acked, ""
	for lines := bufio.NewReader(out); ; {
		line, err := lines.ReadString('\n')
		if err != nil { // killed; the rest of a line means nothing
			break
		}
		said = strings.TrimSpace(line)
		var seq uint64
		if n, _ := fmt.Sscanf(said, crashMark+"%d", &seq); n != 1 {
			t.Fatalf("the child says %q", said)
		}
		if kill == nil {
			if seq < acked {
				t.Fatalf("the store starts at %d, it had stored up to %d", seq, acked)
			}
			kill = time.AfterFunc(time.Duration(rand.IntN(150))*time.Millisecond, func() { child.Process.Kill() })
		}
		last = seq
	}
	if kill == nil {
		t.Fatalf("the child wrote nothing; it said %q", said)
	}
	return last
}

// countAfterCrash looks at every message and every point.
func (r *rig) countAfterCrash(acked uint64) {
	r.t.Helper()
	pos, err := r.st.Position(r.t.Context(), telemetry)
	r.must(err)
	if pos.Seq < acked {
		r.t.Fatalf("the position is %d, stored was up to %d", pos.Seq, acked)
	}
	same(r.t, "the last message", r.seqs(all("last")), []uint64{crashLast(pos.Seq)})
	same(r.t, "its point", r.points(storage.PointQuery{Device: "last", Name: "v"}),
		[]storage.Point{{Time: after(float64(crashLast(pos.Seq))), Value: device.Int(int64(crashLast(pos.Seq)))}})
	seen := map[uint64]int{}
	for d := range crashDevices {
		q := storage.MessageQuery{Tenant: "t", Device: fmt.Sprintf("d%d", d), Limit: 10_000}
		n := 0
		for {
			page, err := r.st.Messages(r.t.Context(), q)
			r.must(err)
			for _, m := range page.Messages {
				seen[m.Position.Seq]++
				n++
			}
			if q.Cursor = page.Next; q.Cursor == "" {
				break
			}
		}
		for _, name := range []string{"v", "s"} {
			same(r.t, "points of "+name+" of "+q.Device, r.countPoints(q.Device, name), n)
		}
	}
	for seq := uint64(1); seq <= pos.Seq; seq++ {
		want := 1
		if !crashKept(seq) {
			want = 0
		}
		if seen[seq] != want {
			r.t.Fatalf("message %d of %d is stored %d times", seq, pos.Seq, seen[seq])
		}
		delete(seen, seq)
	}
	same(r.t, "messages past the position", seen, map[uint64]int{})
}

// countPoints counts in windows, since one answer is bounded.
func (r *rig) countPoints(dev, name string) (n int) {
	r.t.Helper()
	until := time.Time{}
	for {
		got := r.points(storage.PointQuery{Device: dev, Name: name, Until: until, Limit: 100_000})
		n += len(got)
		if len(got) < 100_000 {
			return n
		}
		until = got[0].Time
	}
}
