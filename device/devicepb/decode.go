package devicepb

import (
	"fmt"
	"math"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tributary-iot/tributary/device"
)

// UnmarshalMessage reads the body of a TELEMETRY message. The payload shares
// memory with data, which must not be altered afterwards; nothing else does.
// Unknown fields are skipped, times are in UTC.
func UnmarshalMessage(data []byte) (*device.Message, error) {
	d := messageDecoder{m: new(device.Message)}
	for len(data) > 0 {
		f, n, err := nextField(data)
		if err != nil {
			return nil, err
		}
		if f.num == 13 && f.typ == protowire.BytesType && d.m.Measurements == nil {
			d.reserve(data)
		}
		if err := d.field(&f); err != nil {
			return nil, err
		}
		data = data[n:]
	}
	d.m.CreatedAt, d.m.ReceivedAt = d.created.time(), d.received.time()
	own := messageTime(d.m)
	for i := range d.m.Measurements {
		if x := &d.m.Measurements[i]; x.Time.IsZero() {
			x.Time = own
		}
	}
	return d.m, nil
}

// messageDecoder gathers what is known only when all fields were seen.
type messageDecoder struct {
	m                 *device.Message
	created, received stamp
}

// reserve makes room for all measurements at once. Each takes at least two
// bytes on the wire, so what is counted is bounded by what was sent.
func (d *messageDecoder) reserve(data []byte) {
	count := 0
	for len(data) > 0 {
		f, n, err := nextField(data)
		if err != nil {
			break
		}
		if f.num == 13 {
			count++
		}
		data = data[n:]
	}
	d.m.Measurements = make([]device.Measurement, 0, count)
}

func (d *messageDecoder) field(f *field) error {
	m := d.m
	switch f.num {
	case 1:
		return f.text(&m.Tenant, "tenant")
	case 2:
		return f.text(&m.Device, "device")
	case 3:
		return f.text(&m.Via, "via")
	case 4:
		return f.text(&m.Channel, "channel")
	case 5:
		return f.text(&m.Key, "key")
	case 6:
		return d.protocol(f)
	case 7:
		if f.typ == protowire.VarintType {
			m.QoS = int(uint32(f.num64))
		}
	case 8:
		return f.text(&m.ContentType, "content_type")
	case 9:
		return d.created.read(f)
	case 10:
		return d.received.read(f)
	case 11:
		return d.property(f)
	case 12:
		if f.typ == protowire.BytesType {
			m.Payload = f.bytes[:len(f.bytes):len(f.bytes)]
		}
	case 13:
		return d.measurement(f)
	case 14: // position and stored time belong to API answers: read past
		return f.text(new(string), "position")
	case 15:
		return new(stamp).read(f)
	case 16:
		if f.typ == protowire.VarintType {
			m.Kept = f.num64
		}
	}
	return nil
}

// protocol avoids an allocation for the ones we know.
func (d *messageDecoder) protocol(f *field) error {
	for _, p := range [...]device.Protocol{device.MQTT, device.AMQP, device.HTTP} {
		if f.typ == protowire.BytesType && string(f.bytes) == string(p) {
			d.m.Protocol = p
			return nil
		}
	}
	s := string(d.m.Protocol)
	err := f.text(&s, "protocol")
	d.m.Protocol = device.Protocol(s)
	return err
}

func (d *messageDecoder) property(f *field) error {
	if f.typ != protowire.BytesType {
		return nil
	}
	var key, value string
	for data := f.bytes; len(data) > 0; {
		in, n, err := nextField(data)
		if err != nil {
			return err
		}
		switch in.num {
		case 1:
			err = in.text(&key, "property name")
		case 2:
			err = in.text(&value, "property value")
		}
		if err != nil {
			return err
		}
		data = data[n:]
	}
	if d.m.Properties == nil {
		d.m.Properties = make(map[string]string)
	}
	d.m.Properties[key] = value
	return nil
}

func (d *messageDecoder) measurement(f *field) error {
	if f.typ != protowire.BytesType {
		return nil
	}
	var x device.Measurement
	var at stamp
	for data := f.bytes; len(data) > 0; {
		in, n, err := nextField(data)
		if err != nil {
			return err
		}
		switch in.num {
		case 1:
			err = in.text(&x.Name, "measurement name")
		case 2:
			err = in.text(&x.Unit, "measurement unit")
		case 3:
			err = at.read(&in)
		default:
			err = in.value(&x.Value)
		}
		if err != nil {
			return err
		}
		data = data[n:]
	}
	x.Time = at.time()
	d.m.Measurements = append(d.m.Measurements, x)
	return nil
}

// value reads one member of the value oneof; the last one given wins.
func (f *field) value(dst *device.Value) error {
	switch {
	case f.num == 4 && f.typ == protowire.Fixed64Type:
		*dst = device.Double(math.Float64frombits(f.num64))
	case f.num == 5 && f.typ == protowire.VarintType:
		*dst = device.Int(int64(f.num64))
	case f.num == 6 && f.typ == protowire.VarintType:
		*dst = device.Bool(protowire.DecodeBool(f.num64))
	case f.num == 7 && f.typ == protowire.BytesType:
		if !utf8.Valid(f.bytes) {
			return fmt.Errorf("devicepb: measurement text is not valid UTF-8")
		}
		*dst = device.String(string(f.bytes))
	case f.num == 8 && f.typ == protowire.BytesType:
		*dst = device.Bytes(f.bytes)
	}
	return nil
}
