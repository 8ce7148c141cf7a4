package packet

// PropertyID names a property (2.2.2.2).
type PropertyID byte

// The properties of MQTT 5.
const (
	PayloadFormat        PropertyID = 0x01
	MessageExpiry        PropertyID = 0x02
	ContentType          PropertyID = 0x03
	ResponseTopic        PropertyID = 0x08
	CorrelationData      PropertyID = 0x09
	SubscriptionID       PropertyID = 0x0B
	SessionExpiry        PropertyID = 0x11
	AssignedClientID     PropertyID = 0x12
	ServerKeepAlive      PropertyID = 0x13
	AuthMethod           PropertyID = 0x15
	AuthData             PropertyID = 0x16
	RequestProblemInfo   PropertyID = 0x17
	WillDelay            PropertyID = 0x18
	RequestResponseInfo  PropertyID = 0x19
	ResponseInfo         PropertyID = 0x1A
	ServerReference      PropertyID = 0x1C
	ReasonString         PropertyID = 0x1F
	ReceiveMaximum       PropertyID = 0x21
	TopicAliasMaximum    PropertyID = 0x22
	TopicAlias           PropertyID = 0x23
	MaximumQoS           PropertyID = 0x24
	RetainAvailable      PropertyID = 0x25
	UserProperty         PropertyID = 0x26
	MaximumPacketSize    PropertyID = 0x27
	WildcardSubAvailable PropertyID = 0x28
	SubIDAvailable       PropertyID = 0x29
	SharedSubAvailable   PropertyID = 0x2A
)

// MaxUserProperties bounds the user properties of one packet: the text sets no
// limit, and each costs many times its five bytes on the wire.
const MaxUserProperties = 256

// Property is one of a packet's properties. Which field holds the value
// depends on ID: integers are in Number, strings and binary data in Text, and
// a user property has Name and Text.
type Property struct {
	ID     PropertyID
	Number uint32
	Name   string
	Text   string
}

// Properties are a packet's properties in the order of the wire.
type Properties []Property

// Number finds an integer property.
func (p Properties) Number(id PropertyID) (uint32, bool) {
	for i := range p {
		if p[i].ID == id {
			return p[i].Number, true
		}
	}
	return 0, false
}

// Text finds a string or binary property.
func (p Properties) Text(id PropertyID) (string, bool) {
	for i := range p {
		if p[i].ID == id {
			return p[i].Text, true
		}
	}
	return "", false
}

// User finds the first user property of that name.
func (p Properties) User(name string) (string, bool) {
	for i := range p {
		if p[i].ID == UserProperty && p[i].Name == name {
			return p[i].Text, true
		}
	}
	return "", false
}

// AddNumber appends an integer property.
func (p *Properties) AddNumber(id PropertyID, v uint32) {
	*p = append(*p, Property{ID: id, Number: v})
}

// AddText appends a string or binary property.
func (p *Properties) AddText(id PropertyID, v string) {
	*p = append(*p, Property{ID: id, Text: v})
}

// AddUser appends a user property.
func (p *Properties) AddUser(name, value string) {
	*p = append(*p, Property{ID: UserProperty, Name: name, Text: value})
}

type propertyKind byte

const (
	kindNone   propertyKind = iota
	kindFlag                // a byte, 0 or 1
	kindU16                 // two bytes
	kindU32                 // four bytes
	kindVarint              // variable byte integer
	kindText                // UTF-8 string
	kindTopic               // UTF-8 string without wildcards
	kindBinary              // binary data
	kindPair                // two UTF-8 strings
)

// propertyRule is one row of table 2-4.
type propertyRule struct {
	kind    propertyKind
	in      uint16 // bit 1<<Type for each packet that may carry it; bit 0 is the will
	nonZero bool   // 0 is a protocol error
}

const (
	inWill    = 1 << will
	inConnect = 1 << CONNECT
	inConnack = 1 << CONNACK
	inPublish = 1 << PUBLISH
	inAuth    = 1 << AUTH
	inReasons = inConnack | 1<<PUBACK | 1<<PUBREC | 1<<PUBREL | 1<<PUBCOMP | 1<<SUBACK | 1<<UNSUBACK | 1<<DISCONNECT | inAuth
	inAll     = inReasons | inWill | inConnect | inPublish | 1<<SUBSCRIBE | 1<<UNSUBSCRIBE
)

var propertyRules = [...]propertyRule{
	PayloadFormat:        {kindFlag, inPublish | inWill, false},
	MessageExpiry:        {kindU32, inPublish | inWill, false},
	ContentType:          {kindText, inPublish | inWill, false},
	ResponseTopic:        {kindTopic, inPublish | inWill, false},
	CorrelationData:      {kindBinary, inPublish | inWill, false},
	SubscriptionID:       {kindVarint, inPublish | 1<<SUBSCRIBE, true},
	SessionExpiry:        {kindU32, inConnect | inConnack | 1<<DISCONNECT, false},
	AssignedClientID:     {kindText, inConnack, false},
	ServerKeepAlive:      {kindU16, inConnack, false},
	AuthMethod:           {kindText, inConnect | inConnack | inAuth, false},
	AuthData:             {kindBinary, inConnect | inConnack | inAuth, false},
	RequestProblemInfo:   {kindFlag, inConnect, false},
	WillDelay:            {kindU32, inWill, false},
	RequestResponseInfo:  {kindFlag, inConnect, false},
	ResponseInfo:         {kindText, inConnack, false},
	ServerReference:      {kindText, inConnack | 1<<DISCONNECT, false},
	ReasonString:         {kindText, inReasons, false},
	ReceiveMaximum:       {kindU16, inConnect | inConnack, true},
	TopicAliasMaximum:    {kindU16, inConnect | inConnack, false},
	TopicAlias:           {kindU16, inPublish, true},
	MaximumQoS:           {kindFlag, inConnack, false},
	RetainAvailable:      {kindFlag, inConnack, false},
	UserProperty:         {kindPair, inAll, false},
	MaximumPacketSize:    {kindU32, inConnect | inConnack, true},
	WildcardSubAvailable: {kindFlag, inConnack, false},
	SubIDAvailable:       {kindFlag, inConnack, false},
	SharedSubAvailable:   {kindFlag, inConnack, false},
}

// ruleFor gives the row of id when a packet of type t may carry it.
func ruleFor(id PropertyID, t Type) (propertyRule, bool) {
	if int(id) >= len(propertyRules) {
		return propertyRule{}, false
	}
	rule := propertyRules[id]
	return rule, rule.in&(1<<t) != 0
}
