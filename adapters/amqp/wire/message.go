package wire

// Descriptors of message sections (part 3, section 2).
const (
	secHeader                = 0x70
	secDeliveryAnnotations   = 0x71
	secMessageAnnotations    = 0x72
	secProperties            = 0x73
	secApplicationProperties = 0x74
	secData                  = 0x75
	secSequence              = 0x76
	secValue                 = 0x77
	secFooter                = 0x78
)

// MaxEntries bounds the entries decoded of one section.
const MaxEntries = 256

// Message is what we use of a message's sections. Decoding steps over the rest.
type Message struct {
	Durable       bool
	TTL           Opt[uint32] // milliseconds
	DeliveryCount uint32      // deliveries that failed before this one

	Annotations Map // message-annotations: symbols as keys

	MessageID          any // nil, uint64, UUID, []byte or string
	UserID             []byte
	To                 string
	Subject            string
	ReplyTo            string
	CorrelationID      any
	ContentType        Symbol
	ContentEncoding    Symbol
	AbsoluteExpiryTime Opt[Timestamp]
	CreationTime       Opt[Timestamp]
	GroupID            string
	GroupSequence      Opt[uint32]
	ReplyToGroupID     string

	Properties Map // application-properties: string keys, simple values

	Body []byte // decoded: part of the input when it is one piece
	Kind BodyKind

	typed    []byte // Typed: the body's sections, part of the input
	sequence bool   // they are amqp-sequences
}

// BodyKind says how the body came.
type BodyKind uint8

// The kinds of bodies.
const (
	NoBody BodyKind = iota // no body section, or an amqp-value of null
	Data                   // data sections, put together
	Text                   // an amqp-value string
	Binary                 // an amqp-value binary
	Typed                  // any other amqp-value, or amqp-sequences: Body is empty, and JSON gives it
)

// DecodeMessage reads the sections of a bare or annotated message, in the order
// the specification gives them. Sections that hold nothing we use are checked
// for their outer size only.
func DecodeMessage(data []byte) (Message, error) {
	var m Message
	r := reader{b: data}
	var last uint64
	var begin int // of the first of sections of one kind
	for len(r.b) > 0 && r.err == nil {
		start := len(data) - len(r.b)
		d := r.descriptor()
		if r.err != nil {
			break
		}
		if d < secHeader || d > secFooter {
			r.fail(malformed("no message section has the descriptor 0x%x", d))
			break
		}
		repeated := d == last && (d == secData || d == secSequence)
		mixed := d >= secData && d <= secValue && last >= secData && !repeated
		if d < last || d == last && !repeated || mixed {
			r.fail(malformed("message section 0x%x after 0x%x", d, last))
			break
		}
		if d != last {
			begin = start
		}
		last = d
		m.section(&r, d)
		if m.Kind == Typed && d >= secSequence && d <= secValue {
			m.typed, m.sequence = data[begin:len(data)-len(r.b)], d == secSequence
		}
	}
	return m, r.err
}

func (m *Message) section(r *reader, d uint64) {
	switch d {
	case secHeader:
		m.header(r)
	case secProperties:
		m.properties(r)
	case secApplicationProperties:
		m.Properties = r.entries((*reader).property)
	case secData:
		m.data(r.bytes())
	case secValue:
		m.value(r)
	case secMessageAnnotations:
		m.Annotations = r.entries((*reader).annotation)
	case secSequence:
		m.Kind = Typed
		r.skip()
	default:
		r.skip()
	}
}

func (m *Message) header(r *reader) {
	f := r.fields()
	m.Durable = field(&f, (*reader).bool, false)
	f.skip() // priority
	m.TTL = optional(&f, (*reader).uint)
	f.skip() // first-acquirer
	m.DeliveryCount = field(&f, (*reader).uint, 0)
	f.end(r)
}

func (m *Message) properties(r *reader) {
	f := r.fields()
	m.MessageID = field(&f, messageID, nil)
	m.UserID = field(&f, (*reader).bytes, nil)
	m.To = field(&f, address, "")
	m.Subject = field(&f, (*reader).string, "")
	m.ReplyTo = field(&f, address, "")
	m.CorrelationID = field(&f, messageID, nil)
	m.ContentType = field(&f, (*reader).symbol, "")
	m.ContentEncoding = field(&f, (*reader).symbol, "")
	m.AbsoluteExpiryTime = optional(&f, (*reader).timestamp)
	m.CreationTime = optional(&f, (*reader).timestamp)
	m.GroupID = field(&f, (*reader).string, "")
	m.GroupSequence = optional(&f, (*reader).uint)
	m.ReplyToGroupID = field(&f, (*reader).string, "")
	f.end(r)
}

// messageID reads one of the four forms of a message id (part 3, section 2.11).
func messageID(r *reader) any {
	switch v := r.value(MaxDepth).(type) {
	case uint64, UUID, []byte, string:
		return v
	default:
		r.fail(malformed("a message id of type %T", v))
	}
	return nil
}

// address reads an address; the specification allows other types than strings,
// and gives them no meaning.
func address(r *reader) string {
	if len(r.b) > 0 && (r.b[0] == codeStr8 || r.b[0] == codeStr32) {
		return r.string()
	}
	r.skip()
	return ""
}

// entries reads a map; one reads an entry, and says whether it is of use.
func (r *reader) entries(one func(*reader) (Pair, bool)) (out Map) {
	if r.null() {
		return nil
	}
	code := r.byte()
	if code != codeMap8 && code != codeMap32 {
		r.fail(malformed("a map is expected, not format code 0x%02x", code))
		return nil
	}
	body, count := r.compound(code)
	if count%2 != 0 || count/2 > MaxEntries {
		r.fail(malformed("a section of %d keys and values, the limit is %d entries", count, MaxEntries))
		return nil
	}
	for range count / 2 {
		p, ok := one(&body)
		if body.err != nil {
			break
		}
		if ok {
			out = append(out, p)
		}
	}
	r.close(&body)
	return out
}

// property reads an application property: its value is of a simple type (part 3,
// section 2.5).
func (r *reader) property() (Pair, bool) {
	p := Pair{Key: r.string()}
	p.Value = r.value(MaxDepth - 1)
	return p, true
}

// annotation reads an annotation. Its value may be of any type (section 2.10):
// those of simple types are of use.
func (r *reader) annotation() (p Pair, ok bool) {
	if len(r.b) > 0 && (r.b[0] == codeSym8 || r.b[0] == codeSym32) {
		p.Key, ok = r.symbol(), true
	} else {
		r.skip() // a ulong, which are reserved
	}
	if len(r.b) == 0 || r.b[0] == codeDescribed || r.b[0] >= codeList8 || !ok {
		r.skip()
		return p, false
	}
	p.Value = r.value(MaxDepth)
	return p, true
}

func (m *Message) data(b []byte) {
	if m.Kind == NoBody {
		m.Kind, m.Body = Data, b
		return
	}
	m.Body = append(m.Body, b...) // b has no room to grow into: this copies
}

func (m *Message) value(r *reader) {
	if len(r.b) == 0 {
		r.fail(errShort)
		return
	}
	switch r.b[0] {
	case codeNull:
		r.skip()
	case codeStr8, codeStr32:
		code := r.byte()
		m.Kind, m.Body = Text, r.take(r.size(code))
	case codeBin8, codeBin32:
		m.Kind, m.Body = Binary, r.bytes()
	default:
		m.Kind = Typed
		r.skip()
	}
}
