package packet_test

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"testing"
	"testing/iotest"

	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
)

const fuzzLimit = 4 << 10

// FuzzReader311 and FuzzReader5 feed a stream of packets as it comes after
// CONNECT; FuzzConnect feeds the first packet of a connection.
func FuzzReader311(f *testing.F) { fuzzReader(f, packet.V311) }

// FuzzReader5 is FuzzReader311 for MQTT 5.
func FuzzReader5(f *testing.F) { fuzzReader(f, packet.V5) }

// FuzzConnect reads with the version still unknown.
func FuzzConnect(f *testing.F) { fuzzReader(f, 0) }

func fuzzReader(f *testing.F, v packet.Version) {
	for _, s := range samples() {
		if versionFor(s) == v {
			f.Add(mustEncode(f, s))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := packet.NewReader(bytes.NewReader(b), v, fuzzLimit)
		slow := packet.NewReader(iotest.OneByteReader(bytes.NewReader(b)), v, fuzzLimit)
		for {
			p, err := r.Next()
			q, slowErr := slow.Next()
			if !reflect.DeepEqual(p, q) || (err == nil) != (slowErr == nil) {
				t.Fatalf("whole: %+v, %v\nbyte by byte: %+v, %v", p, err, q, slowErr)
			}
			if err != nil {
				checkStreamError(t, err)
				return
			}
			checkRoundTrip(t, p, r.Version())
		}
	})
}

func checkStreamError(t *testing.T, err error) {
	t.Helper()
	var broken *packet.Error
	switch {
	case err == io.EOF, err == io.ErrUnexpectedEOF:
	case !errors.As(err, &broken):
		t.Fatalf("error of a foreign kind: %v", err)
	case !broken.Reason.Failed() || broken.Text == "":
		t.Fatalf("error without a reason: %#v", broken)
	}
}

// checkRoundTrip encodes what was decoded and decodes that: nothing may be
// lost, by us or by the Eclipse codec.
func checkRoundTrip(t *testing.T, p packet.Packet, v packet.Version) {
	t.Helper()
	want := plain(p)
	b, err := want.Append(nil, v)
	if err != nil {
		t.Fatalf("cannot encode %+v: %v", want, err)
	}
	s := sample{"", v, want}
	got, err := packet.NewReader(bytes.NewReader(b), versionFor(s), 2*fuzzLimit).Next()
	if err != nil || !reflect.DeepEqual(plain(got), want) {
		t.Fatalf("%+v became %+v, %v", want, got, err)
	}
	if !pahoAgrees(want) {
		return
	}
	if err := throughPaho(b, s); err != nil {
		t.Fatal(err)
	}
}

// FuzzFilter: a filter that passes has wildcards only where they may stand.
func FuzzFilter(f *testing.F) {
	for _, s := range []string{"a", "+/b/#", "#", "a#", "#/a", "$share/g/#", "/", "+"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, filter string) {
		ok := packet.CheckFilter(filter, packet.V311) == nil
		if ok != naiveFilter(filter) {
			t.Fatalf("%q: %v", filter, ok)
		}
	})
}

func naiveFilter(filter string) bool {
	for i, c := range []byte(filter) {
		before := i == 0 || filter[i-1] == '/'
		after := i == len(filter)-1 || filter[i+1] == '/'
		if c == '#' && (!before || i != len(filter)-1) || c == '+' && (!before || !after) {
			return false
		}
	}
	return filter != ""
}
