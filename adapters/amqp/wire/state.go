package wire

// Descriptors of delivery states (part 3, section 4).
const (
	descReceived = 0x23
	descAccepted = 0x24
	descRejected = 0x25
	descReleased = 0x26
	descModified = 0x27
)

// State is the state of a delivery: Received, or one of the outcomes Accepted,
// Rejected, Released and Modified. Unknown states read as Unknown.
type State interface{ appendTo(dst []byte) []byte }

// The states.
type (
	// Received tells how far a partial delivery came; we only step over it.
	Received struct{}
	// Accepted: processed.
	Accepted struct{}
	// Rejected: invalid, and why.
	Rejected struct{ Error *Error }
	// Released: not processed, may be sent again.
	Released struct{}
	// Modified: not processed, and changed.
	Modified struct {
		DeliveryFailed    bool
		UndeliverableHere bool
	}
	// Unknown is a state of another specification, such as a transaction's.
	Unknown struct{ Descriptor uint64 }
)

func readState(r *reader) State {
	d := r.descriptor()
	f := r.fields()
	defer f.end(r)
	switch d {
	case descReceived:
		return Received{}
	case descAccepted:
		return Accepted{}
	case descRejected:
		return Rejected{Error: field(&f, readError, nil)}
	case descReleased:
		return Released{}
	case descModified:
		m := Modified{DeliveryFailed: field(&f, (*reader).bool, false)}
		m.UndeliverableHere = field(&f, (*reader).bool, false)
		return m
	}
	return Unknown{Descriptor: d}
}

func appendState(dst []byte, s State) []byte { return s.appendTo(dst) }

func (Received) appendTo(dst []byte) []byte {
	l := beginList(dst, descReceived)
	put(&l, true, appendUint, 0)
	put(&l, true, appendUlong, 0)
	return l.end()
}

func (Accepted) appendTo(dst []byte) []byte {
	return append(appendDescriptor(dst, descAccepted), codeList0)
}

func (s Rejected) appendTo(dst []byte) []byte {
	l := beginList(dst, descRejected)
	put(&l, s.Error != nil, appendError, s.Error)
	return l.end()
}

func (Released) appendTo(dst []byte) []byte {
	return append(appendDescriptor(dst, descReleased), codeList0)
}

func (s Modified) appendTo(dst []byte) []byte {
	l := beginList(dst, descModified)
	put(&l, s.DeliveryFailed, appendBool, true)
	put(&l, s.UndeliverableHere, appendBool, true)
	return l.end()
}

func (s Unknown) appendTo(dst []byte) []byte {
	dst = appendUlong(append(dst, codeDescribed), s.Descriptor)
	return append(dst, codeList0)
}
