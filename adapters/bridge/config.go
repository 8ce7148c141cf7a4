package bridge

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tributary-iot/tributary/device"
)

// Config is everything that can be set about the bridges. A zero field takes its
// default.
type Config struct {
	Links           []Link
	ContainerID     string        // our name at the brokers; default "tributary"
	MaxMessageBytes int           // largest payload taken; default 1 MiB
	MaxDevices      int           // devices a link receives commands for, those heard of last; default 10,000
	DialTimeout     time.Duration // for connecting, and for each link; default 15 s
	SendTimeout     time.Duration // how long a broker may take to answer a command; default 30 s
	RetryMin        time.Duration // until a broken connection is made again, doubled each time; default 500 ms
	RetryMax        time.Duration // at most; default 30 s

	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil keeps the metrics to ourselves
}

// Link is one connection to one broker.
type Link struct {
	Name         string         // of the gateway that speaks for the devices; a valid device name
	Tenant       string         // whose devices they are; default device.DefaultTenant
	URL          string         // amqp://[user@]host[:port] or amqps://…; no password
	Hostname     string         // told to the broker in OPEN; default the URL's. RabbitMQ: "vhost:NAME"
	PasswordFile string         // of the URL's user: SASL PLAIN
	CAFile       string         // authorities to trust, in PEM; default the system's
	CertFile     string         // our certificate, in PEM; without a user: SASL EXTERNAL
	KeyFile      string         // its key
	Receive      []string       // addresses to receive from
	Durable      bool           // the broker keeps what comes while we are away: for subscriptions of a topic
	Credit       int            // unanswered messages of each address; default 200
	Match        string         // template of what Pattern is held against; default "{subject}"
	Pattern      string         // regular expression whose named groups the templates may use; "" for none
	Device       string         // template of the device's name
	Channel      string         // template of the channel
	For          device.Pattern // devices the link may speak for; default "*"
	Commands     string         // template of the address of commands; "" for none
	CommandsTo   string         // template of the property to of commands; "" for none
	Replies      string         // address that answers to commands are read from; "" for none
}

// Limits that are not worth a setting.
const (
	maxCredit        = 5000                                    // go-amqp's session window
	maxTransferBytes = 16 << 20                                // a message with all its sections; announced, and enforced where the broker agrees
	maxMatchBytes    = 4 << 10                                 // of text from a message that a pattern is held against
	refusedRawBytes  = 64 << 10                                // bytes of a refused message kept for its trail
	couriers         = 4                                       // commands of a link under way at the same time
	maxSenders       = 64                                      // addresses a courier keeps a sender for
	attaching        = 16                                      // devices attached at the same time
	busyMin, busyMax = 100 * time.Millisecond, 5 * time.Second // pauses after a message for which there was no room
	settledIn        = 10 * time.Second                        // a connection that lasted so long was a good one
)

func (c Config) withDefaults() Config {
	setDefault(&c.ContainerID, "tributary")
	setDefault(&c.MaxMessageBytes, 1<<20)
	setDefault(&c.MaxDevices, 10_000)
	setDefault(&c.DialTimeout, 15*time.Second)
	setDefault(&c.SendTimeout, 30*time.Second)
	setDefault(&c.RetryMin, 500*time.Millisecond)
	setDefault(&c.RetryMax, 30*time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	links := make([]Link, len(c.Links))
	for i, l := range c.Links {
		links[i] = l.withDefaults()
	}
	c.Links = links
	return c
}

func (l Link) withDefaults() Link {
	setDefault(&l.Tenant, device.DefaultTenant)
	setDefault(&l.Credit, 200)
	setDefault(&l.Match, "{subject}")
	setDefault(&l.For, "*")
	if l.Pattern != "" && l.Device == "" {
		l.Device = "{device}"
	}
	return l
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Mistake is what is wrong with a link, by the name its option has in the file.
type Mistake struct {
	Link   int    // its index
	Option string // "url", "password_file", …
	Reason string // what is wrong and what to say instead; holds no secret
}

// Error implements error.
func (m *Mistake) Error() string {
	return fmt.Sprintf("bridges[%d].%s: %s", m.Link, m.Option, m.Reason)
}

// Validate says what is wrong with the links, as Mistakes joined. It opens nothing:
// whether the files can be read is Open's to find out.
func Validate(links []Link) error {
	var errs []error
	names := map[string]bool{}
	for i, l := range links {
		l = l.withDefaults()
		wrong := func(option, format string, args ...any) {
			errs = append(errs, &Mistake{i, option, fmt.Sprintf(format, args...)})
		}
		l.validateWho(wrong)
		if names[l.Name] {
			wrong("name", "%q is the name of another bridge, too: each needs its own", l.Name)
		}
		names[l.Name] = true
		l.validateURL(wrong)
		l.validateAddresses(wrong)
		if _, err := newRule(&l); err != nil {
			wrong(err.option, "%s", err.reason)
		}
	}
	return errors.Join(errs...)
}

type complain func(option, format string, args ...any)

func (l *Link) validateWho(wrong complain) {
	if err := (device.ID{Tenant: device.DefaultTenant, Device: l.Name}).Validate(); err != nil {
		wrong("name", "%s: it is the name of the gateway that speaks for the devices", device.PublicMessage(err))
	}
	if err := (device.ID{Tenant: l.Tenant, Device: "x"}).Validate(); err != nil {
		wrong("tenant", "%s", device.PublicMessage(err))
	}
	if err := l.For.Validate(); err != nil {
		wrong("for", "%s", device.PublicMessage(err))
	}
}

func (l *Link) validateURL(wrong complain) {
	u, err := url.Parse(l.URL)
	if err != nil || u.Hostname() == "" || u.Scheme != "amqp" && u.Scheme != "amqps" || u.Path != "" && u.Path != "/" || u.RawQuery != "" {
		wrong("url", "say amqp://USER@HOST:PORT, or amqps:// for TLS; leave USER@ out to come without a user name")
		return
	}
	_, password := u.User.Password()
	switch user := u.User.Username(); {
	case password:
		wrong("url", "holds a password: write it to a file and name that as password_file")
	case user != "" && l.PasswordFile == "":
		wrong("password_file", "is missing: the url has a user name")
	case user == "" && l.PasswordFile != "":
		wrong("url", "has no user name for the password of password_file")
	}
	switch {
	case (l.CertFile == "") != (l.KeyFile == ""):
		wrong("cert_file", "and key_file belong together: name both, or none")
	case u.Scheme == "amqp" && (l.CAFile != "" || l.CertFile != ""):
		wrong("url", "amqp:// is without TLS and ca_file and cert_file are for TLS: say amqps://")
	}
}

func (l *Link) validateAddresses(wrong complain) {
	switch {
	case len(l.Receive) == 0 && l.Commands == "":
		wrong("receive", "is missing: name addresses to receive from, or say commands")
	case l.Replies != "" && l.Commands == "":
		wrong("replies", "are answers to commands: say commands, too")
	case l.CommandsTo != "" && l.Commands == "":
		wrong("commands_to", "needs commands")
	case l.Credit < 1 || l.Credit > maxCredit:
		wrong("credit", "is %d, choose between 1 and %d", l.Credit, maxCredit)
	}
	for _, address := range l.Receive {
		if strings.TrimSpace(address) == "" {
			wrong("receive", "has an empty address")
		}
	}
}
