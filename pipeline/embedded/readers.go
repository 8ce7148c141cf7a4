package embedded

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Readers opens the server to stream consumers on the network, as one user in
// an account of their own. The account has no streams and no JetStream: what
// its users ask is answered by a porter in this process (pipeline/natsdoor),
// which alone reaches the streams. So nothing a reader sends, no reply subject
// and no header, gets anywhere the porter does not carry it.
type Readers struct {
	Addr           string      // host:port; port 0 picks a free one
	Password       string      // of the user "reader"
	Open           bool        // let readers in without a password
	TLS            *tls.Config // nil: plain, which only loopback is fit for
	Stream         string      // the stream they may ask about
	MaxConnections int         // at a time; default 32

	full func() // somebody was turned away because of MaxConnections
}

// Delivery is where, in the account of the streams, a subject under Inbox of
// the readers' account is listened to: what is published to Delivery+x reaches
// the reader that subscribes to Inbox+x. It is the only bridge between the two.
const (
	Inbox    = "_INBOX."
	Delivery = "_READERS."
)

const (
	readersAccount = "READERS"
	// maxSubscriptions is far above what a reader needs, and bounds what one can take.
	maxSubscriptions = 8192
	// maxClients bounds who is connected and has not said who he is.
	maxClients = 4096
)

// withDefaults answers a copy, checked.
func (r *Readers) withDefaults() (*Readers, error) {
	if r == nil {
		return nil, nil
	}
	own := *r
	own.MaxConnections = cmp.Or(own.MaxConnections, 32)
	if own.Stream == "" {
		return nil, errors.New("readers need a stream")
	}
	if !own.Open && own.Password == "" {
		return nil, errors.New("readers need a password")
	}
	if _, _, err := own.hostPort(); err != nil {
		return nil, err
	}
	return &own, nil
}

func (r *Readers) hostPort() (string, int, error) {
	host, text, err := net.SplitHostPort(r.Addr)
	if err != nil {
		return "", 0, fmt.Errorf("address of the readers' door: %w", err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("address of the readers' door: %q is no port", text)
	}
	if port == 0 {
		return host, server.RANDOM_PORT, nil
	}
	return host, int(port), nil
}

// permissions are the second wall: the requests the porter answers, and the
// inboxes that answers and messages arrive in.
func (r *Readers) permissions() *server.Permissions {
	const api = "$JS.API."
	return &server.Permissions{
		Publish: &server.SubjectPermission{Allow: []string{
			api + "INFO", api + "STREAM.NAMES", api + "STREAM.INFO." + r.Stream,
			api + "CONSUMER.CREATE." + r.Stream, api + "CONSUMER.CREATE." + r.Stream + ".>",
			api + "CONSUMER.DURABLE.CREATE." + r.Stream + ".*",
			api + "CONSUMER.INFO." + r.Stream + ".*", api + "CONSUMER.DELETE." + r.Stream + ".*",
			api + "CONSUMER.MSG.NEXT." + r.Stream + ".*", "$JS.ACK." + r.Stream + ".>",
		}},
		Subscribe: &server.SubjectPermission{Allow: []string{Inbox + ">"}},
	}
}

// apply sets what the listener needs; it listens only when Listen is called.
func (r *Readers) apply(o *server.Options) error {
	host, port, err := r.hostPort()
	if err != nil {
		return err
	}
	o.Host, o.Port, o.TLSConfig, o.TLSTimeout = host, port, r.TLS, 5
	o.MaxConn, o.MaxSubs, o.AuthTimeout = maxClients, maxSubscriptions, 5
	o.PingInterval, o.MaxPingsOut = 30*time.Second, 2
	return nil
}

// admit makes the readers' account and the bridge to it.
func (s *Server) admit(ns *server.Server) error {
	account, _ := ns.LookupOrRegisterAccount(readersAccount)
	own := ns.GlobalAccount()
	if err := own.AddStreamExport(Delivery+">", []*server.Account{account}); err != nil {
		return fmt.Errorf("readers: %w", err)
	}
	if err := account.AddMappedStreamImport(own, Delivery+">", Inbox+">"); err != nil {
		return fmt.Errorf("readers: %w", err)
	}
	s.keeper.mu.Lock()
	s.keeper.account = account
	s.keeper.mu.Unlock()
	return nil
}

// Listen opens the readers' door and answers its address. After a restart of
// the server it is open again at the same address.
func (s *Server) Listen() (net.Addr, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keeper.readers == nil {
		return nil, errors.New("embedded nats: started without a door for readers")
	}
	ns := s.ns.Load()
	if ns == nil {
		return nil, errBetween
	}
	if err := listen(ns, s.keeper.readers.Addr); err != nil {
		return nil, err
	}
	s.listening = true
	addr := ns.Addr()
	s.keeper.readers.Addr = addr.String()
	return addr, nil
}

// listen binds by itself first, because the server only logs why it cannot.
func listen(ns *server.Server, addr string) error {
	probe, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("embedded nats: %w", err)
	}
	probe.Close()
	bound := make(chan struct{})
	go ns.AcceptLoop(bound)
	<-bound
	if ns.Addr() == nil {
		return fmt.Errorf("embedded nats: cannot listen on %s; the log says why", addr)
	}
	return nil
}
