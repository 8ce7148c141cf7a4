package wire

// Descriptors of termini (part 3, section 5; part 4, section 5.1).
const (
	descSource      = 0x28
	descTarget      = 0x29
	descCoordinator = 0x30
)

// Source is where a link's messages come from (part 3, section 5.3).
type Source struct {
	Address        Opt[string]
	Durable        uint32
	ExpiryPolicy   Symbol // "" when left out: session-end
	Timeout        uint32
	Dynamic        bool
	Filter         Map // of symbols and described values
	DefaultOutcome State
	Outcomes       []Symbol
	Capabilities   []Symbol
}

// Target is where a link's messages go (part 3, section 5.4).
type Target struct {
	Address      Opt[string] // not set: the anonymous terminus
	Durable      uint32
	ExpiryPolicy Symbol
	Timeout      uint32
	Dynamic      bool
	Capabilities []Symbol
	Coordinator  bool // a transaction coordinator in place of a node; decoded only
}

func readSource(r *reader) *Source {
	if d := r.descriptor(); d != descSource {
		r.fail(malformed("a source is expected, not the descriptor 0x%x", d))
		return nil
	}
	f, s := r.fields(), new(Source)
	s.Address = optional(&f, (*reader).string)
	s.Durable = field(&f, (*reader).uint, 0)
	s.ExpiryPolicy = field(&f, (*reader).symbol, "")
	s.Timeout = field(&f, (*reader).uint, 0)
	s.Dynamic = field(&f, (*reader).bool, false)
	f.skip() // dynamic-node-properties
	f.skip() // distribution-mode
	s.Filter = field(&f, filters, nil)
	s.DefaultOutcome = field(&f, readState, nil)
	s.Outcomes = field(&f, symbols, nil)
	s.Capabilities = field(&f, symbols, nil)
	f.end(r)
	return s
}

// filters reads a filter-set (part 3, section 5.8).
func filters(r *reader) Map {
	if len(r.b) == 0 || r.b[0] != codeMap8 && r.b[0] != codeMap32 {
		r.fail(malformed("a filter-set that is no map"))
		return nil
	}
	m, _ := r.value(0).(Map)
	return m
}

func appendSource(dst []byte, s *Source) []byte {
	l := beginList(dst, descSource)
	putOpt(&l, appendString, s.Address)
	put(&l, s.Durable != 0, appendUint, s.Durable)
	put(&l, s.ExpiryPolicy != "", appendSymbol, s.ExpiryPolicy)
	put(&l, s.Timeout != 0, appendUint, s.Timeout)
	put(&l, s.Dynamic, appendBool, true)
	l.null() // dynamic-node-properties
	l.null() // distribution-mode
	put(&l, len(s.Filter) > 0, appendMap, s.Filter)
	put(&l, s.DefaultOutcome != nil, appendState, s.DefaultOutcome)
	put(&l, len(s.Outcomes) > 0, appendSymbols, s.Outcomes)
	put(&l, len(s.Capabilities) > 0, appendSymbols, s.Capabilities)
	return l.end()
}

func readTarget(r *reader) *Target {
	switch d := r.descriptor(); d {
	case descTarget:
	case descCoordinator:
		f := r.fields()
		f.end(r)
		return &Target{Coordinator: true}
	default:
		r.fail(malformed("a target is expected, not the descriptor 0x%x", d))
		return nil
	}
	f, t := r.fields(), new(Target)
	t.Address = optional(&f, (*reader).string)
	t.Durable = field(&f, (*reader).uint, 0)
	t.ExpiryPolicy = field(&f, (*reader).symbol, "")
	t.Timeout = field(&f, (*reader).uint, 0)
	t.Dynamic = field(&f, (*reader).bool, false)
	f.skip() // dynamic-node-properties
	t.Capabilities = field(&f, symbols, nil)
	f.end(r)
	return t
}

func appendTarget(dst []byte, t *Target) []byte {
	l := beginList(dst, descTarget)
	putOpt(&l, appendString, t.Address)
	put(&l, t.Durable != 0, appendUint, t.Durable)
	put(&l, t.ExpiryPolicy != "", appendSymbol, t.ExpiryPolicy)
	put(&l, t.Timeout != 0, appendUint, t.Timeout)
	put(&l, t.Dynamic, appendBool, true)
	l.null() // dynamic-node-properties
	put(&l, len(t.Capabilities) > 0, appendSymbols, t.Capabilities)
	return l.end()
}
