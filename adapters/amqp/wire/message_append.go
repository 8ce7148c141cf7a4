package wire

// AppendMessage writes a message: header, message annotations, properties,
// application properties and the body as one data section. Values of types without an encoding are an
// error.
func AppendMessage(dst []byte, m *Message) ([]byte, error) {
	if m.Durable || m.DeliveryCount > 0 || m.TTL.Set {
		l := beginList(dst, secHeader)
		put(&l, m.Durable, appendBool, true)
		l.null() // priority
		putOpt(&l, appendUint, m.TTL)
		l.null() // first-acquirer
		put(&l, m.DeliveryCount > 0, appendUint, m.DeliveryCount)
		dst = l.end()
	}
	var err error
	if len(m.Annotations) > 0 {
		if dst, err = Append(appendDescriptor(dst, secMessageAnnotations), m.Annotations); err != nil {
			return dst, err
		}
	}
	if dst, err = m.appendProperties(dst); err != nil {
		return dst, err
	}
	if len(m.Properties) > 0 {
		if dst, err = Append(appendDescriptor(dst, secApplicationProperties), m.Properties); err != nil {
			return dst, err
		}
	}
	return appendBinary(appendDescriptor(dst, secData), m.Body), nil
}

func (m *Message) appendProperties(dst []byte) ([]byte, error) {
	l := beginList(dst, secProperties)
	if err := l.any(m.MessageID); err != nil {
		return dst, err
	}
	put(&l, m.UserID != nil, appendBinary, m.UserID)
	put(&l, m.To != "", appendString, m.To)
	put(&l, m.Subject != "", appendString, m.Subject)
	put(&l, m.ReplyTo != "", appendString, m.ReplyTo)
	if err := l.any(m.CorrelationID); err != nil {
		return dst, err
	}
	put(&l, m.ContentType != "", appendSymbol, m.ContentType)
	put(&l, m.ContentEncoding != "", appendSymbol, m.ContentEncoding)
	putOpt(&l, appendTimestamp, m.AbsoluteExpiryTime)
	putOpt(&l, appendTimestamp, m.CreationTime)
	put(&l, m.GroupID != "", appendString, m.GroupID)
	putOpt(&l, appendUint, m.GroupSequence)
	put(&l, m.ReplyToGroupID != "", appendString, m.ReplyToGroupID)
	return l.end(), nil
}

func (l *list) any(v any) error {
	if v == nil {
		l.null()
		return nil
	}
	b, err := Append(l.b, v)
	if err == nil {
		l.wrote(b)
	}
	return err
}
