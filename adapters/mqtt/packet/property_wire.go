package packet

// properties reads the property block of a packet of type t into dst[:0], so
// that a reader can reuse the slice. On 3.1.1 there is none.
func (d *decoder) properties(t Type, dst Properties) Properties {
	dst = dst[:0]
	if d.version < V5 || d.err != nil {
		return dst
	}
	n := d.varint()
	if n > len(d.b) {
		d.fail(malformed("properties of %d bytes run past the end of the %s", n, t))
		return dst
	}
	block := decoder{b: d.b[:n], version: d.version}
	d.b = d.b[n:]
	var seen uint64
	users := 0
	for len(block.b) > 0 && block.err == nil {
		p := block.property(t)
		if p.ID == UserProperty {
			users++
		}
		many := p.ID == UserProperty || p.ID == SubscriptionID && t == PUBLISH
		switch {
		case block.err != nil:
		case users > MaxUserProperties:
			block.fail(violation(QuotaExceeded, "packet has over %d user properties", MaxUserProperties))
		case !many && seen&(1<<p.ID) != 0:
			block.fail(violation(ProtocolError, "property 0x%02X appears twice in %s", byte(p.ID), t))
		default:
			seen |= 1 << p.ID
			dst = append(dst, p)
		}
	}
	if block.err != nil && d.err == nil {
		d.b, d.err = nil, block.err
	}
	return dst
}

func (d *decoder) property(t Type) Property {
	// Every identifier fits one byte; a longer varint is none of ours.
	p := Property{}
	id := d.varint()
	rule, ok := ruleFor(PropertyID(id), t)
	if id > 0x7F || rule.kind == kindNone {
		d.fail(malformed("property 0x%02X does not exist", id))
		return p
	}
	if !ok {
		d.fail(violation(ProtocolError, "property 0x%02X is not allowed in %s", id, t))
		return p
	}
	p.ID = PropertyID(id)
	switch rule.kind {
	case kindFlag:
		p.Number = uint32(d.u8())
	case kindU16:
		p.Number = uint32(d.u16())
	case kindU32:
		p.Number = d.u32()
	case kindVarint:
		p.Number = uint32(d.varint())
	case kindText, kindTopic:
		p.Text = d.text()
	case kindBinary:
		p.Text = string(d.bytes())
	case kindPair:
		p.Name = d.text()
		p.Text = d.text()
	}
	if d.err == nil {
		if err := p.check(rule); err != nil {
			d.fail(err)
		}
	}
	return p
}

// check applies the rules on values.
func (p *Property) check(rule propertyRule) *Error {
	switch {
	case rule.kind == kindFlag && p.Number > 1:
		return violation(ProtocolError, "property 0x%02X is %d, it must be 0 or 1", byte(p.ID), p.Number)
	case rule.nonZero && p.Number == 0 && p.ID == TopicAlias:
		return violation(TopicAliasInvalid, "topic alias is 0, it must be 1 to 65535")
	case rule.nonZero && p.Number == 0:
		return violation(ProtocolError, "property 0x%02X is 0, it must be greater", byte(p.ID))
	case rule.kind == kindTopic:
		if err := CheckTopic(p.Text); err != nil {
			return violation(ProtocolError, "response topic: %s", err.Text)
		}
	}
	return nil
}

// properties writes the property block of a packet of type t.
func (e *encoder) properties(t Type, props Properties) {
	size := 0
	for i := range props {
		rule, ok := ruleFor(props[i].ID, t)
		if !ok {
			e.fail("property 0x%02X is not allowed in %s", byte(props[i].ID), t)
			return
		}
		size += props[i].size(rule.kind)
	}
	if size > maxVarint {
		e.fail("properties of %d bytes do not fit", size)
		return
	}
	e.dst = appendVarint(e.dst, size)
	for i := range props {
		e.property(&props[i])
	}
}

func (e *encoder) property(p *Property) {
	e.u8(byte(p.ID))
	switch propertyRules[p.ID].kind {
	case kindFlag:
		e.u8(byte(p.Number))
	case kindU16:
		e.u16(uint16(p.Number))
	case kindU32:
		e.u32(p.Number)
	case kindVarint:
		if p.Number > maxVarint {
			e.fail("property 0x%02X is %d, the limit is %d", byte(p.ID), p.Number, maxVarint)
		}
		e.dst = appendVarint(e.dst, int(p.Number))
	case kindPair:
		putBytes(e, p.Name)
		putBytes(e, p.Text)
	default:
		putBytes(e, p.Text)
	}
}

// size is the number of bytes on the wire.
func (p *Property) size(kind propertyKind) int {
	switch kind {
	case kindFlag:
		return 2
	case kindU16:
		return 3
	case kindU32:
		return 5
	case kindVarint:
		return 1 + varintSize(int(p.Number))
	case kindPair:
		return 5 + len(p.Name) + len(p.Text)
	}
	return 3 + len(p.Text)
}
