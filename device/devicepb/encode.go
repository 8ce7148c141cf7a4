package devicepb

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tributary-iot/tributary/device"
)

// MarshalMessage gives the body of m in the TELEMETRY stream. The same message
// always gives the same bytes.
func MarshalMessage(m *device.Message) []byte {
	return AppendMessage(make([]byte, 0, sizeHint(m)), m)
}

// sizeHint is close above the encoded size of usual messages, so that one
// allocation is enough.
func sizeHint(m *device.Message) int {
	n := 96 + len(m.Tenant) + len(m.Device) + len(m.Via) + len(m.Channel) + len(m.Key) + len(m.ContentType) + len(m.Payload)
	for k, v := range m.Properties {
		n += 12 + len(k) + len(v)
	}
	for i := range m.Measurements {
		x := &m.Measurements[i]
		n += 32 + len(x.Name) + len(x.Unit) + len(x.Value.Text())
	}
	return n
}

// AppendMessage appends the body of m to dst. Measurements that carry the
// message's own time are written without one.
func AppendMessage(dst []byte, m *device.Message) []byte {
	dst = appendString(dst, 1, m.Tenant)
	dst = appendString(dst, 2, m.Device)
	dst = appendString(dst, 3, m.Via)
	dst = appendString(dst, 4, m.Channel)
	dst = appendString(dst, 5, m.Key)
	dst = appendString(dst, 6, string(m.Protocol))
	if q := uint32(m.QoS); q != 0 {
		dst = protowire.AppendTag(dst, 7, protowire.VarintType)
		dst = protowire.AppendVarint(dst, uint64(q))
	}
	dst = appendString(dst, 8, m.ContentType)
	if !m.CreatedAt.IsZero() {
		dst = appendTime(dst, 9, m.CreatedAt)
	}
	if !m.ReceivedAt.IsZero() {
		dst = appendTime(dst, 10, m.ReceivedAt)
	}
	dst = appendProperties(dst, m.Properties)
	if len(m.Payload) > 0 {
		dst = protowire.AppendTag(dst, 12, protowire.BytesType)
		dst = protowire.AppendBytes(dst, m.Payload)
	}
	own := messageTime(m)
	for i := range m.Measurements {
		dst = appendMeasurement(dst, &m.Measurements[i], own)
	}
	if m.Kept != 0 {
		dst = protowire.AppendTag(dst, 16, protowire.VarintType)
		dst = protowire.AppendVarint(dst, m.Kept)
	}
	return dst
}

// messageTime is the time a measurement has when it names none.
func messageTime(m *device.Message) time.Time {
	return cmp.Or(m.CreatedAt, m.ReceivedAt)
}

func appendProperties(dst []byte, props map[string]string) []byte {
	if len(props) == 0 {
		return dst
	}
	for _, k := range slices.Sorted(maps.Keys(props)) {
		var start int
		dst, start = openNested(dst, 11)
		dst = appendStringAlways(dst, 1, k)
		dst = appendStringAlways(dst, 2, props[k])
		dst = closeNested(dst, start)
	}
	return dst
}

func appendMeasurement(dst []byte, x *device.Measurement, own time.Time) []byte {
	dst, start := openNested(dst, 13)
	dst = appendString(dst, 1, x.Name)
	dst = appendString(dst, 2, x.Unit)
	if !x.Time.IsZero() && !x.Time.Equal(own) {
		dst = appendTime(dst, 3, x.Time)
	}
	switch x.Value.Kind() {
	case device.KindDouble:
		dst = protowire.AppendTag(dst, 4, protowire.Fixed64Type)
		dst = protowire.AppendFixed64(dst, math.Float64bits(x.Value.Double()))
	case device.KindInt:
		dst = protowire.AppendTag(dst, 5, protowire.VarintType)
		dst = protowire.AppendVarint(dst, uint64(x.Value.Int()))
	case device.KindBool:
		dst = protowire.AppendTag(dst, 6, protowire.VarintType)
		dst = protowire.AppendVarint(dst, protowire.EncodeBool(x.Value.Bool()))
	case device.KindString:
		dst = appendStringAlways(dst, 7, x.Value.Text())
	case device.KindBytes:
		dst = protowire.AppendTag(dst, 8, protowire.BytesType)
		dst = protowire.AppendString(dst, x.Value.Text())
	}
	return closeNested(dst, start)
}
