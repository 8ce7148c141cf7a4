package mqtt

import (
	"crypto/rand"
	"errors"
	"os"
	"time"

	"github.com/tributary-iot/tributary/adapters/mqtt/packet"
	"github.com/tributary-iot/tributary/device"
	"github.com/tributary-iot/tributary/internal/doorway"
)

// handshake reads CONNECT, finds out who is there and answers. An error means
// that the connection is refused and the answer, if any, is queued.
func (s *session) handshake() error {
	m := s.srv.metrics
	_ = s.conn.SetReadDeadline(time.Now().Add(s.srv.cfg.ConnectTimeout))
	if cause := s.ended(); cause != nil {
		return cause // ended between accept and the deadline
	}
	p, err := s.reader.Next()
	if err != nil {
		return s.connectError(err)
	}
	connect := p.(*packet.Connect) // the reader lets nothing else be first
	s.version = connect.Version
	if err := s.admitUnlessDraining(connect); err != nil {
		var no *refusal
		if errors.As(err, &no) {
			m.connects.WithLabelValues(no.result).Inc()
			s.refuse(no)
		}
		return err
	}
	m.connects.WithLabelValues("accepted").Inc()
	s.accept(connect)
	return s.goOn()
}

func (s *session) connectError(err error) error {
	var broken *packet.Error
	result := "lost"
	switch {
	case errors.As(err, &broken):
		result = "malformed"
		s.srv.metrics.malformed.Inc()
		s.refuseMalformed(broken)
	case errors.Is(err, os.ErrDeadlineExceeded):
		result = "timeout"
	}
	s.srv.metrics.connects.WithLabelValues(result).Inc()
	return err
}

// refuseMalformed answers a CONNECT that could not be read, as far as its
// version is known (3.1.2.2, 3.1.4).
func (s *session) refuseMalformed(err *packet.Error) {
	s.version = packet.Version(err.Level)
	switch {
	case err.Level == 0, err.Level == byte(packet.V311):
		return // 3.1.1 closes in silence, as we do with what may not be MQTT at all
	case err.Level < byte(packet.V5):
		s.version = packet.V311
	default:
		s.version = packet.V5
	}
	s.refuse(&refusal{reason: err.Reason, v311: packet.V311UnacceptableVersion, text: err.Text})
}

// refuse queues the CONNACK that turns the client away.
func (s *session) refuse(no *refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.version < packet.V5 {
		s.append(&packet.Connack{Reason: no.v311})
		return
	}
	s.appendReason(&packet.Connack{Reason: no.reason, Properties: no.where}, no.text)
}

// admit decides about a CONNECT that is well formed.
func (s *session) admit(c *packet.Connect) error {
	s.limits(c)
	if err := s.identify(c); err != nil {
		return err
	}
	ctx := s.srv.patience()
	defer ctx.end()
	anonymous := !c.HasUser && !c.HasPassword
	who, err := s.srv.gate.Authenticate(ctx, device.Credential{
		Protocol: device.MQTT, User: c.User, Secret: string(c.Password), Anonymous: anonymous,
		CertificateKey: s.certificateKey(), Hint: s.client, RemoteAddr: s.conn.RemoteAddr().String(),
	})
	if err != nil {
		no := refuseConnect(err, anonymous)
		if no.result == "unauthenticated" {
			s.srv.metrics.authFailures.Inc()
		}
		s.srv.cfg.Logger.Debug("refused a connection", "user", c.User, "remote", s.conn.RemoteAddr().String(), "error", err)
		return no
	}
	s.who = who
	s.leave, err = s.srv.gate.Connect(who, device.Session{Device: who.ID, Protocol: device.MQTT, Client: s.client}, s.expel)
	if err != nil {
		return refuseConnect(err, anonymous)
	}
	return s.joinTopics(ctx, c)
}

// certificateKey is the key the client proved to hold over TLS, if it did.
func (s *session) certificateKey() device.KeyHash {
	if cert := doorway.PeerCertificate(s.conn); cert != nil {
		return device.KeyHashOf(cert)
	}
	return device.KeyHash{}
}

