package normalize_test

import (
	"encoding/hex"
	"strconv"
	"strings"
	"testing"

	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/normalize"
)

func fromHex(t *testing.T, text string) string {
	t.Helper()
	raw, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// TestCBORAppendixA reads every example of RFC 8949, appendix A, table 6, in
// its order. What has no place among measurements gives none, and is kept.
func TestCBORAppendixA(t *testing.T) {
	f := func(encoded, want string) {
		t.Helper()
		m := message("application/cbor", fromHex(t, encoded))
		if err := normalize.Message(m); err != nil {
			t.Errorf("%s: %v", encoded, err)
		} else if got := show(m); got != want {
			t.Errorf("%s:\n got %s\nwant %s", encoded, got, want)
		}
	}
	f("00", "value=int:0")
	f("01", "value=int:1")
	f("0a", "value=int:10")
	f("17", "value=int:23")
	f("1818", "value=int:24")
	f("1819", "value=int:25")
	f("1864", "value=int:100")
	f("1903e8", "value=int:1000")
	f("1a000f4240", "value=int:1000000")
	f("1b000000e8d4a51000", "value=int:1000000000000")
	f("1bffffffffffffffff", "value=double:1.8446744073709552e+19")
	f("c249010000000000000000", "value=double:1.8446744073709552e+19")
	f("3bffffffffffffffff", "value=double:-1.8446744073709552e+19")
	f("c349010000000000000000", "value=double:-1.8446744073709552e+19")
	f("20", "value=int:-1")
	f("29", "value=int:-10")
	f("3863", "value=int:-100")
	f("3903e7", "value=int:-1000")
	f("f90000", "value=double:0")
	f("f98000", "value=double:-0")
	f("f93c00", "value=double:1")
	f("fb3ff199999999999a", "value=double:1.1")
	f("f93e00", "value=double:1.5")
	f("f97bff", "value=double:65504")
	f("fa47c35000", "value=double:100000")
	f("fa7f7fffff", "value=double:3.4028234663852886e+38")
	f("fb7e37e43c8800759c", "value=double:1e+300")
	f("f90001", "value=double:5.960464477539063e-08")
	f("f90400", "value=double:6.103515625e-05")
	f("f9c400", "value=double:-4")
	f("fbc010666666666666", "value=double:-4.1")
	for _, none := range []string{
		"f97c00", "f97e00", "f9fc00", "fa7f800000", "fa7fc00000", "faff800000", // Infinity, NaN, -Infinity
		"fb7ff0000000000000", "fb7ff8000000000000", "fbfff0000000000000",
	} {
		f(none, "")
	}
	f("f4", "value=bool:false")
	f("f5", "value=bool:true")
	f("f6", "") // null
	f("f7", "") // undefined
	f("f0", "") // simple(16)
	f("f8ff", "")
	f("c074323031332d30332d32315432303a30343a30305a", "value=string:2013-03-21T20:04:00Z")
	f("c11a514b67b0", "value=int:1363896240")
	f("c1fb41d452d9ec200000", "value=double:1.3638962405e+09")
	f("d74401020304", "value=bytes:01020304")
	f("d818456449455446", "value=bytes:6449455446")
	f("d82076687474703a2f2f7777772e6578616d706c652e636f6d", "value=string:http://www.example.com")
	f("40", "value=bytes:")
	f("4401020304", "value=bytes:01020304")
	f("60", "value=string:")
	f("6161", "value=string:a")
	f("6449455446", "value=string:IETF")
	f("62225c", `value=string:"\`)
	f("62c3bc", "value=string:ü")
	f("63e6b0b4", "value=string:水")
	f("64f0908591", "value=string:𐅑")
	f("80", "")
	f("83010203", "value.0=int:1 value.1=int:2 value.2=int:3")
	f("8301820203820405", "value.0=int:1 value.1.0=int:2 value.1.1=int:3 value.2.0=int:4 value.2.1=int:5")
	var upTo25 []string
	for i := 1; i <= 25; i++ {
		upTo25 = append(upTo25, "value."+strconv.Itoa(i-1)+"=int:"+strconv.Itoa(i))
	}
	f("98190102030405060708090a0b0c0d0e0f101112131415161718181819", strings.Join(upTo25, " "))
	f("a0", "")
	f("a201020304", "1=int:2 3=int:4")
	f("a26161016162820203", "a=int:1 b.0=int:2 b.1=int:3")
	f("826161a161626163", "value.0=string:a b=string:c")
	f("a56161614161626142616361436164614461656145", "a=string:A b=string:B c=string:C d=string:D e=string:E")
	f("5f42010243030405ff", "value=bytes:0102030405")
	f("7f657374726561646d696e67ff", "value=string:streaming")
	f("9fff", "")
	for _, same := range []string{"9f018202039f0405ffff", "9f01820203820405ff", "83018202039f0405ff", "83019f0203ff820405"} {
		f(same, "value.0=int:1 value.1.0=int:2 value.1.1=int:3 value.2.0=int:4 value.2.1=int:5")
	}
	f("9f0102030405060708090a0b0c0d0e0f101112131415161718181819ff", strings.Join(upTo25, " "))
	f("bf61610161629f0203ffff", "a=int:1 b.0=int:2 b.1=int:3")
	f("826161bf61626163ff", "value.0=string:a b=string:c")
	f("bf6346756ef563416d7421ff", "Fun=bool:true Amt=int:-2")
}

// TestCBORFractions reads the examples of RFC 8949, section 3.4.4, and what is
// at the edges of them.
func TestCBORFractions(t *testing.T) {
	f := func(encoded, want string) {
		t.Helper()
		m := message("application/cbor", fromHex(t, encoded))
		if err := normalize.Message(m); err != nil || show(m) != want {
			t.Errorf("%s: got %q, %v, want %q", encoded, show(m), err, want)
		}
	}
	f("c48221196ab3", "value=double:273.15")
	f("c5822003", "value=double:1.5")
	f("c4820ac24101", "value=double:1e+10")
	f("c4821a7fffffff01", "")               // too large
	f("c4823a7fffffff01", "value=double:0") // too small
	f("c5821bffffffffffffffff01", "")       // an exponent no 64 bits hold
	f("c5823bffffffffffffffff01", "value=double:0")
	f("c24c000000000000000000000001", "value=int:1")
	f("c2587f"+strings.Repeat("ff", 127), "value=double:7.022238808055922e+305")
	f("c25881"+strings.Repeat("ff", 129), "")
}

// TestCBORWalk holds CBOR to what the package says of JSON, too.
func TestCBORWalk(t *testing.T) {
	f := func(encoded, want string) {
		t.Helper()
		m := message("application/cbor", fromHex(t, encoded))
		if err := normalize.Message(m); err != nil || show(m) != want {
			t.Errorf("%s: got %q, %v, want %q", encoded, show(m), err, want)
		}
	}
	f("a2 627473 1a6553f100 6174 01", "t=int:1@2023-11-14T22:13:20Z")
	f("a2 627473 c11a6553f100 6174 01", "t=int:1@2023-11-14T22:13:20Z")
	f("a3 646e616d65 6174 6576616c7565 01 64756e6974 6156", "t[V]=int:1")
	f("a2 6161 01 6161 02", "a=int:1 a=int:2")
	f("a1 63612e62 01", `a\.b=int:1`)
	f("a1 60 01", `\e=int:1`)
	f("a1 20 01", "-1=int:1")
	f("a3 40 01 80 02 6161 03", "a=int:3")                  // keys that name nothing
	f("a2 1bffffffffffffffff a16162 01 6161 03", "a=int:3") // nor does this
	f("a1 7f61616162ff 01", "ab=int:1")                     // a key in pieces
	f("d9d9f7 a1 6161 01", "a=int:1")                       // self-described
	f("9821"+strings.Repeat("01", 33), "")                  // more than MaxIndexed
	f("590401"+strings.Repeat("00", 1025), "")              // more than MaxStringBytes
	f("a2 6161 590401"+strings.Repeat("00", 1025)+"6162 01", "b=int:1")
}

func TestCBORRefusals(t *testing.T) {
	f := func(encoded string, code device.Code, sentence string) {
		t.Helper()
		m := message("application/cbor", fromHex(t, encoded))
		err := normalize.Message(m)
		if device.CodeOf(err) != code || !strings.Contains(device.PublicMessage(err), sentence) || m.Measurements != nil {
			t.Errorf("%.60s: got %v (%v), want %v with %q", encoded, err, device.CodeOf(err), code, sentence)
		}
	}
	f("", device.Undecodable, "not well-formed CBOR")
	// RFC 8949, appendix F.1: examples that are not well-formed.
	for _, wrong := range []string{
		"18", "19", "1a", "1b", "1901", "1a0102", "1b01020304050607", "38", "58", "78", "98", "9a01ff00", "b8", "d8", "f8", "f900", "fa0000", "fb000000",
		"41", "61", "5affffffff00", "5bffffffffffffffff010203", "7affffffff00", "7b7fffffffffffffff010203",
		"81", "818181818181818181", "8200", "a1", "a20102", "a100", "a2000000",
		"5f4100", "7f6100", "9f", "9f0102", "bf", "bf01020102", "819f", "9f8000", "9f9f9f9f9fffffffff", "9f819f819f9fffffff",
		"1c", "1d", "1e", "3c", "5c", "7c", "9c", "bc", "dc", "fc", "f800", "f801", "f818", "f81f",
		"5f00ff", "5f21ff", "5f6100ff", "5f80ff", "5fa0ff", "5fc000ff", "5fe0ff", "7f4100ff", "5f5f4100ffff", "7f7f6100ffff",
		"ff", "81ff", "8200ff", "a1ff", "a1ff00", "a100ff", "a20000ff", "9f81ff", "9f829f819f9fffffffff", "bf00ff", "bf000000ff", "1f", "3f", "df",
	} {
		f(wrong, device.Undecodable, "not well-formed CBOR")
	}
	f("0000", device.Undecodable, "extraneous data")
	f("61ff", device.Undecodable, "text that is not UTF-8")
	f("a161ff00", device.Undecodable, "text that is not UTF-8")
	f("7f61c361bcff61", device.Undecodable, "")
	f("c200", device.Undecodable, "bignum")
	f("c401", device.Undecodable, "array of exponent and mantissa")
	f("c48301", device.Undecodable, "")
	f("c483010203", device.Undecodable, "array of exponent and mantissa")
	f("c4826101f5", device.Undecodable, "an integer or a bignum")
	f("c48201f5", device.Undecodable, "an integer or a bignum")
	f(strings.Repeat("81", normalize.MaxDepth+1)+"00", device.Invalid, "nests deeper")
	f(strings.Repeat("81", 40)+"00", device.Invalid, "nests deeper")
	f(strings.Repeat("c6", 40)+"00", device.Invalid, "nests deeper")
	f("9a00020001"+strings.Repeat("00", 1<<17+1), device.Invalid, "more than 131072 elements")
	f("9903e9"+strings.Repeat("a1617601", 1001), device.Invalid, "more than 1000 measurements")
	f("a1790101"+strings.Repeat("6e", 257)+"01", device.Invalid, "the limit is 256")
	f("a1610701", device.Invalid, "control character")
}
