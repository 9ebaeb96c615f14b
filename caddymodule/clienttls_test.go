package caddymodule

import (
	"bytes"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestClientTLSHasPlaceholders: files and the name may come from the
// environment, and an error names the file that was looked for.
func TestClientTLSHasPlaceholders(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	dir := t.TempDir()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), ca, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TLS_DIR", dir)
	t.Setenv("TLS_NAME", "redis.internal")
	c, authorities, err := (&ClientTLS{CA: "{env.TLS_DIR}/ca.pem", ServerName: "{env.TLS_NAME}"}).config()
	if err != nil {
		t.Fatal(err)
	}
	if c.RootCAs == nil || c.ServerName != "redis.internal" {
		t.Errorf("trusts %v, name %q", c.RootCAs, c.ServerName)
	}
	if !bytes.Equal(authorities, ca) {
		t.Errorf("the authorities are %q", authorities)
	}
	for what, tls := range map[string]ClientTLS{
		filepath.Join(dir, "none.pem"): {CA: "{env.TLS_DIR}/none.pem"},
		filepath.Join(dir, "cert.pem"): {Cert: "{env.TLS_DIR}/cert.pem", Key: "{env.TLS_DIR}/key.pem"},
	} {
		if _, _, err := tls.config(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want it to name %s", err, what)
		}
	}
}
