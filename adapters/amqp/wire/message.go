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

// MaxApplicationProperties bounds the entries decoded of one message.
const MaxApplicationProperties = 256

// Message is what we use of a message's sections. Decoding steps over the rest.
type Message struct {
	Durable       bool
	DeliveryCount uint32 // deliveries that failed before this one

	MessageID          any // nil, uint64, UUID, []byte or string
	To                 string
	Subject            string
	ReplyTo            string
	CorrelationID      any
	ContentType        Symbol
	AbsoluteExpiryTime Opt[Timestamp]
	CreationTime       Opt[Timestamp]

	Properties Map // application-properties: string keys, simple values

	Body []byte // decoded: part of the input when it is one piece
	Kind BodyKind
}

// BodyKind says how the body came.
type BodyKind uint8

// The kinds of bodies.
const (
	NoBody BodyKind = iota // no body section, or an amqp-value of null
	Data                   // data sections, put together
	Text                   // an amqp-value string
	Binary                 // an amqp-value binary
	Opaque                 // any other amqp-value, or amqp-sequence: Body is empty
)

// DecodeMessage reads the sections of a bare or annotated message, in the order
// the specification gives them. Sections that hold nothing we use are checked
// for their outer size only.
func DecodeMessage(data []byte) (Message, error) {
	var m Message
	r := reader{b: data}
	var last uint64
	for len(r.b) > 0 && r.err == nil {
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
		last = d
		m.section(&r, d)
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
		m.applicationProperties(r)
	case secData:
		m.data(r.bytes())
	case secValue:
		m.value(r)
	case secSequence:
		m.Kind = Opaque
		r.skip()
	default:
		r.skip()
	}
}

func (m *Message) header(r *reader) {
	f := r.fields()
	m.Durable = field(&f, (*reader).bool, false)
	f.skip() // priority
	f.skip() // ttl
	f.skip() // first-acquirer
	m.DeliveryCount = field(&f, (*reader).uint, 0)
	f.end(r)
}

func (m *Message) properties(r *reader) {
	f := r.fields()
	m.MessageID = field(&f, messageID, nil)
	f.skip() // user-id: identity comes from the connection
	m.To = field(&f, address, "")
	m.Subject = field(&f, (*reader).string, "")
	m.ReplyTo = field(&f, address, "")
	m.CorrelationID = field(&f, messageID, nil)
	m.ContentType = field(&f, (*reader).symbol, "")
	f.skip() // content-encoding
	m.AbsoluteExpiryTime = optional(&f, (*reader).timestamp)
	m.CreationTime = optional(&f, (*reader).timestamp)
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

func (m *Message) applicationProperties(r *reader) {
	if r.null() {
		return
	}
	code := r.byte()
	if code != codeMap8 && code != codeMap32 {
		r.fail(malformed("application properties of format code 0x%02x", code))
		return
	}
	body, count := r.compound(code)
	if count%2 != 0 || count/2 > MaxApplicationProperties {
		r.fail(malformed("application properties with %d keys and values, the limit is %d entries", count, MaxApplicationProperties))
		return
	}
	for range count / 2 {
		p := Pair{Key: body.string()}
		p.Value = body.value(MaxDepth - 1) // simple types only
		if body.err != nil {
			break
		}
		m.Properties = append(m.Properties, p)
	}
	r.close(&body)
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
		m.Kind = Opaque
		r.skip()
	}
}
