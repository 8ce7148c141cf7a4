package wire

// Descriptors of the performatives (part 2, section 7).
const (
	descOpen        = 0x10
	descBegin       = 0x11
	descAttach      = 0x12
	descFlow        = 0x13
	descTransfer    = 0x14
	descDisposition = 0x15
	descDetach      = 0x16
	descEnd         = 0x17
	descClose       = 0x18
	descError       = 0x1d
)

// Roles of a link's end (part 2, section 8.1).
const (
	RoleSender   = false
	RoleReceiver = true
)

// Settle modes (part 2, sections 8.2 and 8.3).
const (
	SndUnsettled uint8 = 0
	SndSettled   uint8 = 1
	SndMixed     uint8 = 2
	RcvFirst     uint8 = 0
	RcvSecond    uint8 = 1
)

// Performative is a frame body: a pointer to one of the types below or of the
// SASL types.
type Performative interface {
	// Append writes the performative; the payload of a Transfer follows it.
	Append(dst []byte) []byte
	decode(f *fields)
}

// Open negotiates the connection (section 7.1).
type Open struct {
	ContainerID  string
	Hostname     string
	MaxFrameSize uint32 // 4294967295 when left out
	ChannelMax   uint16 // 65535 when left out
	IdleTimeOut  uint32 // milliseconds; 0 for none
	Offered      []Symbol
	Desired      []Symbol
	Properties   Map // written; stepped over when read
}

// Begin starts a session (section 7.2).
type Begin struct {
	RemoteChannel  Opt[uint16]
	NextOutgoingID uint32
	IncomingWindow uint32
	OutgoingWindow uint32
	HandleMax      uint32 // 4294967295 when left out
}

// Attach attaches a link to a session (section 7.3).
type Attach struct {
	Name                 string
	Handle               uint32
	Role                 bool // of who writes the frame
	SndSettleMode        uint8
	RcvSettleMode        uint8
	Source               *Source
	Target               *Target
	InitialDeliveryCount Opt[uint32]
	MaxMessageSize       uint64 // 0 for no limit
	Offered              []Symbol
	Desired              []Symbol
}

// Flow updates session windows and link credit (section 7.4).
type Flow struct {
	NextIncomingID Opt[uint32]
	IncomingWindow uint32
	NextOutgoingID uint32
	OutgoingWindow uint32
	Handle         Opt[uint32]
	DeliveryCount  Opt[uint32]
	LinkCredit     Opt[uint32]
	Available      Opt[uint32]
	Drain          bool
	Echo           bool
}

// Transfer carries a message or a piece of one (section 7.5).
type Transfer struct {
	Handle        uint32
	DeliveryID    Opt[uint32]
	DeliveryTag   []byte // decoded: part of the frame
	MessageFormat Opt[uint32]
	Settled       Opt[bool]
	More          bool
	RcvSettleMode Opt[uint8]
	Resume        bool
	Aborted       bool
}

// Disposition tells of the state of deliveries (section 7.6).
type Disposition struct {
	Role    bool
	First   uint32
	Last    Opt[uint32]
	Settled bool
	State   State // nil for none
}

// Detach ends a link (section 7.7).
type Detach struct {
	Handle uint32
	Closed bool
	Error  *Error
}

// End ends a session (section 7.8).
type End struct{ Error *Error }

// Close ends the connection (section 7.9).
type Close struct{ Error *Error }

// DecodePerformative reads a frame body: the performative, and what follows it
// (the payload of a transfer), which is part of body.
func DecodePerformative(body []byte) (Performative, []byte, error) {
	r := reader{b: body}
	var p Performative
	switch d := r.descriptor(); d {
	case descOpen:
		p = new(Open)
	case descBegin:
		p = new(Begin)
	case descAttach:
		p = new(Attach)
	case descFlow:
		p = new(Flow)
	case descTransfer:
		p = new(Transfer)
	case descDisposition:
		p = new(Disposition)
	case descDetach:
		p = new(Detach)
	case descEnd:
		p = new(End)
	case descClose:
		p = new(Close)
	case descSASLMechanisms:
		p = new(SASLMechanisms)
	case descSASLInit:
		p = new(SASLInit)
	case descSASLChallenge:
		p = new(SASLChallenge)
	case descSASLResponse:
		p = new(SASLResponse)
	case descSASLOutcome:
		p = new(SASLOutcome)
	default:
		r.fail(malformed("no performative has the descriptor 0x%x", d))
		return nil, nil, r.err
	}
	f := r.fields()
	p.decode(&f)
	f.end(&r)
	return p, r.b, r.err
}
