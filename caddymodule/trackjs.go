package caddymodule

import (
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/firebuzz/caddy-sessionctx/client"
)

// defaultTrackJS is where other sites expect the script.
const defaultTrackJS = "/track.js"

// checkTrackJS wants a path that can stand in a URL as it is, or off.
func checkTrackJS(s string) error {
	if s != "off" && (!strings.HasPrefix(s, "/") || path.Clean(s) != s || s == "/" || strings.ContainsAny(s, "*?#{}<>&\"' \\%")) {
		return fmt.Errorf("track_js %q is neither off nor the path of a file: it begins with / and has nothing to be resolved or escaped, like %s, which it is where the line is left out", s, defaultTrackJS)
	}
	if strings.HasPrefix(s, defaultAPIPath+"/") {
		return fmt.Errorf("track_js %q is below %s, where the API answers: put it elsewhere", s, defaultAPIPath)
	}
	return nil
}

// trackPath is the path that track_js names, "" for none.
func trackPath(trackJS string) (string, error) {
	switch trackJS {
	case "":
		return defaultTrackJS, nil
	case "off":
		return "", nil
	}
	return trackJS, checkTrackJS(trackJS)
}

// asksForTrack reports whether the client asked for the script there: what a
// rewrite made of it doesn't count.
func asksForTrack(r *http.Request, original *url.URL, at string) bool {
	return at != "" && original.Path == at && (r.Method == http.MethodGet || r.Method == http.MethodHead)
}

// serveTrack answers with the script that other sites include. It has one name
// for ever, so it is asked for again each hour.
func serveTrack(w http.ResponseWriter, r *http.Request) {
	serveScript(w, r, client.Track, "public, max-age=3600")
}
