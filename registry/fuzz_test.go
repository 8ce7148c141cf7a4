package registry

import (
	"bytes"
	"testing"
	"time"

	"github.com/tributary-iot/tributary/device"
)

// FuzzDecodeRecord holds that a record of any bytes is nobody's but that of the
// device it was asked for, and is written back to what reads the same.
func FuzzDecodeRecord(f *testing.F) {
	id := device.ID{Tenant: "t", Device: "d"}
	r := record{Tenant: "t", Device: "d", Kind: device.KindGateway, For: "a*", Credentials: []credential{
		newCredential(typeSecret, make([]byte, 32), time.Unix(1700000000, 0)),
		newCredential(typeKey, make([]byte, 32), time.Unix(1700000000, 0)),
	}}
	seed, err := r.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"tenant":"t","device":"d","credentials":[{"type":"one of tomorrow"}],"more":{}}`))
	f.Add([]byte(`{"tenant":"other","device":"d"}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, value []byte) {
		r, err := decodeRecord(id, value)
		if err != nil {
			return
		}
		if r.id() != id || r.registration().ID != id {
			t.Fatalf("the record of %v passes for that of %v", r.id(), id)
		}
		r.principal()
		b, err := r.encode()
		if err != nil {
			return // a time no JSON can hold
		}
		again, err := decodeRecord(id, b)
		if err != nil {
			t.Fatalf("%s came back as %v", b, err)
		}
		if b2, _ := again.encode(); !bytes.Equal(b, b2) {
			t.Fatalf("%s came back as %s", b, b2)
		}
	})
}
