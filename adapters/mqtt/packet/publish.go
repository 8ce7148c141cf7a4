package packet

// Publish carries an application message (3.3). One that a Reader made shares
// memory with its buffer: Topic and Payload are valid until the next packet.
type Publish struct {
	Dup        bool
	QoS        byte
	Retain     bool
	Topic      []byte // empty only together with a topic alias
	ID         uint16 // 0 with QoS 0
	Properties Properties
	Payload    []byte
}

const (
	publishRetain   = 1 << 0
	publishQoSShift = 1
	publishDup      = 1 << 3
)

// Type is PUBLISH.
func (*Publish) Type() Type { return PUBLISH }

func checkPublishFlags(flags byte) *Error {
	switch qos := flags >> publishQoSShift & 3; {
	case qos == 3:
		return malformed("PUBLISH has QoS 3, it must be 0 to 2")
	case qos == 0 && flags&publishDup != 0:
		return malformed("PUBLISH has DUP set with QoS 0")
	}
	return nil
}

// decode fills p, reusing its property slice.
func (p *Publish) decode(d *decoder, flags byte) {
	p.Dup = flags&publishDup != 0
	p.QoS = flags >> publishQoSShift & 3
	p.Retain = flags&publishRetain != 0
	p.Topic = d.textBytes()
	p.ID = 0
	if p.QoS > 0 {
		p.ID = d.packetID()
	}
	p.Properties = d.properties(PUBLISH, p.Properties)
	p.Payload = d.b
	if d.err != nil {
		return
	}
	if len(p.Topic) == 0 {
		if _, ok := p.Properties.Number(TopicAlias); !ok {
			d.fail(violation(ProtocolError, "PUBLISH has neither a topic name nor a topic alias"))
		}
		return
	}
	if err := CheckTopic(p.Topic); err != nil {
		d.fail(err)
	}
}

// Append encodes the packet.
func (p *Publish) Append(dst []byte, v Version) ([]byte, error) {
	e := encode(dst)
	putBytes(&e, p.Topic)
	if p.QoS > 0 {
		e.u16(p.ID)
	}
	if v >= V5 {
		e.properties(PUBLISH, p.Properties)
	}
	e.dst = append(e.dst, p.Payload...)
	flags := p.QoS & 3 << publishQoSShift
	if p.Dup {
		flags |= publishDup
	}
	if p.Retain {
		flags |= publishRetain
	}
	return e.finish(PUBLISH, flags)
}
