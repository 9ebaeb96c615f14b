package caddymodule

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/caddyserver/caddy/v2"
)

// ClientTLS says whom a connection of ours trusts, and as whom it comes. All
// fields may have global placeholders.
type ClientTLS struct {
	// PEM file of the authorities that sign the servers' certificates, read with
	// the config. Default: the system's.
	CA string `json:"ca,omitempty"`
	// PEM files of a client certificate and its key, read at each connection, so
	// that they can be renewed. Default: none.
	Cert string `json:"cert,omitempty"`
	Key  string `json:"key,omitempty"`
	// Name that the servers' certificates are for. Default: the host that is
	// dialed.
	ServerName string `json:"server_name,omitempty"`
}

// resolved is t with its placeholders replaced.
func (t ClientTLS) resolved() *ClientTLS {
	repl := caddy.NewReplacer()
	for _, field := range []*string{&t.CA, &t.Cert, &t.Key, &t.ServerName} {
		*field = repl.ReplaceAll(*field, "")
	}
	return &t
}

// config also gives the authorities, as they were read.
func (t *ClientTLS) config() (c *tls.Config, authorities []byte, err error) {
	t = t.resolved()
	c = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CA != "" {
		if authorities, err = os.ReadFile(t.CA); err != nil {
			return nil, nil, fmt.Errorf("tls_ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(authorities) {
			return nil, nil, fmt.Errorf("tls_ca %s holds no certificate in PEM form", t.CA)
		}
	}
	if (t.Cert == "") != (t.Key == "") {
		return nil, nil, errors.New("tls has a certificate without a key, or a key without one: give both files")
	}
	if t.Cert != "" {
		load := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
			if err != nil {
				return nil, fmt.Errorf("tls_client %s %s: %w", t.Cert, t.Key, err)
			}
			return &pair, nil
		}
		if _, err := load(nil); err != nil {
			return nil, nil, err
		}
		c.GetClientCertificate = load
	}
	return c, authorities, nil
}

// tls is what the options say of TLS; asking for it turns it on.
func (b *block) tls(to **ClientTLS) *ClientTLS {
	if *to == nil {
		*to = &ClientTLS{}
	}
	return *to
}

// clientTLS are the options that say more of TLS.
func (b *block) clientTLS(to **ClientTLS) map[string]option {
	return map[string]option{
		"tls_ca":          func() error { return b.text(&b.tls(to).CA)() },
		"tls_server_name": func() error { return b.text(&b.tls(to).ServerName)() },
		"tls_client": func() error {
			args := b.d.RemainingArgs()
			if len(args) != 2 {
				return b.d.Errf("tls_client wants the files of a certificate and of its key, and has %d values", len(args))
			}
			t := b.tls(to)
			t.Cert, t.Key = args[0], args[1]
			return nil
		},
	}
}
