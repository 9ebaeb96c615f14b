package tinybird

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// defaultWait is for a 429 that does not say.
	defaultWait = 5 * time.Second
	// maxWait caps what a header may ask for, so that a nonsensical one does
	// not stop a datasource for a day.
	maxWait = 10 * time.Minute
	// epochFrom tells a moment from a duration: nobody asks for eleven days.
	epochFrom = 1e6
)

// waitOf reads how long an answer asks to wait: Retry-After (seconds, also
// fractions, or a date), else X-RateLimit-Reset (seconds from now, from some
// servers the epoch). Never negative, capped.
func waitOf(h http.Header, now time.Time) (time.Duration, bool) {
	for _, name := range []string{"Retry-After", "X-RateLimit-Reset"} {
		value := strings.TrimSpace(h.Get(name))
		if value == "" {
			continue
		}
		if d, ok := parseWait(value, now); ok {
			return min(max(d, 0), maxWait), true
		}
	}
	return 0, false
}

func parseWait(value string, now time.Time) (time.Duration, bool) {
	seconds, err := strconv.ParseFloat(value, 64)
	if err != nil {
		at, err := http.ParseTime(value)
		return at.Sub(now), err == nil
	}
	if math.IsNaN(seconds) || math.IsInf(seconds, 0) {
		return 0, false
	}
	if seconds > epochFrom {
		if seconds > 1e11 { // in milliseconds
			seconds /= 1000
		}
		seconds -= float64(now.UnixMilli()) / 1000
	}
	seconds = min(max(seconds, 0), maxWait.Seconds())
	return time.Duration(seconds * float64(time.Second)), true
}
