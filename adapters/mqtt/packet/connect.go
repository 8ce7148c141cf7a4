package packet

// Connect is the client's first packet (3.1).
type Connect struct {
	Version     Version
	CleanStart  bool   // Clean Session on 3.1.1
	KeepAlive   uint16 // seconds; 0 turns it off
	Properties  Properties
	ClientID    string // may be empty
	Will        *Will  // nil when there is none
	HasUser     bool
	User        string
	HasPassword bool
	Password    []byte
}

// Will is the message to publish when the client is lost (3.1.2.5).
type Will struct {
	Topic      string
	Payload    []byte
	QoS        byte
	Retain     bool
	Properties Properties
}

const (
	flagReserved   = 1 << 0
	flagCleanStart = 1 << 1
	flagWill       = 1 << 2
	flagWillRetain = 1 << 5
	flagPassword   = 1 << 6
	flagUser       = 1 << 7
	willQoSShift   = 3
)

// Type is CONNECT.
func (*Connect) Type() Type { return CONNECT }

// decodeConnect leaves nothing pointing into the buffer.
func decodeConnect(body []byte) (*Connect, error) {
	d := decoder{b: body}
	name := d.textBytes()
	level := d.u8()
	if d.err != nil {
		return nil, d.err
	}
	if err := checkProtocol(string(name), level); err != nil {
		return nil, err
	}
	d.version = Version(level)
	c := &Connect{Version: d.version}
	flags := d.u8()
	if err := checkConnectFlags(flags, d.version); err != nil {
		d.fail(err)
	}
	c.CleanStart = flags&flagCleanStart != 0
	c.KeepAlive = d.u16()
	c.Properties = d.properties(CONNECT, nil)
	c.ClientID = d.text()
	if flags&flagWill != 0 {
		c.Will = d.will(flags)
	}
	if c.HasUser = flags&flagUser != 0; c.HasUser {
		c.User = d.text()
	}
	if c.HasPassword = flags&flagPassword != 0; c.HasPassword {
		c.Password = append([]byte(nil), d.bytes()...)
	}
	d.end()
	d.checkAuth(c.Properties)
	if d.err != nil {
		return nil, withLevel(d.err, level)
	}
	return c, nil
}

func (d *decoder) will(flags byte) *Will {
	w := &Will{QoS: flags >> willQoSShift & 3, Retain: flags&flagWillRetain != 0}
	w.Properties = d.properties(will, nil)
	w.Topic = d.text()
	w.Payload = append([]byte(nil), d.bytes()...)
	if err := CheckTopic(w.Topic); err != nil && d.err == nil {
		d.fail(violation(err.Reason, "will: %s", err.Text))
	}
	return w
}

func withLevel(err error, level byte) error {
	if e, ok := err.(*Error); ok {
		e.Level = level
	}
	return err
}

// checkProtocol accepts "MQTT" at level 4 or 5 (3.1.2.1, 3.1.2.2).
func checkProtocol(name string, level byte) error {
	switch {
	case name == "MQIsdp" && level == 3, name == "MQTT" && level != byte(V311) && level != byte(V5):
		return &Error{Reason: UnsupportedVersion, Level: level,
			Text: "protocol version is not supported, use MQTT 3.1.1 (level 4) or 5 (level 5)"}
	case name != "MQTT":
		return malformed("protocol name is not MQTT")
	}
	return nil
}

// checkConnectFlags applies 3.1.2.3 to 3.1.2.9.
func checkConnectFlags(flags byte, v Version) *Error {
	qos := flags >> willQoSShift & 3
	switch {
	case flags&flagReserved != 0:
		return malformed("the reserved connect flag is set")
	case flags&flagWill == 0 && (qos != 0 || flags&flagWillRetain != 0):
		return malformed("will QoS or will retain is set without a will")
	case qos == 3:
		return malformed("will QoS is 3, it must be 0 to 2")
	case v == V311 && flags&flagPassword != 0 && flags&flagUser == 0:
		return malformed("a password without a user name is not allowed on 3.1.1")
	}
	return nil
}

// checkAuth refuses authentication data without a method (3.1.2.11.10).
func (d *decoder) checkAuth(p Properties) {
	_, data := p.Text(AuthData)
	if _, method := p.Text(AuthMethod); d.err == nil && data && !method {
		d.fail(violation(ProtocolError, "authentication data without an authentication method"))
	}
}

// Append encodes the packet; v is ignored in favour of c.Version.
func (c *Connect) Append(dst []byte, _ Version) ([]byte, error) {
	e := encode(dst)
	putBytes(&e, "MQTT")
	e.u8(byte(c.Version))
	e.u8(c.flags())
	e.u16(c.KeepAlive)
	if c.Version >= V5 {
		e.properties(CONNECT, c.Properties)
	}
	putBytes(&e, c.ClientID)
	if w := c.Will; w != nil {
		if c.Version >= V5 {
			e.properties(will, w.Properties)
		}
		putBytes(&e, w.Topic)
		putBytes(&e, w.Payload)
	}
	if c.HasUser {
		putBytes(&e, c.User)
	}
	if c.HasPassword {
		putBytes(&e, c.Password)
	}
	return e.finish(CONNECT, 0)
}

func (c *Connect) flags() byte {
	var f byte
	set := func(on bool, bit byte) {
		if on {
			f |= bit
		}
	}
	set(c.CleanStart, flagCleanStart)
	set(c.HasUser, flagUser)
	set(c.HasPassword, flagPassword)
	if w := c.Will; w != nil {
		f |= flagWill | w.QoS&3<<willQoSShift
		set(w.Retain, flagWillRetain)
	}
	return f
}
