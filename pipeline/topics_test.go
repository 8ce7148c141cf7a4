package pipeline

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/device"
)

func publication1(topic, payload string) *device.Publication {
	return &device.Publication{Tenant: "default", Topic: topic, QoS: 1, Payload: []byte(payload), At: time.Now()}
}

// appendAll appends and waits.
func appendAll(t testing.TB, b *Belt, all ...*device.Publication) {
	t.Helper()
	errs := make(chan error, len(all))
	for _, p := range all {
		if err := b.Topics().Append(p, func(err error) { errs <- err }); err != nil {
			t.Fatal(err)
		}
	}
	for range all {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
}

func TestTopicsAreReadByFilter(t *testing.T) {
	b := inside(t, t.TempDir(), Options{})
	topics := b.Topics()
	other := publication1("a/b", "other")
	other.Tenant = "other"
	var all []*device.Publication
	for i, topic := range []string{"a", "a/b", "a/b/c", "b", "/", "a b/%"} {
		all = append(all, publication1(topic, fmt.Sprint(i)))
	}
	appendAll(t, b, append(all, other)...)
	read := func(after uint64, filters ...string) (got []string) {
		whole, err := topics.Read(t.Context(), device.SourceTopics, "default", filters, after, func(a device.Arrival) bool {
			for _, f := range filters {
				if device.FilterMatches(f, a.Topic) {
					p, err := a.Open()
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, string(p.Payload))
					break
				}
			}
			return true
		})
		if err != nil || !whole {
			t.Fatalf("%q: whole %v, %v", filters, whole, err)
		}
		return got
	}
	for filters, want := range map[string]string{"a/#": "012", "#": "012345", "a/+": "1", "+": "03", "a|b": "03", "a/#|a/b": "012", "+/+": "145", "x": "", "a b/%": "5"} {
		if got := strings.Join(read(0, strings.Split(filters, "|")...), ""); got != want {
			t.Errorf("%s: %q, want %q", filters, got, want)
		}
	}
	if got := read(lastAt(device.SourceTopics, 2), "a/#"); !slices.Equal(got, []string{"2"}) {
		t.Errorf("after 2: %q", got)
	}
	n := 0
	whole, err := topics.Read(t.Context(), device.SourceTopics, "default", []string{"#"}, 0, func(device.Arrival) bool { n++; return n < 3 })
	if n != 3 || whole || err != nil {
		t.Errorf("stopped after %d, whole %v, %v", n, whole, err)
	}
	got, err := topics.Get(t.Context(), device.Ref{Source: device.SourceTopics, Seq: lastAt(device.SourceTopics, 2)})
	if err != nil || got.Topic != "a/b" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, seq := range []uint64{0, 1, firstAt(device.SourceTopics, 2), lastAt(device.SourceTopics, 99)} {
		if _, err := topics.Get(t.Context(), device.Ref{Source: device.SourceTopics, Seq: seq}); device.CodeOf(err) != device.NotFound {
			t.Errorf("message %d: %v", seq, err)
		}
	}
}

