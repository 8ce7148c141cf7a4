package options

import (
	"strings"
	"testing"
	"time"
)

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1": 1, "17B": 17, "64KiB": 64 << 10, "1MiB": 1 << 20, "4GiB": 4 << 30, "3TiB": 3 << 40, "9223372036854775807": 1<<63 - 1,
	} {
		got, err := readSize(text)
		if err != nil || got != want {
			t.Errorf("%s is %d, %v; want %d", text, got, err, want)
		}
		if again, err := readSize(showSize(got)); err != nil || again != got {
			t.Errorf("%d is shown as %s", got, showSize(got))
		}
	}
	for text, hint := range map[string]string{
		"": "", "x": "", "-1": "", "+1": "", "1.5GiB": "", "4GB": "did you mean 4GiB?", "4g": "did you mean 4GiB?", "4 GiB": "did you mean 4GiB?",
		"4gib": "did you mean 4GiB?", "0x10": "", "1_000": "", "9223372036854775808": "too large", "9999999TiB": "too large",
	} {
		if n, err := readSize(text); err == nil || !strings.Contains(err.Error(), hint) {
			t.Errorf("%q is %d, %v; want an error with %q", text, n, err, hint)
		}
	}
}

func TestDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "30s": 30 * time.Second, "1h30m": 90 * time.Minute, "7d": 168 * time.Hour, "1d12h": 36 * time.Hour, "250ms": 250 * time.Millisecond, "90d": 2160 * time.Hour,
	} {
		got, err := readDuration(text)
		if err != nil || got != want {
			t.Errorf("%s is %v, %v; want %v", text, got, err, want)
		}
		if again, err := readDuration(showDuration(got)); err != nil || again != got {
			t.Errorf("%v is shown as %s", got, showDuration(got))
		}
	}
	for duration, want := range map[time.Duration]string{0: "0s", time.Hour: "1h", 20 * time.Second: "20s", 10 * time.Minute: "10m", 90 * time.Minute: "1h30m", 25 * time.Hour: "1d1h", 72 * time.Hour: "3d", 61 * time.Second: "1m1s"} {
		if got := showDuration(duration); got != want {
			t.Errorf("%v is shown as %s, want %s", duration, got, want)
		}
	}
	for text, hint := range map[string]string{"": "", "30": "did you mean 30s?", "-5s": "", "-5": "did you mean 5s?", "+5s": "", "d": "", "1.5d": "", "1d-2h": "", "5 m": "", "999999d": "too long", "1w": ""} {
		if d, err := readDuration(text); err == nil || !strings.Contains(err.Error(), hint) {
			t.Errorf("%q is %v, %v; want an error with %q", text, d, err, hint)
		}
	}
}

func TestAddresses(t *testing.T) {
	for _, text := range []string{"off", ":1883", ":0", "127.0.0.1:1883", "[::1]:1883", "localhost:65535", "0.0.0.0:1"} {
		if got, err := readAddress(text); err != nil || got != text {
			t.Errorf("%s is %q, %v", text, got, err)
		}
	}
	for text, hint := range map[string]string{
		"": "did you mean off?", "1883": "did you mean 127.0.0.1:1883?", "OFF": "did you mean off?", "false": "did you mean off?", "127.0.0.1": "its port is missing",
		"::1": "its port is missing", "host": "", "host:mqtt": "", "host:65536": "", "host:-1": "", "mqtt://host:1883": "", "a b:1": "",
	} {
		if got, err := readAddress(text); err == nil || !strings.Contains(err.Error(), hint) {
			t.Errorf("%q is %q, %v; want an error with %q", text, got, err, hint)
		}
	}
}

func TestNearest(t *testing.T) {
	all := []string{"data", "listen", "max_message_bytes", "durability", "log"}
	for word, want := range map[string]string{
		"dat": "data", "Data": "data", "lsiten": "listen", "max-message-bytes": "max_message_bytes", "maxMessageByte": "max_message_bytes",
		"durabilty": "durability", "zzz": "", "lag": "log", "": "", strings.Repeat("x", 1000): "",
	} {
		if got := nearest(word, all); got != want {
			t.Errorf("%q is taken for %q, want %q", word, got, want)
		}
	}
}
