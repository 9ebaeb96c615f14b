// Package tests holds the tests that drive the real thing: a Caddy process
// started from a Caddyfile, real sockets, a stand-in for Tinybird that checks
// every row, a real browser. What can be tested beside its code is tested
// there.
package tests
