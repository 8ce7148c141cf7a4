package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tributary-iot/tributary/internal/options"
	"github.com/tributary-iot/tributary/internal/tlsfiles"
)

// tlsDir is where a development certificate is kept, below the data directory.
const tlsDir = "tls"

// encryption is where this server's certificate comes from.
type encryption struct {
	TLSCertFile string        `name:"tls-cert-file" key:"tls.cert_file" type:"path" placeholder:"FILE" example:"/etc/tributary/server.crt" help:"Certificate of this server, with its chain, in PEM form. Default: a development certificate, made in DIR/tls; clients trust DIR/tls/ca.crt."`
	TLSKeyFile  string        `name:"tls-key-file" key:"tls.key_file" type:"path" placeholder:"FILE" example:"/etc/tributary/server.key" help:"Key of that certificate, in PEM form."`
	TLSReload   time.Duration `name:"tls-reload" key:"tls.reload" min:"10ms" max:"1h" default:"1s" placeholder:"TIME" help:"How often the two files are looked at. Changed ones are used for new connections; those there are go on."`
}

func (e *encryption) validate() error {
	switch {
	case e.TLSCertFile != "" && e.TLSKeyFile == "":
		return options.Wrongf("tls-key-file", "is needed with --tls-cert-file: name the file with its key")
	case e.TLSCertFile == "" && e.TLSKeyFile != "":
		return options.Wrongf("tls-cert-file", "is needed with --tls-key-file: name the file with its certificate")
	}
	return nil
}

// keepInside binds the doors with TLS that nobody said anything of to loopback:
// --open lets anybody in.
func (l *listeners) keepInside(said func(flag string) bool) {
	for flag, addr := range map[string]*string{"mqtts": &l.MQTTS, "amqps": &l.AMQPS, "https": &l.HTTPS} {
		if !said(flag) {
			*addr = "127.0.0.1" + strings.TrimPrefix(*addr, "127.0.0.1")
		}
	}
}

// encrypts reports whether an operator's listener at addr speaks TLS: wherever
// somebody else than this machine can reach it. Names are looked up, so that the
// address in addresses.json says the same.
func encrypts(addr string) bool {
	if addr == off {
		return false
	}
	at, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return !loopback(addr)
	}
	return !at.IP.IsLoopback()
}

// needsCertificate reports whether any listener of this node speaks TLS.
func (c *serveConfig) needsCertificate() bool {
	for _, d := range doors {
		if _, secure := d.addr(c); secure != off && c.has(d.role) {
			return true
		}
	}
	return slices.ContainsFunc([]string{c.GRPC, c.Admin, c.NATSListen}, encrypts)
}

// openTLS reads the certificate, or makes one for development.
func (h *house) openTLS() error {
	if !h.cfg.needsCertificate() {
		return nil
	}
	source, err := tlsfiles.Open(tlsfiles.Config{
		Cert: h.cfg.TLSCertFile, Key: h.cfg.TLSKeyFile, Dir: filepath.Join(h.cfg.Data, tlsDir), Hosts: h.cfg.hosts(),
		Every: h.cfg.TLSReload, Logger: h.log.With("room", "tls"), Registerer: h.metrics,
	})
	if err != nil {
		return err
	}
	h.certificate = source
	h.add(part{name: "tls", run: source.Run})
	return nil
}

// operatorTLS is the TLS of a listener for operators; nil where it is plain.
func (h *house) operatorTLS(addr string) *tls.Config {
	if !encrypts(addr) {
		return nil
	}
	return h.certificate.Server()
}

// maxHosts bounds what is in a development certificate.
const maxHosts = 32

// hosts are the names and addresses this machine may be called by.
func (c *serveConfig) hosts() []string {
	all := []string{"localhost", "127.0.0.1", "::1"}
	if name, err := os.Hostname(); err == nil {
		all = append(all, name)
	}
	for _, addr := range []string{c.MQTTS, c.AMQPS, c.HTTPS, c.GRPC, c.Admin, c.NATSListen} {
		if host, _, err := net.SplitHostPort(addr); err == nil && host != "" && !net.ParseIP(host).IsUnspecified() {
			all = append(all, host)
		}
	}
	if addresses, err := net.InterfaceAddrs(); err == nil {
		for _, a := range addresses {
			if ip, ok := a.(*net.IPNet); ok && ip.IP.IsGlobalUnicast() {
				all = append(all, ip.IP.String())
			}
		}
	}
	slices.Sort(all[1:])
	all = slices.Compact(all)
	return all[:min(len(all), maxHosts)]
}

// maxConnections is how many connections each door has room for, when as many
// descriptors as given may be open; 0 is not known.
func (l *limits) maxConnections(descriptors uint64) (int, error) {
	const most, reserve = 50_000, 256
	switch {
	case l.MaxConnections > 0 && descriptors > 0 && uint64(l.MaxConnections)+reserve > descriptors:
		return 0, fmt.Errorf("--max-connections %d: this process may have %d files and connections open; raise that (ulimit -n, LimitNOFILE=) to %d or more, or say fewer",
			l.MaxConnections, descriptors, l.MaxConnections+reserve)
	case l.MaxConnections > 0:
		return l.MaxConnections, nil
	case descriptors > 0:
		return int(max(16, min(most, descriptors/4))), nil
	}
	return 10_000, nil
}

// maxOperators is how many connections gRPC and the admin listener have room
// for each, when as many descriptors as given may be open; 0 is not known.
func maxOperators(descriptors uint64) int {
	const most = 1000
	if descriptors == 0 {
		return most
	}
	return int(max(16, min(most, descriptors/16)))
}
