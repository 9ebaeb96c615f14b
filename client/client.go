// Package client holds the browser runtime, built from src by client/build:
// what a landing page runs with `client on`. The built file is committed, since
// who builds Caddy with this module has no esbuild.
package client

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
)

// Runtime is the runtime, a JavaScript module in UTF-8. It is not to be changed.
//
//go:embed dist/runtime.js
var Runtime []byte

// Hash names this Runtime: 16 hex digits of its SHA-256.
var Hash = hash()

func hash() string {
	sum := sha256.Sum256(Runtime)
	return hex.EncodeToString(sum[:8])
}
