package wire

// Descriptors of the SASL frames (part 5, section 3.3).
const (
	descSASLMechanisms = 0x40
	descSASLInit       = 0x41
	descSASLChallenge  = 0x42
	descSASLResponse   = 0x43
	descSASLOutcome    = 0x44
)

// Outcome codes of SASL (part 5, section 3.3.6).
const (
	SASLOK        uint8  = 0
	SASLAuth      uint8  = 1 // wrong credential
	SASLSys       uint8  = 2
	SASLSysPerm   uint8  = 3
	SASLSysTemp   uint8  = 4 // try later
	MaxSASLFrame         = 512
	MechAnonymous Symbol = "ANONYMOUS"
	MechPlain     Symbol = "PLAIN"
	MechExternal  Symbol = "EXTERNAL"
)

// SASLMechanisms is the server's offer.
type SASLMechanisms struct{ Mechanisms []Symbol }

// SASLInit is the client's choice.
type SASLInit struct {
	Mechanism Symbol
	Response  []byte // copied
	Hostname  string
}

// SASLChallenge is a server's question.
type SASLChallenge struct{ Challenge []byte }

// SASLResponse is the client's answer to a challenge.
type SASLResponse struct{ Response []byte }

// SASLOutcome is the server's verdict.
type SASLOutcome struct{ Code uint8 }

func (p *SASLMechanisms) decode(f *fields) {
	p.Mechanisms = required(f, "sasl-server-mechanisms", symbols)
}

func (p *SASLInit) decode(f *fields) {
	p.Mechanism = required(f, "mechanism", (*reader).symbol)
	p.Response = clone(field(f, (*reader).bytes, nil))
	p.Hostname = field(f, (*reader).string, "")
}

func (p *SASLChallenge) decode(f *fields) {
	p.Challenge = clone(required(f, "challenge", (*reader).bytes))
}

func (p *SASLResponse) decode(f *fields) {
	p.Response = clone(required(f, "response", (*reader).bytes))
}

func (p *SASLOutcome) decode(f *fields) { p.Code = required(f, "code", (*reader).ubyte) }

// Append implements Performative. The mechanisms are always an array: some
// peers do not read a single symbol here.
func (p *SASLMechanisms) Append(dst []byte) []byte {
	l := beginList(dst, descSASLMechanisms)
	array := make(Array, len(p.Mechanisms))
	for i, m := range p.Mechanisms {
		array[i] = m
	}
	b, _ := appendArray(l.b, array) // symbols are the arrays it can write
	l.wrote(b)
	return l.end()
}

// Append implements Performative.
func (p *SASLInit) Append(dst []byte) []byte {
	l := beginList(dst, descSASLInit)
	put(&l, true, appendSymbol, p.Mechanism)
	put(&l, p.Response != nil, appendBinary, p.Response)
	put(&l, p.Hostname != "", appendString, p.Hostname)
	return l.end()
}

// Append implements Performative.
func (p *SASLChallenge) Append(dst []byte) []byte {
	l := beginList(dst, descSASLChallenge)
	put(&l, true, appendBinary, p.Challenge)
	return l.end()
}

// Append implements Performative.
func (p *SASLResponse) Append(dst []byte) []byte {
	l := beginList(dst, descSASLResponse)
	put(&l, true, appendBinary, p.Response)
	return l.end()
}

// Append implements Performative.
func (p *SASLOutcome) Append(dst []byte) []byte {
	l := beginList(dst, descSASLOutcome)
	put(&l, true, appendUbyte, p.Code)
	return l.end()
}
