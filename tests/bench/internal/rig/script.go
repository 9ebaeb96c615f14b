package rig

import "strings"

// FixedScript is a script element of 1.6 KB, about what an organic visit's page
// gets. It has nothing in it that a configuration of Caddy or nginx would
// expand or that would need quoting, single quotes around it aside.
var FixedScript = `<script data-session-context="">window.__FIXED__={"filler":"` + strings.Repeat("0123456789abcdef", 96) + `"};</script>`
