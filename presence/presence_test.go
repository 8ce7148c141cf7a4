package presence_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/presence"
)

// log keeps in memory what is told.
type log struct {
	mu     sync.Mutex
	events []device.PresenceEvent
	list   []string // clients of what was to be on the list, when it was looked after first
}

func (l *log) Write(_ context.Context, events []device.PresenceEvent) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, events...)
	return nil
}

func (l *log) Restore(_ context.Context, open func() []device.PresenceEvent) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.list == nil {
		for _, e := range open() {
			l.list = append(l.list, e.Client)
		}
	}
	return nil
}

// house is a presence room, and the reasons it gave when it ended sessions.
type house struct {
	t *testing.T
	*presence.Service
	log   log
	mu    sync.Mutex
	ended map[string]device.Leaving // by the name a session was entered under
}

func open(t *testing.T) *house {
	t.Helper()
	h := &house{t: t, ended: map[string]device.Leaving{}}
	var err error
	if h.Service, err = presence.New(presence.Config{Node: "here"}, &h.log); err != nil {
		t.Fatal(err)
	}
	return h
}

func session(name, client string) device.Session {
	return device.Session{Device: device.ID{Tenant: "default", Device: name}, Protocol: device.MQTT, Client: client}
}

// enter enters a session; as names it in ended.
func (h *house) enter(as string, who device.Session) *presence.Stay {
	h.t.Helper()
	stay, err := h.Connect(who, func(why device.Leaving) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.ended[as] != "" {
			h.t.Errorf("%s is ended twice", as)
		}
		h.ended[as] = why
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return stay
}

// here checks how many sessions are open, and who was ended for what so far.
func (h *house) here(open int, ended map[string]device.Leaving) {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if got := len(h.Open()); got != open || h.Here() > open || (h.Here() == 0) != (open == 0) || fmt.Sprint(h.ended) != fmt.Sprint(ended) {
		h.t.Errorf("%d sessions are open and ended are %v, want %d and %v", got, h.ended, open, ended)
	}
}

// told ends the house and answers what it told: each event as client, and why it left.
func (h *house) told() (all []string) {
	h.t.Helper()
	if err := errors.Join(h.Shutdown(h.t.Context()), h.Run(h.t.Context())); err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.Connect(session("late", ""), nil); device.CodeOf(err) != device.Unavailable {
		h.t.Errorf("a session after Shutdown: %v", err)
	}
	for _, e := range h.log.events {
		if e.Node != "here" || e.ID == "" || e.Since.IsZero() || e.At.Before(e.Since) || e.Connected != (e.Reason == "") {
			h.t.Errorf("told of %+v", e)
		}
		all = append(all, e.Device.Device+"/"+e.Client+" "+string(e.Reason))
	}
	return all
}

// TestSessionsOfOneName: a session may be open several times, leave in any order, and
// leaves once.
func TestSessionsOfOneName(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 2, 0}, {1, 0, 2}} {
		h := open(t)
		var stays []*presence.Stay
		for i := range 3 {
			stays = append(stays, h.enter(fmt.Sprint(i), session("dev1", "c")))
		}
		for n, i := range order {
			h.here(3-n, nil)
			stays[i].Leave(device.LeftClosed)
			stays[i].Leave(device.LeftLost)
			h.here(2-n, nil)
		}
		if ids := h.told(); len(ids) != 6 || ids[5] != "dev1/c closed" {
			t.Errorf("told: %q", ids)
		}
	}
}

// TestTheHouseEndsSessions: each once, and its reason counts before the door's.
func TestTheHouseEndsSessions(t *testing.T) {
	h := open(t)
	first, second := h.enter("first", session("dev1", "a")), h.enter("second", session("dev1", "b"))
	other := h.enter("other", session("dev2", "a"))
	first.End(device.LeftDisabled)
	h.End(device.ID{Tenant: "default", Device: "dev1"}, device.LeftDrain)
	want := map[string]device.Leaving{"first": device.LeftDisabled, "second": device.LeftDrain}
	h.here(3, want)
	first.Leave(device.LeftLost)
	second.Leave(device.LeftLost)
	second.End(device.LeftTakenOver) // it has left
	h.here(1, want)
	h.EndAll(device.LeftNodeLost)
	want["other"] = device.LeftNodeLost
	h.here(1, want)
	other.Leave(device.LeftClosed)
	if told := h.told(); !slices.Equal(told, []string{"dev1/a ", "dev1/b ", "dev2/a ", "dev1/a disabled", "dev1/b drain", "dev2/a node-lost"}) {
		t.Errorf("told: %q", told)
	}
}

// TestTakenOverElsewhere: what another node entered after ours ends ours, and only
// once ours came back on the list.
func TestTakenOverElsewhere(t *testing.T) {
	h := open(t)
	who := session("dev1", "c")
	h.enter("old", who)
	ours := h.Open()[0]
	theirs := device.PresenceEvent{Session: who, ID: "01J00000000000000000000000", Node: "there", Connected: true}
	h.Heard(theirs, true)
	h.here(1, nil)
	h.Heard(ours, false)
	h.here(1, nil)
	h.enter("new", who)
	h.Heard(theirs, true)
	h.here(2, map[string]device.Leaving{"old": device.LeftTakenOver})
	h.Moved(session("dev1", "another"), time.Now())
	h.here(2, map[string]device.Leaving{"old": device.LeftTakenOver})
	h.Moved(who, time.Unix(0, ours.Since.UnixNano())) // "new" began after the one that lost its lease was attached
	h.here(2, map[string]device.Leaving{"old": device.LeftTakenOver})
	h.Moved(who, time.Now())
	h.here(2, map[string]device.Leaving{"old": device.LeftTakenOver, "new": device.LeftTakenOver})
}

