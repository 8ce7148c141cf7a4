package https

import (
	"github.com/tributary-iot/tributary/adapters"
	"github.com/tributary-iot/tributary/device"
)

// authenticate asks the gate who the request comes from.
func (s *Server) authenticate(c *call) (device.Principal, error) {
	credential := device.Credential{Protocol: device.HTTP, RemoteAddr: c.r.RemoteAddr}
	if c.r.TLS != nil && len(c.r.TLS.PeerCertificates) > 0 {
		credential.CertificateKey = device.KeyHashOf(c.r.TLS.PeerCertificates[0])
	}
	user, secret, basic := c.r.BasicAuth()
	switch {
	case basic:
		credential.User, credential.Secret = user, secret
	case c.r.Header.Get("Authorization") != "":
		return device.Principal{}, device.Errorf(device.Unauthenticated, "Authorization must be HTTP Basic with the device's name and secret")
	default:
		credential.Anonymous, credential.Hint = true, c.route.device
	}
	p, err := s.gate.Authenticate(c.r.Context(), credential)
	if err != nil && c.r.Context().Err() != nil {
		return p, errGone
	}
	return p, err
}

// refuseSpeaker leaves a trail of a message posted for a device the principal
// may not speak for, and gives err back.
func (s *Server) refuseSpeaker(c *call, err error) error {
	if c.route.kind == routeTelemetry {
		body, _ := readBody(c.r, s.cfg.MaxMessageBytes) // what came before the fault is the trail
		s.leaveTrail(c, c.principal.ID, body, err, nil)
	}
	return err
}

// leaveTrail tells the gate of a message that was not kept; unread is what was
// made of it when only its payload could not be read. What may be kept when sent
// again leaves none.
func (s *Server) leaveTrail(c *call, id device.ID, raw []byte, err error, unread *device.Message) {
	if device.CodeOf(err).Retryable() || id.Validate() != nil {
		return
	}
	s.gate.Refused(adapters.Refusal{
		Device:      id,
		Protocol:    device.HTTP,
		Address:     c.r.URL.EscapedPath(),
		Raw:         raw,
		ContentType: c.r.Header.Get("Content-Type"),
		Err:         err,
		Message:     unread,
	})
}
