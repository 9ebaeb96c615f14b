package tests

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// startExample runs Caddyfile.example as it stands, on a free port; changes are
// made to it besides.
func startExample(t testing.TB, changes ...[2]string) *caddy {
	t.Helper()
	demo, err := filepath.Abs("../demo")
	if err != nil {
		t.Fatal(err)
	}
	config := mustRead(t, "../Caddyfile.example")
	for _, r := range append([][2]string{
		{"http://localhost:8080", "SITE"}, {"admin localhost:2020", "admin ADMIN"}, {"root demo", "root " + demo},
	}, changes...) {
		if !strings.Contains(config, r[0]) {
			t.Fatalf("Caddyfile.example has no %q", r[0])
		}
		config = strings.ReplaceAll(config, r[0], r[1])
	}
	c := newCaddy(t)
	c.write(config)
	c.start()
	return c
}

// TestExampleVariants: the page that is shown is the one that was decided.
func TestExampleVariants(t *testing.T) {
	t.Parallel()
	c := startExample(t)
	shown := map[string]int{}
	for n := range 40 {
		// Before consent visitors are told apart by address and user agent.
		_, body := newVisitor(t, c.site, fmt.Sprint(desktop, " Example/", n), true).page("/")
		ctx := parseContext(t, body)
		variant := *ctx.ABTestVariantID
		shown[variant]++
		if !strings.Contains(body, `data-variant="`+variant+`"`) {
			t.Fatalf("variant %s was decided, another page is shown", variant)
		}
		if want := map[string]string{"control": "lp_control", "bold": "lp_bold"}[variant]; ctx.LandingPageID != want {
			t.Errorf("variant %s has landing page %s", variant, ctx.LandingPageID)
		}
	}
	if len(shown) != 2 {
		t.Errorf("40 visitors saw %v", shown)
	}
}