// TestAttached: a device behind a gateway is shown, one that is here itself is not
// shown twice, and nobody in particular not at all.
func TestAttached(t *testing.T) {
	h := open(t)
	own := session("dev1", "c")
	h.enter("own", own)
	behind := session("dev2", "c")
	behind.Via = "gateway"
	if h.Attached(own) != nil {
		t.Error("a device that is here itself is shown twice")
	}
	shown := h.Attached(behind)
	h.here(2, nil)
	shown.Leave(device.LeftClosed)
	h.here(1, nil)
	nobody := h.enter("nobody", session("", "c"))
	nobody.End(device.LeftDrain)
	nobody.Leave(device.LeftClosed)
	h.here(1, nil)
}

// TestSessionsByPages: each open session is on one page, in the order they were entered,
// whoever comes and goes meanwhile; and those of one device are found among them.
func TestSessionsByPages(t *testing.T) {
	const many = 3000
	h := open(t)
	var stays []*presence.Stay
	for i := range many {
		stays = append(stays, h.enter("", session(fmt.Sprintf("dev%d", i%100), fmt.Sprint(i))))
	}
	elsewhere := session("dev0", "elsewhere")
	elsewhere.Device.Tenant = "another"
	h.enter("", elsewhere)
	leave := func(from, to int) {
		for _, stay := range stays[from:to] {
			stay.Leave(device.LeftClosed)
		}
	}
	leave(0, 10)
	var found []string
	for after, more := uint64(0), true; more; {
		all, next := h.Sessions("default", "", after, 7)
		if more = next != 0; more && len(all) != 7 {
			t.Fatalf("a page of %d", len(all))
		}
		for _, e := range all {
			if !e.Connected || e.Node != "here" || e.ID == "" {
				t.Fatalf("told of %+v", e)
			}
			found = append(found, e.Client)
		}
		if after = next; len(found) == 700 {
			leave(0, 2500) // most of what was there is taken out
		}
		if len(found) == 1050 {
			h.enter("", session("new", "new"))
		}
	}
	var want []string
	for i := 10; i < many; i++ {
		if i < 710 || i >= 2500 {
			want = append(want, fmt.Sprint(i))
		}
	}
	if want = append(want, "new"); !slices.Equal(found, want) {
		t.Errorf("found %d sessions, want %d", len(found), len(want))
	}
	if all, next := h.Sessions("default", "dev7", 0, 5); len(all) != 5 || next == 0 || all[0].Client != "2507" {
		t.Errorf("of one device %d sessions, the next page after %d", len(all), next)
	}
	if all, next := h.Sessions("default", "dev0", 0, 5); len(all) != 5 || all[4].Client != "2900" || next == 0 {
		t.Errorf("of one device %d sessions, the next page after %d", len(all), next)
	}
	if all, next := h.Sessions("nobody", "", 0, 5); len(all) != 0 || next != 0 {
		t.Errorf("of nobody %d sessions, the next page after %d", len(all), next)
	}
}

// TestAnEndThatIsNotToldStaysOnTheList: the list is written anew with those that are open
// and those whose end nobody has been told of.
func TestAnEndThatIsNotToldStaysOnTheList(t *testing.T) {
	h := open(t)
	h.enter("", session("dev1", "stays"))
	h.enter("", session("dev2", "leaves")).Leave(device.LeftLost)
	h.told()
	if !slices.Equal(h.log.list, []string{"stays", "leaves"}) {
		t.Errorf("on the list are %q", h.log.list)
	}
}

// lostLog loses the list: nothing is written until it was looked after.
type lostLog struct {
	log
	lost  atomic.Bool
	looks atomic.Int64
}

func (l *lostLog) Write(ctx context.Context, events []device.PresenceEvent) error {
	if l.lost.Load() {
		return errors.New("there is no list")
	}
	return l.log.Write(ctx, events)
}

func (l *lostLog) Restore(ctx context.Context, open func() []device.PresenceEvent) error {
	l.looks.Add(1)
	if l.lost.Swap(false) {
		l.list = nil // as it was never looked after
	}
	return l.log.Restore(ctx, open)
}

// TestTheListIsLookedAfter where something happens all the time, and at once where it
// is lost: what is being written waits for it. Whose end is being written is on it.
func TestTheListIsLookedAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lostLog{}
		s, err := presence.New(presence.Config{Node: "here"}, l)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- s.Run(ctx) }()
		for i := range 1000 { // 20 s
			stay, err := s.Connect(session("d", fmt.Sprint(i)), func(device.Leaving) {})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
			stay.Leave(device.LeftClosed)
		}
		if n := l.looks.Load(); n < 9 || n > 12 {
			t.Errorf("in 20 s of comings and goings the list was looked after %d times; every 2 s it is to be", n)
		}
		staying, err := s.Connect(session("d", "staying"), func(device.Leaving) {})
		if err != nil {
			t.Fatal(err)
		}
		leaving, err := s.Connect(session("e", "leaving"), func(device.Leaving) {})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		l.lost.Store(true)
		leaving.Leave(device.LeftClosed)
		time.Sleep(time.Second)
		l.mu.Lock()
		last := l.events[len(l.events)-1]
		list := slices.Clone(l.list)
		l.mu.Unlock()
		if last.Client != "leaving" || last.Connected || l.lost.Load() {
			t.Errorf("a second after the list was lost the last that is told is %+v", last)
		}
		if slices.Sort(list); !slices.Equal(list, []string{"leaving", "staying"}) {
			t.Errorf("the list made anew has %q", list)
		}
		staying.Leave(device.LeftClosed)
		cancel()
		<-ran
	})
}
