package caddymodule

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/firebuzz/caddy-sessionctx/sessionctx"
)

func checkID(option, value string) error {
	if err := sessionctx.CheckID(value); err != nil {
		return fmt.Errorf("%s: %w", option, err)
	}
	return nil
}

// checkAPIPath wants a path that can stand in a URL and an attribute as it is.
func checkAPIPath(s string) error {
	if !strings.HasPrefix(s, "/") || strings.HasSuffix(s, "/") || strings.ContainsAny(s, "*?#{}<>&\"' \\") {
		return fmt.Errorf("api_path %q is not a path like %s: it begins with / and has no slash at its end", s, defaultAPIPath)
	}
	return nil
}

// checkOrigin wants scheme://host[:port] exactly, as browsers send Origin.
func checkOrigin(option, s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || strings.Contains(u.Host, "*") || u.User != nil || s != u.Scheme+"://"+u.Host || s != strings.ToLower(s) {
		return fmt.Errorf("%s %q is not an exact origin: scheme and host in lower case, no wildcard and nothing behind them, like https://www.example.com", option, s)
	}
	if port := u.Port(); u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80" || strings.HasSuffix(u.Host, ":") {
		return fmt.Errorf("%s %q names the port that %s has anyway, which browsers leave out: so must this", option, s, u.Scheme)
	}
	return nil
}

// checkRotate wants an age that leaves nodes time to learn of a new key.
func checkRotate(d time.Duration) error {
	if d < time.Hour {
		return fmt.Errorf("keys rotate %s is less than 1h: nodes need time to learn of a new key", shortDuration(d))
	}
	return nil
}

// checkReread wants every node to have read a new key long before its use.
func checkReread(d time.Duration) error {
	if d < time.Second || d > 5*time.Minute {
		return fmt.Errorf("keys reread %s is not from 1s to 5m: nodes have 10m to learn of a new key", shortDuration(d))
	}
	return nil
}

// values are the keys' times with their defaults; k may be nil.
func (k *Keys) values() (rotate, reread time.Duration, err error) {
	rotate, reread = defaultRotate, defaultReread
	if k != nil && k.Rotate != 0 {
		rotate = time.Duration(k.Rotate)
	}
	if k != nil && k.Reread != 0 {
		reread = time.Duration(k.Reread)
	}
	if err := checkRotate(rotate); err != nil {
		return 0, 0, err
	}
	return rotate, reread, checkReread(reread)
}

// choice returns the value or, if it is empty, the first of the known ones.
func choice(option, value string, known ...string) (string, error) {
	if value == "" {
		return known[0], nil
	}
	if !slices.Contains(known, value) {
		return "", fmt.Errorf("%s %q is unknown: known are %s", option, value, strings.Join(known, ", "))
	}
	return value, nil
}

func duration(option string, value caddy.Duration, otherwise, lowest, highest time.Duration) (time.Duration, error) {
	d := time.Duration(value)
	if d == 0 {
		d = otherwise
	}
	if d < lowest || d > highest {
		return 0, fmt.Errorf("%s %s is not between %s and %s", option, shortDuration(d), shortDuration(lowest), shortDuration(highest))
	}
	return d, nil
}

// shortDuration writes a duration as an operator would: 25h, 400d.
func shortDuration(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= 2*day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
