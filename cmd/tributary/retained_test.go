package main

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	pahov3 "github.com/eclipse/paho.mqtt.golang"
)

// numbers is what a client received on each topic, in order.
type numbers struct {
	mu      sync.Mutex
	byTopic map[string][]int
}

func (n *numbers) add(_ pahov3.Client, m pahov3.Message) {
	x, err := strconv.Atoi(string(m.Payload()))
	if err != nil {
		x = -1
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.byTopic == nil {
		n.byTopic = map[string][]int{}
	}
	n.byTopic[m.Topic()] = append(n.byTopic[m.Topic()], x)
}

func (n *numbers) of(topic string) []int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]int(nil), n.byTopic[topic]...)
}

func pahoOn(t *testing.T, s *server, name string, each pahov3.MessageHandler) pahov3.Client {
	t.Helper()
	o := pahov3.NewClientOptions().AddBroker("tcp://" + s.addresses["mqtt"]).SetClientID(name).SetAutoReconnect(false).SetDefaultPublishHandler(each)
	c := pahov3.NewClient(o)
	done(t, c.Connect())
	t.Cleanup(func() { c.Disconnect(0) })
	return c
}

// TestRetainedWhileSubscribing: who subscribes while retained messages are published,
// on this node or another, gets what was retained then, or what came next, and from
// there on each message once and in order (MQTT 5, 3.3.1.3 and 3.8.3.1). Telemetry
// that is retained as well is no different.
func TestRetainedWhileSubscribing(t *testing.T) {
	t.Parallel()
	c := openCluster(t)
	for i, nodes := range [][2]*server{{c.a, c.a}, {c.a, c.b}, {c.b, c.a}} {
		t.Run([]string{"one node", "to the other", "and back"}[i], func(t *testing.T) {
			t.Parallel()
			var got numbers
			pub, sub := pahoOn(t, nodes[0], fmt.Sprint("pub", i), nil), pahoOn(t, nodes[1], fmt.Sprint("sub", i), got.add)
			var all []race
			for n := range sized(t, "TRIBUTARY_RETAINED_RACES", 60) {
				r := race{topic: fmt.Sprintf("dev%d/%s/%d", i, [2]string{"state", "telemetry"}[n/3%2], n)}
				r.filter = r.topic + [2]string{"", "/#"}[n%2]
				r.run(t, pub, sub, byte(n%3), 1+n%(raced-1))
				eventually(t, "the last message on "+r.topic, func() bool { return slices.Contains(got.of(r.topic), raced) })
				if all = append(all, r); n >= 100 { // a session has so many subscriptions and no more
					done(t, sub.Unsubscribe(all[n-100].filter))
				}
			}
			for _, r := range all { // what came twice has come by now, but perhaps of the last
				r.check(t, got.of(r.topic))
			}
		})
	}
}

// raced is how many messages there are in a race.
const raced = 6

// race is what somebody subscribes to while retained messages are published there.
type race struct {
	topic     string
	filter    string
	before    int // the newest that was acknowledged when SUBSCRIBE was sent
	meanwhile int // the newest that was under way when SUBACK came
}

// run publishes all messages, and subscribes once one was sent.
func (r *race) run(t *testing.T, pub, sub pahov3.Client, qos byte, one int) {
	var subscribed pahov3.Token
	for n := 1; n <= raced; n++ {
		sent := pub.Publish(r.topic, qos, true, strconv.Itoa(n))
		if n == one {
			subscribed = sub.Subscribe(r.filter, 2, nil)
		}
		if done(t, sent); subscribed == nil && qos > 0 {
			r.before = n
		}
		if subscribed != nil && r.meanwhile == 0 && subscribed.WaitTimeout(time.Nanosecond) {
			r.meanwhile = n
		}
	}
	if done(t, subscribed); r.meanwhile == 0 {
		r.meanwhile = raced
	}
}

func (r *race) check(t *testing.T, came []int) {
	t.Helper()
	if first := came[0]; first < r.before || first > r.meanwhile+1 {
		t.Errorf("%s begins with %d: %d was acknowledged before SUBSCRIBE, %d under way at SUBACK", r.topic, first, r.before, r.meanwhile)
	}
	for i, n := range came {
		if n != came[0]+i {
			t.Errorf("on %s came %v", r.topic, came)
			return
		}
	}
}
