// Package client holds the browser runtime, built from src by client/build:
// what a landing page runs with `client on`. The built files are committed,
// since who builds Caddy with this module has no esbuild.
package client

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
)

// Script is JavaScript in UTF-8. It is not to be changed.
type Script struct {
	// Name begins its file's name: runtime.
	Name string
	Body []byte
	// Hash names this Body: 16 hex digits of its SHA-256.
	Hash string
}

// File is the name by which it may be kept for ever: runtime.<hash>.js.
func (s *Script) File() string { return s.Name + "." + s.Hash + ".js" }

// Runtime is what each page loads.
var Runtime = script("runtime", runtime)

// RuntimeLinks is the Runtime that also decorates links to other sites, in its
// place.
var RuntimeLinks = script("runtime-links", runtimeLinks)

// RuntimeIdle is what the Runtime loads once the page has done its work, where
// web vitals are reported. The URL of the Runtime's script names its file.
var RuntimeIdle = script("runtime-idle", runtimeIdle)

//go:embed dist/runtime.js
var runtime []byte

// Modules are the scripts of the browser runtime.
var Modules = []*Script{Runtime, RuntimeLinks, RuntimeIdle}

// Track is what other sites include to report conversions: no module, and by one
// name for ever.
var Track = script("frbzztrack", frbzztrack)

//go:embed dist/runtime-links.js
var runtimeLinks []byte

//go:embed dist/runtime-idle.js
var runtimeIdle []byte

//go:embed dist/frbzztrack.js
var frbzztrack []byte

func script(name string, body []byte) *Script {
	sum := sha256.Sum256(body)
	return &Script{Name: name, Body: body, Hash: hex.EncodeToString(sum[:8])}
}