func TestTelemetryIsSeenOnTopics(t *testing.T) {
	b := inside(t, t.TempDir(), Options{})
	m := testMessage("d", 7)
	m.Key, m.Properties = "k", map[string]string{"b": "2", "a": "1"}
	done := make(chan error, 1)
	if err := b.Submit(m, func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for filter, want := range map[string]int{"+/telemetry/#": 1, "d/#": 1, "#": 1, "d/telemetry/+": 1, "+/+/room": 1, "d/telemetry": 0, "e/#": 0, "d/room": 0, "+": 0} {
		n := 0
		if _, err := b.Topics().Read(t.Context(), device.SourceTelemetry, "default", []string{filter}, 0, func(a device.Arrival) bool {
			n++
			p, err := a.Open()
			if err != nil || p.Topic != "d/telemetry/room" || string(p.Payload) != `{"n":7}` || p.QoS != 1 || len(p.Properties) != 3 || p.Properties[1] != (device.Property{Name: "a", Value: "1"}) {
				t.Errorf("%+v, %v", p, err)
			}
			return true
		}); err != nil || n != want {
			t.Errorf("%s: %d, %v", filter, n, err)
		}
	}
}

func TestFindAMark(t *testing.T) {
	b := inside(t, t.TempDir(), Options{})
	topics := b.Topics()
	marked := publication1("a", "1")
	marked.Mark = "m"
	appendAll(t, b, publication1("a", "0"), marked)
	for _, c := range []struct {
		topic, mark string
		after       uint64
		want        bool
	}{{"a", "m", 0, true}, {"a", "m", 1, true}, {"a", "m", 2, false}, {"b", "m", 0, false}, {"a", "n", 0, false}} {
		if got, err := topics.Find(t.Context(), device.SourceTopics, "default", c.topic, c.mark, lastAt(device.SourceTopics, c.after)); got != c.want || err != nil {
			t.Errorf("%+v: %v, %v", c, got, err)
		}
	}
	m := testMessage("d", 1)
	m.Key = "k"
	done := make(chan error, 1)
	if err := b.Submit(m, func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]bool{"k": true, "l": false, "": false} {
		if got, err := topics.Find(t.Context(), device.SourceTelemetry, "default", "d/telemetry/room", key, 0); got != want || err != nil {
			t.Errorf("telemetry with key %q: %v, %v", key, got, err)
		}
	}
	for src, seq := range map[device.Source]uint64{device.SourceTopics: lastAt(device.SourceTopics, 2), device.SourceTelemetry: 1} {
		end, err := topics.End(t.Context(), src)
		if got := topics.Known(src); got != end || end.Seq != seq || end.Epoch == 0 || err != nil {
			t.Errorf("of source %d is known %+v, it ends at %+v, %v", src, got, end, err)
		}
	}
}

func TestRetainedMessages(t *testing.T) {
	b := inside(t, t.TempDir(), Options{MaxRetained: 5})
	keep := func(topic, payload string, expires time.Time) error {
		p := publication1(topic, payload)
		p.Retain, p.Expires = true, expires
		done := make(chan error, 1)
		if err := b.Topics().Retain(p, func(_ uint64, err error) { done <- err }); err != nil {
			return err
		}
		return <-done
	}
	last := func(filter string) uint64 {
		seq, err := b.Topics().LastRetained(t.Context(), "default", filter)
		if err != nil {
			t.Fatal(err)
		}
		return seq
	}
	upTo := func(filter string, last uint64) (got []string) {
		if err := b.Topics().Retained(t.Context(), "default", filter, last, func(_ device.Ref, p *device.Publication) bool {
			got = append(got, string(p.Payload))
			return true
		}); err != nil {
			t.Fatal(err)
		}
		slices.Sort(got)
		return got
	}
	read := func(filter string) []string { return upTo(filter, last(filter)) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := last("#"); n != 0 {
		t.Errorf("the last of none stands at %d", n)
	}
	must(keep("a", "1", time.Time{}))
	must(keep("a", "2", time.Now().Add(time.Hour)))
	must(keep("a/b", "3", time.Time{}))
	must(keep("b", "4", time.Now().Add(1500*time.Millisecond)))
	if got := read("a/#"); !slices.Equal(got, []string{"2", "3"}) {
		t.Errorf("a/#: %q", got)
	}
	if got := upTo("#", last("a")); last("a/#") <= last("a") || !slices.Equal(got, []string{"2"}) {
		t.Errorf("up to that of a: %q", got)
	}
	must(keep("a/b", "", time.Time{}))
	if got := read("#"); slices.Contains(got, "3") {
		t.Errorf("#: %q", got)
	}
	must(keep("c", "5", time.Time{}))
	must(keep("d", "6", time.Time{}))
	if err := keep("e", "7", time.Time{}); err == nil && len(read("#")) > 5 {
		t.Error("more were kept than may be")
	}
	must(keep("a", "8", time.Time{})) // has its place
	eventually(t, "what expires is removed", func() bool { return !slices.Contains(read("#"), "4") })
}

// TestFeedOfTopics: one reader brings what is appended, in order.
func TestFeedOfTopics(t *testing.T) {
	b := inside(t, t.TempDir(), Options{})
	end, err := b.Topics().End(t.Context(), device.SourceTopics)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var last atomic.Uint64
	ended := make(chan error, 1)
	go func() {
		ended <- b.Topics().Follow(ctx, device.SourceTopics, end.Seq, func(a device.Arrival) {
			seq := last.Add(1)
			if p, err := a.Open(); err != nil || a.Seq != lastAt(device.SourceTopics, seq) || string(p.Payload) != fmt.Sprint(seq) {
				t.Errorf("message %d, %d: %v, %v", seq, a.Seq, p, err)
			}
		})
	}()
	var all []*device.Publication
	for i := range 500 {
		all = append(all, publication1(fmt.Sprint("t/", i%7), fmt.Sprint(i+1)))
	}
	appendAll(t, b, all...)
	eventually(t, "all arrive", func() bool { return last.Load() == 500 })
	cancel()
	if err := <-ended; err == nil {
		t.Error("it ended well")
	}
}

// FuzzTopicSubject: a topic survives being a subject, which a filter's subjects
// match exactly when the filter takes the topic.
func FuzzTopicSubject(f *testing.F) {
	f.Add("t", "a/b", "a/#")
	f.Add("t", "/", "+/+")
	f.Add("ü", "a.b/*/>", "a.b/+/>")
	f.Add("t", "d/telemetry/x", "+/telemetry/#")
	f.Add("t", "d/telemetry/x", "$share/g/+/telemetry/#")
	f.Fuzz(func(t *testing.T, tenant, topic, filter string) {
		id := device.ID{Tenant: tenant, Device: "d"}
		sub := &device.Subscription{Filter: filter}
		if id.Validate() != nil || device.ValidateTopic(topic) != nil || sub.Validate() != nil {
			return
		}
		_, filter, _ = sub.Share() // a group's filter is read like any other
		subject := topicSubject(topicRoot, tenant, topic)
		if len(subject) > maxSubjectBytes {
			t.Fatalf("subject of %d bytes", len(subject))
		}
		gotTenant, gotTopic, err := parseTopicSubject(topicRoot, subject)
		if err != nil || gotTenant != tenant || gotTopic != topic {
			t.Fatalf("%q: %q %q %v", subject, gotTenant, gotTopic, err)
		}
		if got := meet(subject, topicFilter(topicRoot, tenant, filter)); got != device.FilterMatches(filter, topic) {
			t.Fatalf("topic %q, filter %q: %v", topic, filter, got)
		}
		name, rest, _ := strings.Cut(topic, "/")
		word, channel, _ := strings.Cut(rest, "/")
		id.Device = name
		if word != "telemetry" || id.Validate() != nil || device.ValidateChannel(channel) != nil || strings.HasSuffix(topic, "/telemetry/") {
			return
		}
		matches := 0
		for _, s := range telemetryTopicFilter(tenant, filter) {
			if meet(TelemetrySubject(id, channel), s) {
				matches++
			}
		}
		if want := device.FilterMatches(filter, topic); (matches == 1) != want || matches > 1 {
			t.Fatalf("telemetry %q, filter %q: %d, want %v", topic, filter, matches, want)
		}
	})
}
