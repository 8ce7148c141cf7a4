package wire

import "math"

// Append implements Performative.
func (p *Open) Append(dst []byte) []byte {
	l := beginList(dst, descOpen)
	put(&l, true, appendString, p.ContainerID)
	put(&l, p.Hostname != "", appendString, p.Hostname)
	put(&l, p.MaxFrameSize != math.MaxUint32, appendUint, p.MaxFrameSize)
	put(&l, p.ChannelMax != math.MaxUint16, appendUshort, p.ChannelMax)
	put(&l, p.IdleTimeOut != 0, appendUint, p.IdleTimeOut)
	l.null() // outgoing-locales
	l.null() // incoming-locales
	put(&l, len(p.Offered) > 0, appendSymbols, p.Offered)
	put(&l, len(p.Desired) > 0, appendSymbols, p.Desired)
	put(&l, len(p.Properties) > 0, appendMap, p.Properties)
	return l.end()
}

// Append implements Performative.
func (p *Begin) Append(dst []byte) []byte {
	l := beginList(dst, descBegin)
	putOpt(&l, appendUshort, p.RemoteChannel)
	put(&l, true, appendUint, p.NextOutgoingID)
	put(&l, true, appendUint, p.IncomingWindow)
	put(&l, true, appendUint, p.OutgoingWindow)
	put(&l, p.HandleMax != math.MaxUint32, appendUint, p.HandleMax)
	return l.end()
}

// Append implements Performative.
func (p *Attach) Append(dst []byte) []byte {
	l := beginList(dst, descAttach)
	put(&l, true, appendString, p.Name)
	put(&l, true, appendUint, p.Handle)
	put(&l, true, appendBool, p.Role)
	put(&l, p.SndSettleMode != SndMixed, appendUbyte, p.SndSettleMode)
	put(&l, p.RcvSettleMode != RcvFirst, appendUbyte, p.RcvSettleMode)
	put(&l, p.Source != nil, appendSource, p.Source)
	put(&l, p.Target != nil, appendTarget, p.Target)
	l.null() // unsettled
	l.null() // incomplete-unsettled
	putOpt(&l, appendUint, p.InitialDeliveryCount)
	put(&l, p.MaxMessageSize != 0, appendUlong, p.MaxMessageSize)
	put(&l, len(p.Offered) > 0, appendSymbols, p.Offered)
	put(&l, len(p.Desired) > 0, appendSymbols, p.Desired)
	return l.end()
}

// Append implements Performative.
func (p *Flow) Append(dst []byte) []byte {
	l := beginList(dst, descFlow)
	putOpt(&l, appendUint, p.NextIncomingID)
	put(&l, true, appendUint, p.IncomingWindow)
	put(&l, true, appendUint, p.NextOutgoingID)
	put(&l, true, appendUint, p.OutgoingWindow)
	putOpt(&l, appendUint, p.Handle)
	putOpt(&l, appendUint, p.DeliveryCount)
	putOpt(&l, appendUint, p.LinkCredit)
	putOpt(&l, appendUint, p.Available)
	put(&l, p.Drain, appendBool, true)
	put(&l, p.Echo, appendBool, true)
	return l.end()
}

// Append implements Performative.
func (p *Transfer) Append(dst []byte) []byte {
	l := beginList(dst, descTransfer)
	put(&l, true, appendUint, p.Handle)
	putOpt(&l, appendUint, p.DeliveryID)
	put(&l, p.DeliveryTag != nil, appendBinary, p.DeliveryTag)
	putOpt(&l, appendUint, p.MessageFormat)
	putOpt(&l, appendBool, p.Settled)
	put(&l, p.More, appendBool, true)
	putOpt(&l, appendUbyte, p.RcvSettleMode)
	l.null() // state
	put(&l, p.Resume, appendBool, true)
	put(&l, p.Aborted, appendBool, true)
	return l.end()
}

// Append implements Performative.
func (p *Disposition) Append(dst []byte) []byte {
	l := beginList(dst, descDisposition)
	put(&l, true, appendBool, p.Role)
	put(&l, true, appendUint, p.First)
	putOpt(&l, appendUint, p.Last)
	put(&l, p.Settled, appendBool, true)
	put(&l, p.State != nil, appendState, p.State)
	return l.end()
}

// Append implements Performative.
func (p *Detach) Append(dst []byte) []byte {
	l := beginList(dst, descDetach)
	put(&l, true, appendUint, p.Handle)
	put(&l, p.Closed, appendBool, true)
	put(&l, p.Error != nil, appendError, p.Error)
	return l.end()
}

// Append implements Performative.
func (p *End) Append(dst []byte) []byte {
	l := beginList(dst, descEnd)
	put(&l, p.Error != nil, appendError, p.Error)
	return l.end()
}

// Append implements Performative.
func (p *Close) Append(dst []byte) []byte {
	l := beginList(dst, descClose)
	put(&l, p.Error != nil, appendError, p.Error)
	return l.end()
}

func appendMap(dst []byte, m Map) []byte {
	out, err := Append(dst, m)
	if err != nil { // ours alone to write: a type without an encoding is a bug, and says nothing
		return append(dst, codeNull)
	}
	return out
}