// expel ends the session because the house says so.
func (s *session) expel(why device.Leaving) { s.end(expelled(why)) }

// identify settles the client identifier (3.1.3.1).
func (s *session) identify(c *packet.Connect) error {
	if _, ok := c.Properties.Text(packet.AuthMethod); ok {
		return refuseID(packet.BadAuthenticationMethod, "extended authentication is not supported")
	}
	switch s.client = c.ClientID; {
	case len(c.ClientID) > maxClientID:
		return refuseID(packet.ClientIDNotValid, "client identifier is longer than 256 bytes")
	case c.ClientID == "" && c.Version < packet.V5 && !c.CleanStart:
		return refuseID(packet.ClientIDNotValid, "an empty client identifier needs a clean session")
	case c.ClientID == "":
		s.client = "auto-" + rand.Text()
	}
	return nil
}

func refuseID(reason packet.Reason, text string) *refusal {
	return &refusal{reason: reason, v311: packet.V311IdentifierRejected, text: text, result: "refused"}
}

// limits takes over what the client can bear.
func (s *session) limits(c *packet.Connect) {
	s.peerWindow, s.peerPacket = int32(s.srv.cfg.Window), packet.MaxPacketBytes
	if n, ok := c.Properties.Number(packet.ReceiveMaximum); ok {
		s.peerWindow = min(s.peerWindow, int32(min(n, 1<<16)))
	}
	if n, ok := c.Properties.Number(packet.TopicAliasMaximum); ok {
		s.peerAlias = uint8(min(n, maxAliasesOut))
	}
	if n, ok := c.Properties.Number(packet.MaximumPacketSize); ok {
		s.peerPacket = int32(min(packet.MaxPacketBytes, n))
	}
	if n, ok := c.Properties.Number(packet.RequestProblemInfo); ok {
		s.problems = n == 1
	}
}

// accept makes the session its client's own and queues the CONNACK.
func (s *session) accept(c *packet.Connect) {
	s.keepAlive = time.Duration(c.KeepAlive) * time.Second
	answer := &packet.Connack{SessionPresent: s.present}
	if s.version >= packet.V5 {
		answer.Properties = s.capabilities(c)
	}
	s.joined = true
	s.srv.metrics.connections.Inc()
	s.reader.SetLimit(s.srv.cfg.maxPacket())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause == nil {
		_ = s.conn.SetReadDeadline(time.Time{})
	}
	s.hold()
	if !s.append(answer) {
		s.endLocked(closeWith(packet.PacketTooLarge, "the client's maximum packet size leaves no room for CONNACK"))
	}
}

// capabilities is what a MQTT 5 client must know of us (3.2.2.3).
func (s *session) capabilities(c *packet.Connect) packet.Properties {
	cfg := s.srv.cfg
	p := make(packet.Properties, 0, 10)
	if s.asked {
		p.AddNumber(packet.SessionExpiry, uint32(s.expiry/time.Second))
	}
	p.AddNumber(packet.ReceiveMaximum, uint32(cfg.Window))
	if cfg.Topics == nil {
		p.AddNumber(packet.RetainAvailable, 0)
	}
	if cfg.AliasesIn > 0 {
		p.AddNumber(packet.TopicAliasMaximum, uint32(cfg.AliasesIn))
	}
	p.AddNumber(packet.MaximumPacketSize, uint32(cfg.maxPacket()))
	if c.ClientID == "" {
		p.AddText(packet.AssignedClientID, s.client)
	}
	if cfg.Topics == nil {
		p.AddNumber(packet.SharedSubAvailable, 0)
	} else {
		p.AddNumber(packet.SharedSubAvailable, 1)
	}
	if s.keepAlive == 0 || s.keepAlive > cfg.MaxKeepAlive {
		s.keepAlive = cfg.MaxKeepAlive.Truncate(time.Second)
		p.AddNumber(packet.ServerKeepAlive, uint32(s.keepAlive/time.Second))
	}
	return p
}
