package caddymodule

import "time"

// wallClock is the clock that sessions, consent and keys go by. Tests set
// another before they load a config.
var wallClock = time.Now
